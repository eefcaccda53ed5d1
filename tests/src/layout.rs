//! Writes OCI image layouts by hand, so that tests can have base images of any shape, and broken ones.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The media type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A directory in the form of the OCI image layout specification.
pub struct Layout {
    path: PathBuf,
}

/// One layer: what refers to its blob, and the digest of its uncompressed archive.
#[derive(Clone)]
pub struct Layer {
    /// The descriptor of the compressed blob.
    pub descriptor: Value,
    /// `sha256:…` of the archive.
    pub diff_id: String,
}

impl Layout {
    /// Makes an empty layout, and its directory.
    pub fn create(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Self { path };
        layout.write_index(&[]);
        layout
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a blob and returns its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex = sha256(bytes);
        fs::write(self.path.join("blobs/sha256").join(&hex), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }

    /// Adds an uncompressed archive as a gzip-compressed layer.
    pub fn layer(&self, archive: &[u8]) -> Layer {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(archive).unwrap();
        let descriptor = self.blob(LAYER, &encoder.finish().unwrap());
        Layer { descriptor, diff_id: format!("sha256:{}", sha256(archive)) }
    }

    /// Adds an image and returns the descriptor of its manifest. `rootfs` of the config is filled in.
    pub fn image(&self, mut config: Value, layers: &[Layer]) -> Value {
        config["rootfs"] =
            json!({ "type": "layers", "diff_ids": layers.iter().map(|l| &l.diff_id).collect::<Vec<_>>() });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let layers: Vec<_> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an index over manifests, each with the platform that it is for, and returns its descriptor.
    pub fn index(&self, manifests: &[(Value, Value)]) -> Value {
        let manifests: Vec<_> = manifests
            .iter()
            .map(|(manifest, platform)| {
                let mut entry = manifest.clone();
                entry["platform"] = platform.clone();
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Sets what the layout holds by name.
    pub fn tag(&self, images: &[(&str, &Value)]) {
        let manifests: Vec<_> = images
            .iter()
            .map(|(tag, descriptor)| {
                let mut entry = (*descriptor).clone();
                entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
                entry
            })
            .collect();
        self.write_index(&manifests);
    }

    fn write_index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

/// The config of an image for this machine, with the given `config` object.
pub fn config(inner: Value) -> Value {
    json!({ "created": "2024-01-01T00:00:00Z", "architecture": architecture(), "os": "linux", "config": inner,
            "history": [{ "created": "2024-01-01T00:00:00Z", "created_by": "a test made this" }] })
}

/// This machine's architecture, as images call it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The SHA-256 of bytes in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive of regular files, for layers of a few lines.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
