//! One build for several platforms.

use kiln_tests::buildah::Buildah;
use kiln_tests::registry::Registry;
use kiln_tests::{World, command, emulation, layout, users};
use serde_json::Value;
use std::process::Command;

/// Needs no emulation: what runs, runs on the platform of the machine.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM busybox AS tools
RUN echo compiler > /tools
FROM tools AS build
ARG TARGETARCH
RUN echo for $TARGETARCH > /app
FROM scratch
COPY --from=build /app /app
ENTRYPOINT [\"/app\"]
";

/// The platform of this machine, and another.
fn both() -> [&'static str; 2] {
    match layout::architecture() {
        "arm64" => ["arm64", "amd64"],
        host => [host, "arm64"],
    }
}

fn platforms() -> String {
    both().map(|architecture| format!("linux/{architecture}")).join(",")
}

fn skopeo(args: &[&str]) -> String {
    command::run(Command::new("skopeo").arg("--insecure-policy").args(args))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_cross_compiling_dockerfile() {
    let (world, registry) = (World::new(), Registry::start());
    world.configure(&format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n\n[registry.\"{0}\"]\nhttp = true\n\n[registry.\"{1}\"]\nhttp = true\n",
        world.registry().address,
        registry.address
    ));
    let project = world.project(&[("Dockerfile", CROSS)]);
    let name = format!("{}/team/app:1", registry.address);
    let (platforms, [host, other]) = (platforms(), both());
    let metadata = world.path().join("metadata.json");
    let outcome = world
        .build(&project)
        .args(["--platform", &platforms, "--push", "-t", &name, "--progress=plain", "--metadata-file"])
        .arg(&metadata)
        .succeeds();
    let progress = outcome.progress();
    assert!(progress.ran(&format!("[linux/{host}->{other} build 1/1] RUN echo for {other} > /app")), "{outcome}");
    assert_eq!(progress.ran_instructions().len(), 5, "what is equal is done once: {outcome}");

    let at_registry = format!("docker://{name}");
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &at_registry]);
    let index = json(&raw);
    let told: Vec<String> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["platform"]["architecture"].to_string()).collect();
    assert_eq!(told, both().map(|architecture| format!("{architecture:?}")));
    let digest = format!("sha256:{}", layout::sha256(raw.as_bytes()).trim_start_matches("sha256:"));
    assert_eq!(json(&std::fs::read_to_string(&metadata).unwrap())["containerimage.digest"], digest);

    let copy = world.path().join("copy");
    let to = format!("oci:{}:app", copy.display());
    skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &at_registry, &to]);
    for architecture in both() {
        let bundle = world.path().join(architecture);
        let one = world.path().join(format!("one-{architecture}"));
        let one = format!("oci:{}:app", one.display());
        skopeo(&["copy", "--quiet", "--override-arch", architecture, &to, &one]);
        let image = one.trim_start_matches("oci:");
        command::run(Command::new("umoci").args(["unpack", "--image", image]).arg(&bundle));
        assert_eq!(std::fs::read_to_string(bundle.join("rootfs/app")).unwrap(), format!("for {architecture}\n"));
    }

    let buildah = Buildah::new();
    command::run(&mut buildah.command(&["pull", "--quiet", "--tls-verify=false", "--arch", other, &at_registry]));
    let inspected = json(&command::run(&mut buildah.command(&["inspect", "--type", "image", &name])));
    assert_eq!(inspected["OCIv1"]["architecture"], other);
}

