//! `kiln imagetools`, against registries of Debian's docker-registry.

use kiln_tests::registry::Registry;
use kiln_tests::{World, command};
use serde_json::Value;
use std::process::Command;

fn skopeo(args: &[&str]) -> String {
    command::run(Command::new("skopeo").arg("--insecure-policy").args(args))
}

fn raw(name: &str) -> String {
    skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")])
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A world with two registries more.
fn world() -> (World, Registry, Registry) {
    let (world, one, two) = (World::new(), Registry::start(), Registry::start());
    let text: String =
        [&one, &two].map(|registry| format!("[registry.\"{}\"]\nhttp = true\n", registry.address)).concat();
    world.configure(&text);
    (world, one, two)
}

/// Pushes an image for one platform.
fn put(world: &World, name: &str, architecture: &str) {
    let dockerfile = format!("FROM scratch\nCOPY text /{architecture}\n");
    let project = world.project(&[("Dockerfile", &dockerfile), ("text", architecture)]);
    let platform = format!("linux/{architecture}");
    world.build(&project).args(["--platform", &platform, "--push", "-t", name]).succeeds();
}

#[test]
fn one_name_for_images_of_several_registries() {
    let (world, one, two) = world();
    let [here, there] = [&one, &two].map(|registry| registry.address.clone());
    let (amd64, arm64) = (format!("{here}/team/app:amd64"), format!("{there}/app:arm64"));
    put(&world, &amd64, "amd64");
    put(&world, &arm64, "arm64");
    let name = format!("{here}/all/app:1");
    let dry = world.kiln(["imagetools", "create", "--dry-run", &amd64, &arm64]).succeeds().stdout_text();
    world.kiln(["imagetools", "create", "-t", &name, "-t", &format!("{there}/app:1"), &amd64, &arm64]).succeeds();
    let index = raw(&name);
    assert_eq!((&index, raw(&format!("{there}/app:1"))), (&dry.trim_end().to_owned(), index.clone()));
    let listed: Vec<Value> = json(&index)["manifests"].as_array().unwrap().clone();
    assert_eq!(listed.iter().map(|m| &m["platform"]["architecture"]).collect::<Vec<_>>(), ["amd64", "arm64"]);
    // Every blob is there.
    let copy = format!("oci:{}:app", world.path().join("copy").display());
    skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &format!("docker://{name}"), &copy]);

    let shown = world.kiln(["imagetools", "inspect", &name]).succeeds().stdout_text();
    for text in [
        "MediaType: application/vnd.oci.image.index.v1+json",
        "  Platform:  linux/arm64",
        &format!("Name:      {name}@sha256:"),
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    assert_eq!(world.kiln(["imagetools", "inspect", "--raw", &name]).succeeds().stdout_text(), index);
    let format =
        |template: &str| world.kiln(["imagetools", "inspect", "--format", template, &name]).succeeds().stdout_text();
    assert!(format("{{.Manifest.Digest}}").starts_with("sha256:"));
    assert_eq!(json(&format("{{json .Manifest}}"))["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(json(&format("{{json .Image}}"))["linux/arm64"]["architecture"], "arm64");
}

#[test]
fn templates_see_what_those_of_buildx_do() {
    let (world, one, _two) = world();
    let name = format!("{}/app:1", one.address);
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY text /\n"), ("text", "x")]);
    let platforms = "--platform=linux/amd64,linux/arm64";
    world.build(&project).args([platforms, "--provenance=true", "--push", "-t", &name]).succeeds();
    let format =
        |template: &str| world.kiln(["imagetools", "inspect", "--format", template, &name]).succeeds().stdout_text();
    // JSON stands in indented lines, and `.Manifest` alone is for people.
    let manifest = format("{{json .Manifest}}");
    assert!(manifest.starts_with("{\n  \"schemaVersion\": 2,\n  \"mediaType\": \""), "{manifest}");
    assert_eq!(format("{{ .Manifest }}"), world.kiln(["imagetools", "inspect", &name]).succeeds().stdout_text());
    assert_eq!(format("{{json .SBOM}} {{.Image.OS}}"), "{} <no value>\n");
    assert!(format(r#"{{json (index .Provenance "linux/arm64").SLSA}}"#).contains("\"builder\": {"));
    let all = json(&format("{{json .}}"));
    assert_eq!((all["name"].as_str(), &all["manifest"]), (Some(name.as_str()), &json(&manifest)));
}

/// What is attested of an image goes with it, and with no other.
#[test]
fn some_platforms_of_an_image_get_a_name() {
    let (world, one, _two) = world();
    let [name, less] = ["app:1", "app:less"].map(|name| format!("{}/{name}", one.address));
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY text /\n"), ("text", "x")]);
    let platforms = "--platform=linux/amd64,linux/arm64,linux/s390x";
    world.build(&project).args([platforms, "--provenance=true", "--push", "-t", &name]).succeeds();
    let file = world.path().join("metadata.json");
    let create = |platform: &str| {
        let words = ["imagetools", "create", "--progress=plain", "-t", &less, "-p", platform, &name];
        world.kiln(words).arg("--metadata-file").arg(&file)
    };
    create("linux/arm64,linux/s390x").succeeds();
    let index = json(&raw(&less));
    let listed = index["manifests"].as_array().unwrap();
    let architectures: Vec<_> =
        listed.iter().map(|listed| listed["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["arm64", "s390x", "unknown", "unknown"]);
    let about = |place: usize| &listed[place]["annotations"]["vnd.docker.reference.digest"];
    assert_eq!((about(2), about(3)), (&listed[0]["digest"], &listed[1]["digest"]));
    let metadata = json(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(metadata["containerimage.digest"], one.digest("app:less"));
    assert_eq!(metadata["containerimage.descriptor"]["digest"], metadata["containerimage.digest"]);
    assert_eq!(metadata["image.name"], less);
    // Where nothing is left out, it stays as it is.
    create("linux/amd64,linux/arm64,linux/s390x").succeeds();
    assert_eq!(one.digest("app:less"), one.digest("app:1"));
    create("linux/riscv64").fails().says("has no image for platform `linux/riscv64`; it has `linux/amd64`");
}

#[test]
fn a_name_gets_another_platform() {
    let (world, one, _two) = world();
    let names = ["1", "amd64", "s390x"].map(|tag| format!("{}/app:{tag}", one.address));
    let [name, amd64, s390x] = &names;
    put(&world, amd64, "amd64");
    put(&world, s390x, "s390x");
    // An image of its own stays as it is if it is told to.
    world.kiln(["imagetools", "create", "--prefer-index=false", "-t", name, amd64]).succeeds();
    assert_eq!(raw(name), raw(amd64));
    let digest = one.digest("app:s390x");
    world.kiln(["imagetools", "create", "-t", name, "--append", "--annotation", "index:by=kiln", &digest]).succeeds();
    let index = json(&raw(name));
    assert_eq!((index["manifests"].as_array().unwrap().len(), &index["annotations"]["by"]), (2, &Value::from("kiln")));
    assert_eq!(index["manifests"][1]["digest"], digest);
    world.kiln(["imagetools", "create", amd64]).fails_with(2).says("--tag");
    world.kiln(["imagetools", "create", "-t", name, &format!("{}/app:none", one.address)]).fails().says_one_error();
    assert_eq!(json(&raw(name)), index);
}
