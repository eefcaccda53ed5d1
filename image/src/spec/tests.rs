//! Documents survive a round trip, whatever is in them.

use super::*;

/// A config with everything: fields of OCI and Docker, unknown ones at each level, and Go's `null`.
const CONFIG: &str = r#"{
  "created": "2024-05-01T10:00:00.123456789Z",
  "author": "me",
  "architecture": "arm",
  "variant": "v7",
  "os": "linux",
  "os.version": "1.2",
  "docker_version": "20.10",
  "config": {
    "User": "app",
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Env": ["B=2", "A=1"],
    "Entrypoint": [],
    "Cmd": ["run"],
    "Volumes": {"/data": {}},
    "WorkingDir": "/srv",
    "Labels": {"b": "2", "a": "1"},
    "StopSignal": "SIGINT",
    "ArgsEscaped": true,
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000, "Retries": 3, "Unknown": 1},
    "OnBuild": ["RUN true"],
    "Shell": ["/bin/bash", "-c"],
    "Hostname": "h",
    "Memory": 1.5
  },
  "rootfs": {
    "type": "layers",
    "diff_ids": ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
  },
  "history": [
    {"created": "2024-05-01T10:00:00Z", "created_by": "x", "comment": "c", "unknown": [1]},
    {"created_by": "y", "empty_layer": true}
  ],
  "moby.buildkit.buildinfo.v1": "e30="
}"#;

#[test]
fn a_config_keeps_every_field() {
    let image: Image = serde_json::from_str(CONFIG).unwrap();
    assert_eq!(image.config.entrypoint, Some(Vec::new()));
    assert_eq!(image.config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(image.platform().to_string(), "linux/arm/v7");
    let written = serde_json::to_string(&image).unwrap();
    let (before, after): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(CONFIG).unwrap(), serde_json::from_str(&written).unwrap());
    assert_eq!(before, after);
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Image>(&written).unwrap()).unwrap(), written);
}

#[test]
fn null_is_nothing() {
    let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Labels":null,"Volumes":null,"Cmd":null,
        "ExposedPorts":null,"Healthcheck":null,"OnBuild":null,"User":null},"rootfs":{"type":"layers","diff_ids":null},
        "history":null,"created":null}"#;
    let image: Image = serde_json::from_str(text).unwrap();
    assert_eq!(image, Image::empty(&"linux/amd64".parse().unwrap()));
    let text = r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":null}"#;
    assert_eq!(serde_json::from_str::<Image>(text).unwrap(), image);
}

#[test]
fn the_bytes_of_a_config_are_pinned() {
    let image: Image = serde_json::from_str(CONFIG).unwrap();
    let digest = kiln_solver::Digest::of(&serde_json::to_vec(&image).unwrap());
    assert_eq!(digest.short(), "1d0c5006a178");
}

#[test]
fn a_manifest_and_an_index_keep_every_field() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let manifest = r#"{"schemaVersion":2,"mediaType":"m","config":{"mediaType":"c","digest":"D","size":1,"data":"e30="},
        "layers":[{"mediaType":"l","digest":"D","size":2,"urls":["u"],"annotations":{"a":"b"}}],
        "annotations":{"c":"d"},"subject":{"x":1},"artifactType":"t"}"#;
    let index = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"D","size":1,
        "platform":{"architecture":"amd64","os":"windows","os.version":"10","os.features":["f"]}}],"unknown":true}"#;
    let (manifest, index) = (manifest.replace('D', digest), index.replace('D', digest));
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let parsed: Manifest = serde_json::from_str(&manifest).unwrap();
    assert_eq!(value(&serde_json::to_string(&parsed).unwrap()), value(&manifest));
    let parsed: Index = serde_json::from_str(&index).unwrap();
    assert_eq!(value(&serde_json::to_string(&parsed).unwrap()), value(&index));
}

#[test]
fn times_are_rfc_3339() {
    for text in ["1970-01-01T00:00:00Z", "2024-05-01T10:00:00.123456789Z", "1969-12-31T23:59:59.5Z"] {
        assert_eq!(format_time(parse_time(text).unwrap()), text);
    }
    assert_eq!(parse_time("2024-05-01T12:00:00+02:00"), parse_time("2024-05-01T10:00:00Z"));
    assert_eq!(parse_time("yesterday"), None);
}
