//! An image made ready to be written out: its manifest, and the blobs that belong to it.

use std::collections::BTreeMap;

use kiln_cache::{Blob, Compression, ImageRecord, LayerBlob, Store, StoreError};
use kiln_solver::{Cancel, Digest, Layer, Origin};
use serde::Serialize;

use super::ImageOptions;
use super::sink::Sink;
use crate::layout::{CONTAINERD_NAME, REF_NAME};
use crate::spec::{Descriptor, Extra, Index, Manifest, media_type};
use crate::{ImageError, Images, Reference, inspect};

const DEFAULT_COMPRESSION: Compression = Compression::Gzip { level: 6 };
const LAYOUT_MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Whose media types an image is described with, and whose files an archive of it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    Oci,
    Docker,
}

/// An image made ready to be written out.
pub(super) struct Package {
    vocabulary: Vocabulary,
    names: Vec<Reference>,
    pub(super) manifest: Vec<u8>,
    /// As an index lists it.
    pub(super) descriptor: Descriptor,
    pub(super) config: Descriptor,
    pub(super) config_bytes: Vec<u8>,
    pub(super) layers: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Blob>,
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Package {
    /// Gathers the blobs of an image: those of its base as they were pulled, its own compressed as asked for.
    pub(super) fn make(
        images: &Images,
        image: &ImageRecord,
        options: &ImageOptions,
        vocabulary: Vocabulary,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        images.ensure_blobs(&image.layers, cancel)?;
        let store = images.store();
        let compression = options.compression.unwrap_or(DEFAULT_COMPRESSION);
        let (mut layers, mut blobs) = (Vec::new(), BTreeMap::new());
        for layer in &image.layers {
            if cancel.is_requested() {
                return Err(ImageError::Cancelled);
            }
            let form = layer_blob(store, layer, compression)?;
            let lost = || ImageError::LostBlob { what: "layer", digest: form.digest };
            blobs.insert(form.digest, store.blob(&form.digest)?.ok_or_else(lost)?);
            layers.push(Descriptor::new(vocabulary.layer(form.compression), form.digest, form.size));
        }
        let config_bytes = inspect::config_bytes(store, image)?;
        let config = Descriptor::of(vocabulary.config(), &config_bytes);
        let manifest = manifest(vocabulary, &config, &layers);
        let mut descriptor = Descriptor::of(vocabulary.manifest(), &manifest);
        descriptor.platform = Some((&image.platform).into());
        Ok(Self { vocabulary, names: options.names.clone(), manifest, descriptor, config, config_bytes, layers, blobs })
    }

    /// The digest of the manifest.
    pub(super) fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// Writes everything; the index, which makes an image of it all, comes last of what counts.
    pub(super) fn write(&self, sink: &mut dyn Sink, cancel: &Cancel) -> Result<(), ImageError> {
        let index = self.index(sink)?;
        sink.directory("blobs")?;
        sink.directory("blobs/sha256")?;
        let mut documents = BTreeMap::from([(self.config.digest, &self.config_bytes)]);
        documents.insert(self.descriptor.digest, &self.manifest);
        let mut digests: Vec<&Digest> = documents.keys().chain(self.blobs.keys()).collect();
        digests.sort();
        for digest in digests {
            match (documents.get(digest), self.blobs.get(digest)) {
                (Some(bytes), _) => sink.document(&blob_name(digest), bytes)?,
                (None, Some(blob)) => sink.blob(&blob_name(digest), blob, cancel)?,
                (None, None) => {}
            }
        }
        sink.document("oci-layout", LAYOUT_MARKER)?;
        if self.vocabulary == Vocabulary::Docker {
            sink.document("manifest.json", &json(&[self.docker_entry()]))?;
        }
        sink.document("index.json", &json(&index))?;
        sink.finish()
    }

    /// The index of the layout: this image under each of its names, and what was there under others.
    fn index(&self, sink: &dyn Sink) -> Result<Index, ImageError> {
        let own = self.own_descriptors();
        let Some(existing) = sink.existing("index.json")? else {
            return Ok(Index::of(own));
        };
        let mut index: Index = serde_json::from_slice(&existing).map_err(|error| ImageError::Malformed {
            what: "index",
            name: "index.json".to_owned(),
            reason: error.to_string(),
        })?;
        let replaced = |old: &Descriptor| {
            let same_name =
                |new: &Descriptor| new.annotations.get(CONTAINERD_NAME) == old.annotations.get(CONTAINERD_NAME);
            let same_tag = |new: &Descriptor| new.annotations.get(REF_NAME) == old.annotations.get(REF_NAME);
            own.iter().any(|new| same_tag(new) && (same_name(new) || !old.annotations.contains_key(CONTAINERD_NAME)))
        };
        index.manifests.retain(|old| !replaced(old));
        index.manifests.extend(own);
        Ok(index)
    }

    fn own_descriptors(&self) -> Vec<Descriptor> {
        if self.names.is_empty() {
            return vec![self.descriptor.clone()];
        }
        let named = |name: &Reference| {
            let mut descriptor = self.descriptor.clone();
            descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
            descriptor.annotations.extend(name.tag.clone().map(|tag| (REF_NAME.to_owned(), tag)));
            descriptor
        };
        self.names.iter().map(named).collect()
    }

    fn docker_entry(&self) -> DockerEntry {
        DockerEntry {
            config: blob_name(&self.config.digest),
            repo_tags: self.names.iter().map(Reference::familiar).collect(),
            layers: self.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        }
    }
}

impl Vocabulary {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::Uncompressed) => media_type::OCI_LAYER,
            (Self::Oci, Compression::Gzip { .. }) => media_type::OCI_LAYER_GZIP,
            (Self::Oci, Compression::Zstd { .. }) => media_type::OCI_LAYER_ZSTD,
            (Self::Docker, Compression::Uncompressed) => media_type::DOCKER_LAYER,
            (Self::Docker, Compression::Gzip { .. }) => media_type::DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd { .. }) => media_type::DOCKER_LAYER_ZSTD,
        }
    }
}

/// The form in which a layer is exported.
fn layer_blob(store: &Store, layer: &Layer, compression: Compression) -> Result<LayerBlob, ImageError> {
    let known = || store.known_blob(&layer.diff_id)?.ok_or(ImageError::LostLayer(layer.diff_id));
    match layer.origin {
        Origin::Image => known(),
        Origin::Built => match store.layer_blob(&layer.diff_id, compression) {
            // The same layer was pulled with some image before it was built here.
            Err(StoreError::NoArchive(_)) => known(),
            outcome => Ok(outcome?),
        },
    }
}

fn manifest(vocabulary: Vocabulary, config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    json(&Manifest {
        schema_version: 2,
        media_type: vocabulary.manifest().to_owned(),
        config: config.clone(),
        layers: layers.to_vec(),
        annotations: BTreeMap::new(),
        extra: Extra::new(),
    })
}

/// Documents of plain maps, lists and texts always have a JSON form.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