#[test]
fn files_of_each_platform() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", CROSS)]);
    let (platforms, out) = (platforms(), world.path().join("out"));
    let build = |output: &str| world.build(&project).args(["--platform", &platforms, "-o", output]);
    build(&out.display().to_string()).succeeds();
    let archive = world.path().join("out.tar");
    build(&format!("type=tar,dest={}", archive.display())).succeeds();
    let listed = command::run(Command::new("tar").arg("tf").arg(&archive));
    for architecture in both() {
        let file = out.join(format!("linux_{architecture}/app"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), format!("for {architecture}\n"));
        assert!(listed.lines().any(|line| line == format!("linux_{architecture}/app")), "{listed}");
    }
    let merged = world.path().join("merged");
    build(&format!("type=local,platform-split=false,dest={}", merged.display())).fails().says_one_error().says("`app`");
    let merged = world.path().join("merged.tar");
    build(&format!("type=tar,platform-split=false,dest={}", merged.display())).fails().says_one_error().says("`app`");
    build("type=docker,dest=x.tar").fails_with(2).says("one platform");
}

#[test]
fn an_image_for_several_platforms_is_a_base_for_each() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", CROSS)]);
    let (platforms, id) = (platforms(), world.path().join("id"));
    world.build(&project).args(["--platform", &platforms, "-t", "base", "--iidfile"]).arg(&id).succeeds();
    let next = world.project(&[("Dockerfile", "FROM base\nCOPY Dockerfile /Dockerfile\n")]);
    for architecture in both() {
        let image = world.image(&next, &["--platform", &format!("linux/{architecture}")]);
        assert_eq!(image.config["architecture"], *architecture);
        assert_eq!(image.tree().text("app"), format!("for {architecture}\n"));
    }
    let file = world.path().join("all.tar");
    world
        .build(&next)
        .args(["--platform", &platforms, "-o"])
        .arg(format!("type=oci,dest={}", file.display()))
        .succeeds();
    let raw = skopeo(&["inspect", "--raw", &format!("oci-archive:{}", file.display())]);
    assert_eq!(json(&raw)["manifests"].as_array().unwrap().len(), 2);
    let id = std::fs::read_to_string(id).unwrap();
    world.kiln(["inspect", &id]).succeeds();
}

#[test]
fn all_platforms_are_pulled_and_pushed_on() {
    let (world, registry) = (World::new(), Registry::start());
    world.configure(&format!("[registry.\"{}\"]\nhttp = true\n", registry.address));
    let project = world.project(&[("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /app\n")]);
    for architecture in both() {
        project.write(architecture, architecture);
    }
    let [name, copy] = ["one/app:1", "two/app:1"].map(|name| format!("{}/{name}", registry.address));
    world.build(&project).args(["--platform", &platforms(), "--push", "-t", &name]).succeeds();
    let mut other = World::new();
    other.configure(&format!("[registry.\"{}\"]\nhttp = true\n", registry.address));
    other.set_root(other.path().join("another"));
    other.kiln(["pull", "--all-platforms", &name]).succeeds().says_on_stdout("Downloaded newer");
    other.kiln(["pull", "--all-platforms", &name]).succeeds().says_on_stdout("up to date");
    other.kiln(["tag", &name, &copy]).succeeds();
    other.kiln(["rmi", &name]).succeeds();
    other.kiln(["prune", "-af"]).succeeds();
    other.kiln(["fsck"]).succeeds();
    other.kiln(["push", &copy]).succeeds();
    assert_eq!(registry.digest("two/app:1"), registry.digest("one/app:1"));
    for architecture in both() {
        let platform = format!("linux/{architecture}");
        let next = other.project(&[("Dockerfile", &format!("FROM {copy}\n"))]);
        assert_eq!(other.image(&next, &["--platform", &platform]).tree().text("app"), architecture);
    }
}

#[test]
fn what_is_wrong_for_all_platforms_is_said_once() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch as x\nCOPY Dockerfile /\n")]);
    let (platforms, warning) = (platforms(), "FromAsCasing");
    let outcome = world.build(&project).args(["--platform", &platforms]).succeeds();
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    let outcome = world.build(&project).args(["--platform", &platforms, "--call=check,format=json"]).run();
    assert_eq!(json(&outcome.stdout_text())["warnings"].as_array().unwrap().len(), 1, "{outcome}");
}

