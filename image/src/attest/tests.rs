//! Statements as BuildKit's readers expect them.

use super::provenance::{Material, Mode, Provenance, Version};
use super::*;

fn provenance() -> Provenance {
    let text = |text: &str| text.to_owned();
    let git = Material { uri: text("https://host.example/app.git#main"), algorithm: "sha1", digest: "ab".repeat(20) };
    let base = Material { uri: text("pkg:docker/alpine@3.20"), algorithm: "sha256", digest: "cd".repeat(32) };
    Provenance {
        builder_id: text("https://ci.example/1"),
        context: Some(git.clone()),
        dockerfile: text("Dockerfile"),
        args: [("build-arg:TOKEN", "hidden"), ("label:a", "b"), ("target", "release")]
            .map(|(name, value)| (text(name), text(value)))
            .into(),
        secrets: vec![(text("pass"), false)],
        ssh: vec![(text("default"), true)],
        locals: Vec::new(),
        platform: text("linux/amd64"),
        materials: vec![base, git],
        withholds_args: false,
        invocation: Some(text("id")),
        started: Some(text("2026-01-02T03:04:05Z")),
        finished: Some(text("2026-01-02T03:04:06Z")),
        is_hermetic: true,
        is_reproducible: false,
        vcs: [(text("revision"), text("abc"))].into(),
        steps: vec![json!({ "id": "step0" })],
        source: Some(json!({ "infos": [] })),
        digests: [(text("sha256:00"), text("step0"))].into(),
        outputs: vec![text("step1:0"), text("step0:0")],
        layers: vec![Descriptor::of("layer", b""), Descriptor::of("layer", b"second")],
    }
}

