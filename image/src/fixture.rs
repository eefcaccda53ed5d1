//! Images made up for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_cache::{Store, Whiteouts};
use kiln_solver::{Cancel, Digest, Platform};
use tempfile::TempDir;

use crate::registry::testing::{Asked, Reply};
use crate::spec::{Descriptor, DescriptorPlatform, Image, Index, Manifest, media_type};
use crate::{Configuration, Credentials, Images, Patience, Settings};

/// An image: every document and blob of it.
pub(crate) struct Fixture {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) layers: Vec<(Digest, Descriptor)>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

/// A tar archive of files by name and content.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Fixture {
    /// An image for this platform whose layers have one file each: the first gzip of two members, the second
    /// zstd, the third plain, and so on.
    pub(crate) fn new(platform: &str, files: &[(&str, &str)]) -> Self {
        let platform: Platform = platform.parse().unwrap();
        let mut image = Image::empty(&platform);
        let (mut layers, mut blobs) = (Vec::new(), BTreeMap::new());
        for (number, file) in files.iter().enumerate() {
            let archive = archive(&[*file]);
            let diff_id = Digest::of(&archive);
            let (kind, blob) = match number % 3 {
                0 => (media_type::OCI_LAYER_GZIP, [gzip(&archive[..700]), gzip(&archive[700..])].concat()),
                1 => (media_type::OCI_LAYER_ZSTD, zstd::encode_all(archive.as_slice(), 1).unwrap()),
                _ => (media_type::OCI_LAYER, archive),
            };
            let descriptor = Descriptor::of(kind, &blob);
            image.rootfs.diff_ids.push(diff_id);
            blobs.insert(descriptor.digest, blob);
            layers.push((diff_id, descriptor));
        }
        image.config.env = vec!["FIXTURE=yes".to_owned()];
        let mut fixture = Self { config: serde_json::to_vec(&image).unwrap(), manifest: Vec::new(), layers, blobs };
        fixture.describe();
        fixture
    }

    /// Writes the manifest anew, after a change to its parts.
    pub(crate) fn describe(&mut self) {
        let config = Descriptor::of(media_type::OCI_CONFIG, &self.config);
        self.blobs.insert(config.digest, self.config.clone());
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config,
            layers: self.layers.iter().map(|(_, descriptor)| descriptor.clone()).collect(),
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        };
        self.manifest = serde_json::to_vec(&manifest).unwrap();
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// What a registry answers that has this image as `test:1`.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path();
        if path == "/v2/test/manifests/1" || path == format!("/v2/test/manifests/{}", self.digest()) {
            let digest = self.digest().to_string();
            return Reply::ok(media_type::OCI_MANIFEST, self.manifest.clone()).header("Docker-Content-Digest", &digest);
        }
        let digest = path.strip_prefix("/v2/test/blobs/").and_then(|digest| digest.parse::<Digest>().ok());
        match digest.and_then(|digest| self.blobs.get(&digest)) {
            Some(blob) => Reply::ok("application/octet-stream", blob.clone()),
            None => Reply::new(404),
        }
    }

    /// A descriptor for an index.
    pub(crate) fn descriptor(&self, platform: &str) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &self.manifest);
        descriptor.platform = Some(DescriptorPlatform::from(&platform));
        descriptor
    }

    /// Writes the blobs into a layout.
    pub(crate) fn write_blobs(&self, directory: &Path) {
        let folder = directory.join("blobs/sha256");
        std::fs::create_dir_all(&folder).unwrap();
        for blob in self.blobs.values().chain([&self.manifest]) {
            std::fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
        }
    }
}

/// Writes what makes a directory a layout.
pub(crate) fn write_index(directory: &Path, manifests: Vec<Descriptor>) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    std::fs::write(directory.join("index.json"), serde_json::to_vec(&Index::of(manifests)).unwrap()).unwrap();
}

/// Patience that a test has.
pub(crate) fn hurry() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        silence: Duration::from_secs(5),
        commit: Duration::from_secs(5),
        attempts: 3,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
    }
}

/// An empty store and images in it.
pub(crate) struct Bench {
    pub(crate) images: Images,
    pub(crate) cancel: Cancel,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with("", Credentials::none(), hurry())
    }

    pub(crate) fn with(configuration: &str, credentials: Credentials, patience: Patience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let images = open(folder.path(), configuration, credentials, patience, &cancel);
        Self { images, cancel, folder }
    }

    /// The same store in another process, as it were.
    pub(crate) fn again(&self) -> Images {
        open(self.folder.path(), "", Credentials::none(), hurry(), &self.cancel)
    }

    pub(crate) fn store(&self) -> &Store {
        self.images.store()
    }
}

fn open(folder: &Path, configuration: &str, credentials: Credentials, patience: Patience, cancel: &Cancel) -> Images {
    let store = Store::open(&folder.join("store"), Whiteouts::User).unwrap();
    Images::new(Settings {
        store: Arc::new(store),
        configuration: Configuration::parse(configuration).unwrap(),
        credentials,
        patience,
        cancel: cancel.clone(),
    })
}
