//! Reads images in the forms in which tools hand them on, and verifies every digest and size on the way.

use crate::Tree;
use crate::layout::sha256;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::Path;

/// An image for one platform.
pub struct Image {
    /// Its manifest.
    pub manifest: Value,
    /// Its configuration file.
    pub config: Value,
    /// `sha256:…` of the configuration: the image's id.
    pub id: String,
    /// The uncompressed archives, lowest first, each with its digest.
    pub layers: Vec<(String, Vec<u8>)>,
}

impl Image {
    /// The only image in an archive of an OCI layout.
    pub fn from_oci_archive(path: &Path) -> Self {
        let directory = unpacked(path);
        Self::from_layout(directory.path())
    }

    /// The only image of an OCI layout.
    pub fn from_layout(path: &Path) -> Self {
        let layout: Value = json(&read(&path.join("oci-layout")));
        assert_eq!(layout["imageLayoutVersion"], "1.0.0");
        let index: Value = json(&read(&path.join("index.json")));
        assert_eq!(index["schemaVersion"], 2);
        let manifests = index["manifests"].as_array().expect("manifests in index.json");
        assert!(!manifests.is_empty(), "no image in `{}`", path.display());
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let bytes = read(&path.join("blobs/sha256").join(digest.trim_start_matches("sha256:")));
            assert_eq!(format!("sha256:{}", sha256(&bytes)), digest, "a blob is not what its name says");
            assert_eq!(Some(bytes.len() as u64), descriptor["size"].as_u64(), "a descriptor has a wrong size");
            bytes
        };
        Self::read(&manifests[0], blob)
    }

    /// An image as skopeo's and buildah's `dir:` transport writes it.
    pub fn from_dir(path: &Path) -> Self {
        let manifest: Value = json(&read(&path.join("manifest.json")));
        let blob = |descriptor: &Value| {
            read(&path.join(descriptor["digest"].as_str().expect("a digest").trim_start_matches("sha256:")))
        };
        Self::from_manifest(manifest, blob)
    }

    /// The first image of an archive as `docker save` writes it.
    pub fn from_docker_archive(path: &Path) -> Self {
        let directory = unpacked(path);
        let manifest: Value = json(&read(&directory.path().join("manifest.json")));
        let entry = &manifest[0];
        let name = |value: &Value| directory.path().join(value.as_str().expect("a name in manifest.json"));
        let config = read(&name(&entry["Config"]));
        let layers = entry["Layers"].as_array().expect("layers").iter().map(|layer| read(&name(layer))).collect();
        Self::new(entry.clone(), &config, layers)
    }

    fn read(descriptor: &Value, blob: impl Fn(&Value) -> Vec<u8>) -> Self {
        let top: Value = json(&blob(descriptor));
        match top["manifests"].as_array() {
            Some(manifests) => Self::read(&manifests[0], blob),
            None => Self::from_manifest(top, blob),
        }
    }

    fn from_manifest(manifest: Value, blob: impl Fn(&Value) -> Vec<u8>) -> Self {
        let config = blob(&manifest["config"]);
        let layers = manifest["layers"].as_array().expect("layers").iter().map(&blob).collect();
        Self::new(manifest, &config, layers)
    }

    fn new(manifest: Value, config: &[u8], blobs: Vec<Vec<u8>>) -> Self {
        let id = format!("sha256:{}", sha256(config));
        let config: Value = json(config);
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff_ids in the config").clone();
        assert_eq!(diff_ids.len(), blobs.len(), "the config and the manifest count layers differently");
        let layers = blobs.into_iter().map(decompressed).zip(diff_ids).map(|(archive, diff_id)| {
            let diff_id = diff_id.as_str().expect("a diffID").to_owned();
            assert_eq!(format!("sha256:{}", sha256(&archive)), diff_id, "a layer is not what the config says");
            (diff_id, archive)
        });
        Self { manifest, id, layers: layers.collect(), config }
    }

    /// All layers put together.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for (diff_id, archive) in &self.layers {
            tree.apply(diff_id, archive);
        }
        tree
    }

    /// The files of one layer alone.
    pub fn layer(&self, index: usize) -> Tree {
        let (diff_id, archive) = &self.layers[index];
        let mut tree = Tree::default();
        tree.apply(diff_id, archive);
        tree
    }

    /// The files of the last layer alone.
    pub fn last_layer(&self) -> Tree {
        self.layer(self.layers.len() - 1)
    }

    /// A field of the `config` object.
    pub fn field(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }
}

fn unpacked(archive: &Path) -> tempfile::TempDir {
    let directory = crate::run::directory("unpacked");
    let file = fs::File::open(archive).unwrap_or_else(|error| panic!("`{}`: {error}", archive.display()));
    tar::Archive::new(std::io::BufReader::new(file)).unpack(directory.path()).expect("unpacking an archive");
    directory
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn decompressed(blob: Vec<u8>) -> Vec<u8> {
    let mut archive = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut archive).expect("gzip data");
    } else if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::Decoder::new(blob.as_slice()).expect("zstd data").read_to_end(&mut archive).expect("zstd data");
    } else {
        return blob;
    }
    archive
}