#[test]
fn minimal_provenance_tells_nothing_private() {
    for version in [Version::V02, Version::V1] {
        let text = provenance().attest(version, Mode::Min).predicate.to_string();
        for private in ["hidden", "label:a", "pass", "step0", "infos", "layers"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
        assert!(text.contains(r#""target":"release""#) && text.contains("pkg:docker/alpine@3.20"), "{text}");
    }
}

#[test]
fn provenance_of_version_0_2_is_pinned() {
    let Attestation { predicate_type, predicate } = provenance().attest(Version::V02, Mode::Max);
    assert_eq!(predicate_type, "https://slsa.dev/provenance/v0.2");
    let expected: Value = serde_json::from_str(include_str!("tests/provenance-v0.2.json")).unwrap();
    assert_eq!(predicate, expected, "{predicate:#}");
}

#[test]
fn provenance_of_version_1_is_pinned() {
    let Attestation { predicate_type, predicate } = provenance().attest(Version::V1, Mode::Max);
    assert_eq!(predicate_type, "https://slsa.dev/provenance/v1");
    let expected: Value = serde_json::from_str(include_str!("tests/provenance-v1.json")).unwrap();
    assert_eq!(predicate, expected, "{predicate:#}");
}

#[test]
fn what_differs_each_time_may_be_left_out() {
    let timeless = Provenance { invocation: None, started: None, finished: None, ..provenance() };
    for version in [Version::V02, Version::V1] {
        let text = timeless.attest(version, Mode::Max).predicate.to_string();
        assert!(!text.contains("2026") && !text.to_lowercase().contains("invocationid"), "{text}");
    }
    let withheld = Provenance { withholds_args: true, ..provenance() };
    let predicate = withheld.attest(Version::V02, Mode::Max).predicate;
    assert_eq!(predicate["metadata"]["completeness"]["parameters"], false);
}

#[test]
fn what_is_not_so_is_left_out() {
    let plain = Provenance { materials: Vec::new(), is_hermetic: false, outputs: Vec::new(), ..provenance() };
    for version in [Version::V02, Version::V1] {
        let text = plain.attest(version, Mode::Max).predicate.to_string();
        for absent in ["hermetic", "\"materials\":[", "resolvedDependencies\":[", "layers", "buildkit_reproducible"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
}

#[test]
fn minimal_provenance_may_have_all_there_is() {
    let complete = |args: &[&str]| {
        let args = args.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let min = Provenance { args, ..provenance() }.attest(Version::V02, Mode::Min).predicate;
        min["metadata"]["completeness"]["parameters"].clone()
    };
    assert_eq!(
        [complete(&["target"]), complete(&["target", "build-arg:A"]), complete(&["label:a"])],
        [true, false, false]
    );
}

#[test]
fn what_local_directories_hold_makes_it_incomplete() {
    let local = Provenance { locals: vec!["context".to_owned()], ..provenance() };
    let predicate = local.attest(Version::V02, Mode::Max).predicate;
    assert_eq!(predicate["metadata"]["completeness"]["materials"], false);
    assert_eq!(predicate["invocation"]["parameters"]["locals"], json!([{ "name": "context" }]));
}

#[test]
fn attestations_are_a_manifest_about_another() {
    let image = Descriptor::of(media_type::OCI_MANIFEST, b"manifest");
    let names = ["pkg:docker/app@1.0?platform=linux%2Famd64".to_owned()];
    let spdx = Attestation { predicate_type: SPDX.to_owned(), predicate: json!({ "spdxVersion": "SPDX-2.3" }) };
    let attached = attach(&image, &names, &[provenance().attest(Version::V1, Mode::Min), spdx], Form::Image);
    assert_eq!(attached.descriptor.annotations["vnd.docker.reference.digest"], image.digest.to_string());
    assert_eq!(attached.descriptor.platform.as_ref().unwrap().os, "unknown");
    let read = |digest: &Digest| -> Value { serde_json::from_slice(&attached.documents[digest]).unwrap() };
    for (digest, bytes) in &attached.documents {
        assert_eq!(*digest, Digest::of(bytes));
    }
    let manifest: Manifest = serde_json::from_value(read(&attached.descriptor.digest)).unwrap();
    assert_eq!(attached.documents.len(), 4);
    let config = read(&manifest.config.digest);
    assert_eq!(config["rootfs"]["diff_ids"][1], manifest.layers[1].digest.to_string());
    assert_eq!(manifest.layers[1].annotations["in-toto.io/predicate-type"], SPDX);
    let statement = read(&manifest.layers[1].digest);
    assert_eq!(
        statement,
        json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": SPDX,
            "subject": [{ "name": names[0], "digest": { "sha256": image.digest.hex() } }],
            "predicate": { "spdxVersion": "SPDX-2.3" },
        })
    );
}

#[test]
fn an_artifact_names_what_it_is_about() {
    let mut image = Descriptor::of(media_type::OCI_MANIFEST, b"manifest");
    image.platform = Some((&"linux/amd64".parse::<kiln_solver::Platform>().unwrap()).into());
    let attached = attach(&image, &[], &[provenance().attest(Version::V1, Mode::Min)], Form::Artifact);
    let manifest: Value = serde_json::from_slice(&attached.documents[&attached.descriptor.digest]).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    assert_eq!(
        manifest["subject"],
        json!({ "mediaType": image.media_type, "digest": image.digest.to_string(), "size": image.size })
    );
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let config =
        json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2, "data": "e30=" });
    assert_eq!(manifest["config"], config);
    let statement: Value = serde_json::from_slice(&attached.documents[&attached.manifest.layers[0].digest]).unwrap();
    assert_eq!(statement["subject"][0]["name"], "_");
}

#[test]
fn attestations_are_found_again() {
    let image = Descriptor::of(media_type::OCI_MANIFEST, b"manifest");
    let spdx = Attestation { predicate_type: SPDX.to_owned(), predicate: json!({ "spdxVersion": "SPDX-2.3" }) };
    let all = [provenance().attest(Version::V02, Mode::Min), spdx.clone()];
    let attached = attach(&image, &[], &all, Form::Image);
    let index = crate::spec::Index::of(vec![image.clone(), attached.descriptor.clone()]);
    let find = |wanted: fn(&str) -> bool| {
        let mut asked = 0;
        let found = read::read(&index, wanted, |part| {
            asked += 1;
            Ok(attached.documents.get(&part.digest).cloned())
        });
        (found.unwrap(), asked)
    };
    let attested = |attestations: &[Attestation]| {
        vec![read::Attested { image: image.digest, attestations: attestations.to_vec() }]
    };
    assert_eq!(find(|_| true), (attested(&all), 3));
    assert_eq!(find(|kind| kind == SPDX), (attested(&[spdx]), 2), "what nobody wants is not fetched");
    let broken = read::read(
        &index,
        |_| true,
        |part| {
            let is_manifest = part.digest == attached.descriptor.digest;
            Ok(Some(if is_manifest { attached.documents[&part.digest].clone() } else { b"[".to_vec() }))
        },
    );
    assert!(broken.unwrap_err().to_string().contains("attestation"));
}