/// There is no processor of this name, so there is nothing that could run its programs.
#[test]
fn nothing_runs_where_something_cannot() {
    let world = World::new();
    let dockerfile = "FROM --platform=$BUILDPLATFORM busybox AS first\nRUN echo first > /first\n\
                      FROM busybox\nCOPY --from=first /first /first\nRUN echo second\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let outcome = world.build(&project).args(["--platform", "linux/amiga", "--progress=plain"]).fails();
    outcome.says_one_error().says("`linux/amiga`").says("qemu-user-static").says("RUN echo second");
    outcome.never_mentions("RUN echo first");
}

#[test]
fn commands_of_another_platform_run_by_an_interpreter() {
    run_for_arm64(&World::new());
}

#[test]
fn commands_of_another_platform_run_for_ordinary_users() {
    run_for_arm64(&World::of(users::with_ranges()));
}

fn run_for_arm64(world: &World) {
    if !emulation::has_arm64() {
        return;
    }
    let dockerfile = "FROM base\nCOPY text other /\nRUN [\"/copy\"]\n";
    let base = world.project(&[("Dockerfile", "FROM scratch\nCOPY --chmod=755 copy /copy\n")]);
    std::fs::write(base.join("copy"), emulation::arm64_copy("/text", "/made")).unwrap();
    world.build(&base).args(["--platform", "linux/arm64", "-t", "base"]).succeeds();
    let project = world.project(&[("Dockerfile", dockerfile), ("text", "one\n"), ("other", "a")]);
    let image = || world.image(&project, &["--platform", "linux/arm64"]);
    let made = image();
    assert_eq!((made.tree().text("made"), &made.config["architecture"]), ("one\n".to_owned(), &Value::from("arm64")));

    // What it looks at is observed as ever.
    let build = || world.build(&project).args(["--platform", "linux/arm64", "--progress=plain"]).succeeds();
    project.write("other", "b");
    build().cached("RUN [\"/copy\"]");
    project.write("text", "two\n");
    assert_eq!(image().tree().text("made"), "two\n");
}

/// As with containerd's store: what is attested of an image comes with it, and goes on with it; other platforms stay away.
#[test]
fn one_platform_is_pulled_with_what_is_attested_of_it() {
    let (world, registry) = (World::new(), Registry::start());
    world.configure(&format!("[registry.\"{}\"]\nhttp = true\n", registry.address));
    let name = |tag: &str| format!("{}/app:{tag}", registry.address);
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY text /\n"), ("text", "x")]);
    let platforms = "--platform=linux/amd64,linux/arm64,linux/s390x";
    world.build(&project).args([platforms, "--provenance=true", "--push", "-t", &name("all")]).succeeds();
    let other = World::new();
    other.configure(&format!("[registry.\"{}\"]\nhttp = true\n", registry.address));
    let pulled = other.kiln(["pull", "--platform=linux/arm64", &name("all")]).succeeds().stdout_text();
    let digest = registry.digest("app:all");
    assert!(pulled.contains(&digest), "{pulled}");
    let shown = other.kiln(["images", "--digests", "--format", "{{.Digest}}"]).succeeds().stdout_text();
    assert_eq!(shown.trim(), digest);
    other.kiln(["tag", &name("all"), &name("one")]).succeeds();
    other.kiln(["push", &name("one")]).succeeds();
    let raw = |tag: &str| -> serde_json::Value {
        let raw = other.kiln(["imagetools", "inspect", "--raw", &name(tag)]).succeeds().stdout_text();
        serde_json::from_str(&raw).unwrap()
    };
    let (all, one) = (raw("all"), raw("one"));
    let [image, said] = one["manifests"].as_array().unwrap().as_slice() else { panic!("{one}") };
    assert_eq!(image["platform"]["architecture"], "arm64");
    assert_eq!(said["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let listed = all["manifests"].as_array().unwrap();
    assert!(listed.contains(image) && listed.contains(said), "{all}");
    let template = "{{.Provenance.SLSA.BuildType}}";
    other.kiln(["imagetools", "inspect", "--format", template, &name("one")]).succeeds();
}
