//! What kiln writes is what the OCI image specification says, by somebody else's reading of it: the crate oci-spec. It
//! takes each document, and has to give it back with nothing lost: a field that it does not know would be.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use kiln_tests::layout::sha256;
use kiln_tests::{Project, World};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCKERFILE: &str = "FROM scratch
ARG TARGETARCH
COPY text /text
WORKDIR /srv
LABEL one=1 two=\"2 2\"
ENV A=b
EXPOSE 80 53/udp
VOLUME /data
USER 1:2
STOPSIGNAL SIGINT
ENTRYPOINT [\"/a\"]
CMD [\"b\", \"c\"]
";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE), ("text", "text\n")])
}

/// How many documents of each kind a layout has. Each was read.
fn read(layout: &Path) -> BTreeMap<&'static str, usize> {
    let mut reader = Reader { layout, found: BTreeMap::new() };
    let marker: OciLayout = reader.document("layout", &std::fs::read(layout.join("oci-layout")).unwrap());
    assert_eq!(marker.image_layout_version(), "1.0.0");
    let index: ImageIndex = reader.document("index", &std::fs::read(layout.join("index.json")).unwrap());
    reader.index(&index);
    reader.found
}

struct Reader<'a> {
    layout: &'a Path,
    found: BTreeMap<&'static str, usize>,
}

impl Reader<'_> {
    fn index(&mut self, index: &ImageIndex) {
        assert_eq!((index.schema_version(), index.media_type()), (2, &Some(MediaType::ImageIndex)));
        for descriptor in index.manifests() {
            match descriptor.media_type() {
                MediaType::ImageIndex => {
                    let inner: ImageIndex = self.document("index", &self.blob(descriptor));
                    self.index(&inner);
                }
                MediaType::ImageManifest => self.manifest(descriptor),
                other => panic!("an index of {other}"),
            }
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor) {
        let manifest: ImageManifest = self.document("manifest", &self.blob(descriptor));
        assert_eq!((manifest.schema_version(), manifest.media_type()), (2, &Some(MediaType::ImageManifest)));
        let layers = manifest.layers();
        layers.iter().for_each(|layer| drop(self.blob(layer)));
        let config = self.blob(manifest.config());
        match manifest.config().media_type() {
            MediaType::ImageConfig => {
                let config: ImageConfiguration = self.document("config", &config);
                assert_eq!(config.rootfs().typ(), "layers");
                assert_eq!(config.rootfs().diff_ids().len(), layers.len());
                let made = |step: &&oci_spec::image::History| step.empty_layer() != Some(true);
                let history = config.history().as_deref().unwrap_or_default();
                assert!(history.is_empty() || history.iter().filter(made).count() == layers.len());
            }
            // What an artifact has in place of one.
            MediaType::EmptyJSON => assert_eq!(config, b"{}"),
            other => panic!("a config of {other}"),
        }
    }

    /// The bytes that a descriptor is about.
    fn blob(&self, descriptor: &Descriptor) -> Vec<u8> {
        let bytes = std::fs::read(self.layout.join("blobs/sha256").join(descriptor.digest().digest())).unwrap();
        assert_eq!(bytes.len() as u64, descriptor.size());
        assert_eq!(sha256(&bytes), descriptor.digest().digest());
        bytes
    }

    /// Reads a document, and writes it again.
    fn document<T: DeserializeOwned + Serialize>(&mut self, kind: &'static str, bytes: &[u8]) -> T {
        *self.found.entry(kind).or_default() += 1;
        let mut ours: Value = serde_json::from_slice(bytes).unwrap();
        let read: T = serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{kind}: {error}: {ours}"));
        // The specification knows it as deprecated, the crate does not; Docker still writes it.
        if let Some(config) = ours.get_mut("config").and_then(Value::as_object_mut) {
            config.remove("ArgsEscaped");
        }
        assert_eq!(serde_json::to_value(&read).unwrap(), ours, "{kind}");
        read
    }
}

/// Builds into a layout, and reads that.
fn build(args: &[&str], attributes: &str) -> BTreeMap<&'static str, usize> {
    let world = World::new();
    let layout = world.path().join("layout");
    let output = format!("type=oci,tar=false,{attributes}dest={}", layout.display());
    world.build(&project(&world)).args(["-t", "app:1", "-o", &output]).args(args).succeeds();
    read(&layout)
}

fn counts(index: usize, manifest: usize, config: usize) -> BTreeMap<&'static str, usize> {
    [("layout", 1), ("index", index), ("manifest", manifest), ("config", config)].into()
}

#[test]
fn an_image_is_as_the_specification_says() {
    assert_eq!(build(&[], ""), counts(1, 1, 1));
    for compression in ["uncompressed", "zstd", "estargz"] {
        assert_eq!(build(&[], &format!("compression={compression},")), counts(1, 1, 1), "{compression}");
    }
    let annotations = "annotation.a=b,annotation-manifest-descriptor.c=d,";
    assert_eq!(build(&["--reproducible"], annotations), counts(1, 1, 1));
}

#[test]
fn so_are_the_images_of_several_platforms() {
    let platforms = "--platform=linux/amd64,linux/arm64,linux/arm/v7";
    assert_eq!(build(&[platforms], "annotation-index.a=b,"), counts(2, 3, 3));
    assert_eq!(build(&[platforms, "--provenance=true", "--sbom=true"], ""), counts(2, 6, 6));
}

#[test]
fn so_are_attestations() {
    assert_eq!(build(&["--provenance=mode=max", "--sbom=true"], ""), counts(2, 2, 2));
    assert_eq!(build(&["--provenance=version=v1"], "oci-artifact=true,"), counts(2, 2, 1));
}

/// An archive has the same documents; so does one for Docker, which is a layout as well.
#[test]
fn so_are_archives() {
    for kind in ["oci", "docker"] {
        let world = World::new();
        let (archive, layout) = (world.path().join("app.tar"), world.path().join("layout"));
        let output = format!("type={kind},oci-mediatypes=true,dest={}", archive.display());
        world.build(&project(&world)).args(["-t", "app:1", "-o", &output]).succeeds();
        tar::Archive::new(File::open(&archive).unwrap()).unpack(&layout).unwrap();
        assert_eq!(read(&layout), counts(1, 1, 1), "{kind}");
    }
}
