//! What is said of images beside them: provenance and lists of packages.

use std::path::Path;
use std::process::Command;

use kiln_tests::registry::Registry;
use kiln_tests::web::Web;
use kiln_tests::{Project, World, command};
use serde_json::{Value, json};

const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";

/// A scanner by BuildKit's protocol: it tells what it sees.
const SCANNER: &str = r#"#!/bin/sh
set -eu
report() {
    printf '{"spdxVersion":"SPDX-2.3","name":"%s","comment":"%s %s"}' "$1" "$(cat "$2/file")" "${BUILDKIT_SCAN_DEPTH-}" \
        > "$BUILDKIT_SCAN_DESTINATION/$1.spdx.json"
}
touch "$BUILDKIT_SCAN_SOURCE/here" 2>/dev/null && exit 7
touch /tmp/there
report "$(basename "$BUILDKIT_SCAN_SOURCE")" "$BUILDKIT_SCAN_SOURCE"
for extra in "${BUILDKIT_SCAN_SOURCE_EXTRAS:-/none}"/*; do
    if [ -d "$extra" ]; then report "$(basename "$extra")" "$extra"; fi
done
"#;

fn skopeo(args: &[&str]) -> String {
    command::run(Command::new("skopeo").arg("--insecure-policy").args(args))
}

/// An OCI layout that a build has written.
struct Written(std::path::PathBuf);

impl Written {
    fn build(world: &World, project: &Project, args: &[&str]) -> Self {
        let layout = tempfile::Builder::new().prefix("layout-").tempdir_in(world.path()).unwrap().keep().join("oci");
        let output = format!("type=oci,tar=false,dest={}", layout.display());
        world.build(project).args(["-o", &output]).args(args).succeeds();
        Self(layout)
    }

    fn read(&self, digest: &Value) -> Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice(&std::fs::read(self.0.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    }

    fn index(&self) -> Value {
        let layout: Value = serde_json::from_slice(&std::fs::read(self.0.join("index.json")).unwrap()).unwrap();
        self.read(&layout["manifests"][0]["digest"])
    }

    /// The statements about the first image, in order.
    fn statements(&self) -> Vec<Value> {
        let index = self.index();
        let image = &index["manifests"][0]["digest"];
        let is_about = |manifest: &&Value| manifest["annotations"]["vnd.docker.reference.digest"] == *image;
        let attestation = index["manifests"].as_array().unwrap().iter().find(is_about).expect("an attestation");
        assert_eq!(attestation["platform"], json!({ "architecture": "unknown", "os": "unknown" }));
        let layers = self.read(&attestation["digest"])["layers"].as_array().unwrap().clone();
        layers.iter().map(|layer| self.read(&layer["digest"])).collect()
    }

    fn predicate(&self, kind: &str) -> Value {
        let statements = self.statements();
        statements.iter().find(|statement| statement["predicateType"] == kind).expect(kind)["predicate"].clone()
    }
}

fn simple(world: &World) -> Project {
    world.project(&[("Dockerfile", "FROM busybox\nCOPY file /file\n"), ("file", "content")])
}

#[test]
fn provenance_tells_where_an_image_comes_from() {
    let world = World::new();
    let web = world.path().join("web");
    std::fs::create_dir(&web).unwrap();
    std::fs::write(web.join("data"), "from afar").unwrap();
    let web = Web::serve(&web);
    let dockerfile = format!(
        "FROM busybox AS base\nARG INDEX\nADD {} /data\nRUN --network=none --mount=type=secret,id=pass,target=/pass true\n\
         COPY file /file\n",
        web.url("data")
    );
    let project = world.project(&[("Dockerfile", &dockerfile), ("file", "x"), ("secret", "hush")]);
    let args =
        ["--attest", "type=provenance,mode=max,builder-id=https://ci.example/7,reproducible=true", "-t", "app:1"];
    let more = ["--build-arg", "INDEX=https://me:word@host/x", "--label", "a=b", "--secret", "id=pass,src=secret"];
    let written = Written::build(&world, &project, &[&args[..], &more].concat());
    let text = written.statements()[0].to_string();
    assert!(!text.contains("hush") && !text.contains("me:word"), "{text}");
    let provenance = written.predicate(V02);
    assert_eq!(provenance["builder"]["id"], "https://ci.example/7");
    let parameters = &provenance["invocation"]["parameters"];
    assert_eq!(parameters["args"]["build-arg:INDEX"], "https://xxxxx@host/x");
    assert_eq!(parameters["args"]["label:a"], "b");
    assert_eq!(parameters["secrets"], json!([{ "id": "pass", "optional": true }]));
    assert_eq!(parameters["locals"], json!([{ "name": "context" }, { "name": "dockerfile" }]));
    let metadata = &provenance["metadata"];
    let completeness = json!({ "parameters": true, "environment": true, "materials": false });
    assert_eq!(metadata["completeness"], completeness);
    assert_eq!(metadata["reproducible"], true);
    assert!(metadata["buildStartedOn"].is_string() && metadata["buildFinishedOn"].is_string(), "{metadata}");
    let materials = provenance["materials"].as_array().unwrap();
    let [image, file] = materials.as_slice() else { panic!("{materials:?}") };
    let platform = kiln_tests::layout::architecture();
    assert_eq!(image["uri"], format!("pkg:docker/busybox@latest?platform=linux%2F{platform}"));
    assert_eq!(
        format!("sha256:{}", image["digest"]["sha256"].as_str().unwrap()),
        world.registry().digest("library/busybox")
    );
    assert_eq!(file["uri"], web.url("data"));
    assert_eq!(file["digest"]["sha256"], kiln_tests::layout::sha256(b"from afar").trim_start_matches("sha256:"));
    // All steps, each with what it takes from, and the lines that they are of.
    let steps = provenance["buildConfig"]["llbDefinition"].as_array().unwrap();
    let ids: Vec<&str> = steps.iter().map(|step| step["id"].as_str().unwrap()).collect();
    for (position, step) in steps.iter().enumerate() {
        for input in step["inputs"].as_array().into_iter().flatten() {
            let from = input.as_str().unwrap().split(':').next().unwrap();
            assert!(ids[..position].contains(&from), "{step}");
        }
    }
    let run = steps.iter().find(|step| step["op"]["Op"].get("exec").is_some()).unwrap();
    assert_eq!(run["op"]["Op"]["exec"]["meta"]["args"], json!(["/bin/sh", "-c", "true"]));
    let extra = &metadata["https://mobyproject.org/buildkit@v1#metadata"];
    let location = &extra["source"]["locations"][run["id"].as_str().unwrap()]["locations"][0]["ranges"][0];
    assert_eq!(location["start"]["line"], 4);
    let manifest = written.read(&written.index()["manifests"][0]["digest"]);
    // The last one only says which is the target.
    let [.., add, run, _, copy, end] = &ids[..] else { panic!("{ids:?}") };
    let last = format!("{copy}:0");
    assert_eq!(steps.last().unwrap(), &json!({ "id": end, "op": { "Op": {} }, "inputs": [last] }));
    let digests = |layers: &Value| -> Vec<Value> {
        layers.as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect()
    };
    let all = digests(&manifest["layers"]);
    assert_eq!(digests(&extra["layers"][&last][0]), all);
    assert_eq!(digests(&extra["layers"][format!("{run}:0")][0]), all[..all.len() - 1]);
    assert_eq!(digests(&extra["layers"][format!("{add}:0")][0]), all[..all.len() - 2]);
    let mapping = provenance["buildConfig"]["digestMapping"].as_object().unwrap();
    let mut mapped: Vec<&str> = mapping.values().map(|id| id.as_str().unwrap()).collect();
    mapped.sort_unstable();
    assert_eq!(mapped, ids[..ids.len() - 1]);
}

#[test]
fn a_commit_is_all_that_went_in() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY file /file\n"), ("file", "x")]);
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command::run(git.arg("-C").arg(project.path()).args(who).args(args)).trim().to_owned()
    };
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "a"]] {
        git(args);
    }
    git(&["remote", "add", "origin", "https://me:word@host.example/app.git"]);
    let commit = git(&["rev-parse", "HEAD"]);
    // A checkout is noted, and is no proof.
    let provenance = Written::build(&world, &project, &["--provenance=version=v1"]).predicate(V1);
    let metadata = &provenance["runDetails"]["metadata"];
    let noted = json!({ "source": "https://xxxxx@host.example/app.git", "revision": commit });
    assert_eq!(metadata["buildkit_metadata"]["vcs"], noted);
    assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], false);
    // A repository as the context is.
    git(&["update-server-info"]);
    let link = world.path().join("app.git");
    std::os::unix::fs::symlink(project.path().join(".git"), &link).unwrap();
    let web = Web::serve(world.path());
    let context = format!("{}#main", web.url("app.git"));
    let layout = world.path().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let build = ["build", &context, "--provenance=version=v1", "-o", &output];
    world.kiln(build).succeeds();
    let provenance = Written(layout).predicate(V1);
    let definition = &provenance["buildDefinition"];
    assert_eq!(definition["externalParameters"]["configSource"]["digest"]["sha1"], commit.as_str());
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["sha1"], commit.as_str());
    assert_eq!(provenance["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"], true);
    assert_eq!(provenance["runDetails"]["metadata"]["buildkit_hermetic"], true);
}

#[test]
fn nothing_is_attached_unasked() {
    let world = World::new();
    let project = simple(&world);
    let layout = Written::build(&world, &project, &[]).0;
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    world.build(&project).args(["--provenance=true", "-o", "type=docker,dest=x.tar"]).fails_with(2).says("no index");
    world.build(&project).args(["--attest", "type=poem"]).fails_with(2).says("`poem`");
}

#[test]
fn with_a_fixed_time_attestations_are_reproducible() {
    let made = || {
        let world = World::new();
        let project = simple(&world);
        let args = ["--reproducible", "--provenance=mode=max", "--sbom=true", "-t", "app:1"];
        let written = Written::build(&world, &project, &args);
        (written.statements(), written.index())
    };
    assert_eq!(made(), made());
}

#[test]
fn attestations_travel_with_the_image() {
    let world = World::new();
    let (one, two) = (Registry::start(), Registry::start());
    let project = simple(&world);
    let name = |registry: &Registry| format!("{}/app:1", registry.address);
    world.build(&project).args(["--provenance=true", "--sbom=true", "--push", "-t", &name(&one)]).succeeds();
    let other = World::new();
    other.kiln(["pull", &name(&one)]).succeeds();
    let listed = other.kiln(["images"]).succeeds().stdout_text();
    assert!(!listed.contains("unknown"), "{listed}");
    other.kiln(["prune", "--all", "--force"]).succeeds();
    other.kiln(["tag", &name(&one), &name(&two)]).succeeds();
    other.kiln(["push", &name(&two)]).succeeds();
    assert_eq!(one.digest("app:1"), two.digest("app:1"));
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", name(&two))]);
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap()["manifests"].as_array().unwrap().len(), 2);
    let copy = format!("dir:{}/copy", world.path().display());
    let source = format!("docker://{}", name(&two));
    skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &source, &copy]);
    // What is built on it does not see them.
    let project = other.project(&[("Dockerfile", &format!("FROM {}\nRUN test -f /file\n", name(&two)))]);
    other.build(&project).succeeds();
}

#[test]
fn packages_are_listed_by_kiln_itself() {
    let world = World::new();
    let status = "Package: tool\nStatus: install ok installed\nVersion: 1.2-3\nArchitecture: all\n\n";
    let dockerfile = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n\
                      COPY status /var/lib/dpkg/status\nFROM scratch AS quiet\nCOPY status /status\n\
                      FROM scratch\nCOPY --from=build /var/lib/dpkg/status /var/lib/dpkg/status\n\
                      COPY --from=quiet /status /x\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("status", status)]);
    let statements = Written::build(&world, &project, &["--sbom=true", "-t", "app"]).statements();
    let names: Vec<&str> =
        statements.iter().map(|statement| statement["predicate"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sbom", "sbom-build", "sbom-context"]);
    assert!(statements.iter().all(|statement| statement["predicateType"] == SPDX));
    for document in &statements[..2] {
        let packages = document["predicate"]["packages"].as_array().unwrap();
        assert!(packages.iter().any(|package| package["name"] == "tool"), "{packages:?}");
    }
    let out = world.path().join("out");
    let output = format!("type=local,attestation-prefix=a-,dest={}", out.display());
    world.build(&project).args(["--sbom=true", "--provenance=mode=min,inline-only=true", "-o", &output]).succeeds();
    let document: Value = serde_json::from_slice(&std::fs::read(out.join("a-sbom.spdx.json")).unwrap()).unwrap();
    let subjects: Vec<&str> =
        document["subject"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["var/lib/dpkg/status", "x"]);
    assert!(!out.join("a-provenance.json").exists());
}

fn scanner(world: &World, script: &str) -> String {
    let dockerfile = "FROM busybox\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("scan", script)]);
    world.build(&project).args(["-t", "scanner:1"]).succeeds();
    "--sbom=generator=scanner:1,DEPTH=deep".to_owned()
}

#[test]
fn packages_are_listed_by_a_scanner_image() {
    let world = World::new();
    let scanner = scanner(&world, SCANNER);
    let dockerfile = "FROM scratch AS build\nARG BUILDKIT_SBOM_SCAN_STAGE\nCOPY one /file\n\
                      FROM scratch\nCOPY --from=build /file /was\nCOPY two /file\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("one", "first"), ("two", "second")]);
    let args = [scanner.as_str(), "--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=true"];
    let statements = Written::build(&world, &project, &args).statements();
    let said = |statement: &Value| -> (String, String) {
        let text = |key: &str| statement["predicate"][key].as_str().unwrap().to_owned();
        (text("name"), text("comment"))
    };
    let expected = [("sbom", "second deep"), ("sbom-build", "first deep")];
    let expected = expected.map(|(name, comment)| (name.to_owned(), comment.to_owned()));
    assert_eq!(statements.iter().map(said).collect::<Vec<_>>(), expected);
    // The same tree is not scanned again.
    let out = world.path().join("out");
    let output = format!("type=local,dest={}", out.display());
    let again = world.build(&project).args(args).args(["--progress=plain", "-o", &output]).succeeds();
    assert!(again.stderr.contains("CACHED"), "{again}");
    assert!(Path::new(&out).join("sbom-build.spdx.json").exists());
}

#[test]
fn a_scanner_that_says_nothing_fails_the_build() {
    let world = World::new();
    let scanner = scanner(&world, "#!/bin/sh\nexit 0\n");
    world.build(&simple(&world)).arg(&scanner).fails().says("no report");
    let world = World::new();
    let scanner = self::scanner(&world, "#!/bin/sh\necho '{}' > $BUILDKIT_SCAN_DESTINATION/a.spdx.json\n");
    world.build(&simple(&world)).arg(&scanner).fails().says("no SPDX document");
    world.build(&simple(&world)).arg("--sbom=generator=busybox").fails();
}

#[test]
fn every_platform_has_its_own() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /file\n")]);
    project.write("amd64", "a");
    project.write("arm64", "b");
    let metadata = world.path().join("metadata.json");
    let args = ["--platform=linux/amd64,linux/arm64", "--provenance=mode=max", "-o", "type=oci,tar=false,dest=layout"];
    world.build(&project).args(args).args(["--metadata-file", metadata.to_str().unwrap()]).succeeds();
    let written = Written(project.path().join("layout"));
    let index = written.index();
    let manifests = index["manifests"].as_array().unwrap();
    let architectures: Vec<&str> =
        manifests.iter().map(|manifest| manifest["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["amd64", "arm64", "unknown", "unknown"]);
    for (image, attestation) in manifests.iter().zip(&manifests[2..]) {
        assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let statement = written.read(&written.read(&attestation["digest"])["layers"][0]["digest"]);
        let text = statement["predicate"]["buildConfig"].to_string();
        let own = image["platform"]["architecture"].as_str().unwrap();
        assert!(text.contains(&format!("\"/{own}\"")), "{text}");
        assert_eq!(text.matches("\"copy\"").count(), 1, "{text}");
    }
    let metadata: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    for platform in ["linux/amd64", "linux/arm64"] {
        let provenance = &metadata[format!("buildx.build.provenance/{platform}")];
        assert_eq!(provenance["buildType"], "https://mobyproject.org/buildkit@v1");
        assert!(provenance.get("buildConfig").is_none());
    }
    let out = world.path().join("out");
    let output = format!("type=local,platform-split=false,dest={}", out.display());
    let one = world.project(&[("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY x /$TARGETARCH\n"), ("x", "x")]);
    let args = ["--platform=linux/amd64,linux/arm64", "--provenance=true", "-o", &output];
    world.build(&one).args(args).succeeds();
    assert!(out.join("provenance.linux_amd64.json").exists() && out.join("provenance.linux_arm64.json").exists());
}
