//! An image made ready to be written out or sent: its documents, and the blobs that belong to it.

use std::collections::{BTreeMap, HashSet};

use kiln_cache::{Blob, Compression, ImageIndex, ImageRecord, LayerBlob, PlatformImage, Store, StoreError};
use kiln_solver::{Cancel, Digest, Layer, Origin, Platform};
use serde::Serialize;

use super::options::{AnnotationPlace, ImageOptions, MediaTypes};
use crate::attest::{self, Attestation, STATEMENT_LIMIT, purl};
use crate::documents::{self, Document};
use crate::push::{self, Parcel, ParcelBlob, Place};
use crate::registry::{Content, MANIFEST_LIMIT};
use crate::spec::{Descriptor, Extra, Image, Index, Manifest, format_seconds, parse_time};
use crate::{ImageError, Images, Reference, choose, inspect};

/// The annotation that says when something was made.
const CREATED: &str = "org.opencontainers.image.created";
const DEFAULT_COMPRESSION: Compression = Compression::Gzip { level: 6 };

/// An image, or the images of several platforms under one index, made ready to be written out or sent.
#[derive(Clone, Debug)]
pub struct Package {
    pub(super) names: Vec<Reference>,
    /// The index, or the only manifest, as a layout lists it.
    pub(super) root: Descriptor,
    pub(super) images: Vec<Packed>,
    /// The manifests of attestations, as the index lists them behind the images.
    attached: Vec<PackedAttestations>,
    /// Indexes, manifests, configs and attestations.
    pub(super) documents: BTreeMap<Digest, Vec<u8>>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
}

/// One image of a package.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    image: PlatformImage,
    /// As an index lists it.
    pub(super) descriptor: Descriptor,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// The attestations of an image of a package.
#[derive(Clone, Debug)]
struct PackedAttestations {
    descriptor: Descriptor,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Package {
    /// Gathers the blobs of images, those of their bases as they were pulled and their own compressed as asked for,
    /// and describes them. Several images, or one for which `is_index` says so, get an index.
    ///
    /// # Errors
    /// When a layer cannot be had, or there are annotations for an index and there is none.
    pub fn make(
        images: &Images,
        records: &[ImageRecord],
        is_index: bool,
        options: &ImageOptions,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        let mut package = Self::empty(&options.names);
        for record in records {
            package.add(images, record, options, cancel)?;
        }
        match package.images.as_slice() {
            [only] if !is_index => {
                if options.annotations.need_index() {
                    return Err(ImageError::NoIndex);
                }
                package.root = only.descriptor.clone();
            }
            _ => package.add_index(options),
        }
        Ok(package)
    }

    /// Puts attestations behind the images that they are about, by position: then there is an index in any case.
    #[must_use]
    pub fn attest(mut self, attestations: &[Vec<Attestation>], options: &ImageOptions) -> Self {
        for (packed, attestations) in self.images.iter().zip(attestations) {
            if attestations.is_empty() {
                continue;
            }
            let name = |name: &Reference| purl::of_image(name, Some(&packed.image.platform));
            let names: Vec<String> = self.names.iter().map(name).collect();
            let attached = attest::attach(&packed.descriptor, &names, attestations, options.attestations);
            self.documents.extend(attached.documents);
            let (descriptor, Manifest { config, layers, .. }) = (attached.descriptor, attached.manifest);
            self.attached.push(PackedAttestations { descriptor, config, layers });
        }
        if !self.attached.is_empty() {
            self.add_index(options);
        }
        self
    }

    /// An image of the store with the manifest or index that it came with, where that and its blobs are still to be
    /// had; else as [`Package::make`] makes it by default.
    ///
    /// # Errors
    /// When a layer cannot be had.
    pub fn of(images: &Images, record: &ImageRecord, names: &[Reference], cancel: &Cancel) -> Result<Self, ImageError> {
        Self::found(images, record, names, false, cancel)
    }

    /// As [`Package::of`], for a registry: layers of a base image that were never fetched stay where they are.
    ///
    /// # Errors
    /// When nobody knows where a layer is, or the store cannot be read.
    pub fn to_push(
        images: &Images,
        record: &ImageRecord,
        names: &[Reference],
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        Self::found(images, record, names, true, cancel)
    }

    fn found(
        images: &Images,
        record: &ImageRecord,
        names: &[Reference],
        lazy_base: bool,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        if let Some(package) = Self::as_it_came(images, record, names, lazy_base, cancel)? {
            return Ok(package);
        }
        let options = ImageOptions { names: names.to_vec(), lazy_base, ..ImageOptions::default() };
        Self::make(images, &record.platforms(), record.index.is_some(), &options, cancel)
    }

    fn empty(names: &[Reference]) -> Self {
        let root = Descriptor::new("", Digest::of(b""), 0);
        let (images, attached, documents, blobs) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { names: names.to_vec(), root, images, attached, documents, blobs }
    }

    /// The same without the blobs of its lowest layers, for whoever has them: only where there is one image.
    #[must_use]
    pub fn without_layers(mut self, lowest: usize) -> Self {
        if let [only] = self.images.as_slice() {
            let (left_out, sent) = only.layers.split_at(lowest.min(only.layers.len()));
            let is_sent = |digest: &Digest| sent.iter().any(|layer| layer.digest == *digest);
            let goes = |digest: &Digest| left_out.iter().any(|layer| layer.digest == *digest) && !is_sent(digest);
            self.blobs.retain(|digest, _| !goes(digest));
        }
        self
    }

    /// The index, or the only manifest.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }

    /// The same, with word of when it was made where it is listed (`org.opencontainers.image.created`), as BuildKit's
    /// archives have it. It is when its first image was, so that the same image gives the same archive.
    #[must_use]
    pub fn dated(mut self) -> Self {
        let config = self.images.first().and_then(|image| self.documents.get(&image.config.digest));
        let image: Option<Image> = config.and_then(|config| serde_json::from_slice(config).ok());
        if let Some(created) = image.and_then(|image| parse_time(image.created.as_deref()?)) {
            self.root.annotations.entry(CREATED.to_owned()).or_insert_with(|| format_seconds(created));
        }
        self
    }

    /// The digest of the config, where there is one image alone.
    pub fn config(&self) -> Option<Digest> {
        match self.images.as_slice() {
            [only] if only.descriptor.digest == self.root.digest => Some(only.config.digest),
            _ => None,
        }
    }

    /// The names that it goes under.
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    /// The manifests of its images, each with its config and layers.
    pub fn manifests(&self) -> impl Iterator<Item = (&Descriptor, &Descriptor, &[Descriptor])> {
        self.images.iter().map(|image| (&image.descriptor, &image.config, image.layers.as_slice()))
    }

    /// The manifests of attestations of its images.
    pub fn attestations(&self) -> impl Iterator<Item = &Descriptor> {
        self.attached.iter().map(|attached| &attached.descriptor)
    }

    /// Its indexes, manifests, configs and attestations by digest.
    pub fn documents(&self) -> &BTreeMap<Digest, Vec<u8>> {
        &self.documents
    }

    /// Its layers by digest.
    pub fn blobs(&self) -> &BTreeMap<Digest, Blob> {
        &self.blobs
    }

    /// What is to be pushed of it.
    pub fn parcel(&self) -> Parcel {
        let document = |descriptor: &Descriptor| push::Document {
            media_type: descriptor.media_type.clone(),
            bytes: self.documents.get(&descriptor.digest).cloned().unwrap_or_default(),
        };
        let images = self.images.iter().map(|packed| &packed.descriptor);
        let mut documents: Vec<push::Document> = images.chain(self.attestations()).map(document).collect();
        if self.images.iter().all(|packed| packed.descriptor.digest != self.root.digest) {
            documents.push(document(&self.root));
        }
        let here = |descriptor: &Descriptor| {
            let bytes = self.documents.get(&descriptor.digest).map(Vec::as_slice).unwrap_or_default();
            ParcelBlob { descriptor: descriptor.clone(), at: Place::Here(Content::of(bytes)) }
        };
        let mut blobs = Vec::new();
        for Packed { image, config, layers, .. } in &self.images {
            let layer = |(descriptor, layer): (&Descriptor, &Layer)| ParcelBlob {
                descriptor: descriptor.clone(),
                at: Place::Layer(*layer),
            };
            blobs.extend(layers.iter().zip(&image.layers).map(layer));
            blobs.push(here(config));
        }
        for PackedAttestations { config, layers, .. } in &self.attached {
            blobs.extend(layers.iter().chain([config]).map(here));
        }
        Parcel { documents, blobs }
    }

    /// Puts the documents into the store; yields what the store is to list.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep(&self, store: &Store) -> Result<ImageRecord, ImageError> {
        for document in self.documents.values() {
            store.put_blob(document)?;
        }
        self.record().ok_or(ImageError::LostBlob { what: "manifest", digest: self.root.digest })
    }

    /// As the store lists it: as the image that suits this machine best, or else the first. None for one without images.
    pub fn record(&self) -> Option<ImageRecord> {
        let host = Platform::host();
        let images = self.images.iter().map(|packed| packed.image.clone()).collect();
        let index = ImageIndex { digest: self.root.digest, images, attached: self.attached_documents() };
        let record = ImageRecord::of_index(index, |platform| choose::runs_on(&host, platform))?;
        // One image alone has no index.
        let is_alone = record.manifest == Some(self.root.digest);
        Some(ImageRecord { index: record.index.filter(|_| !is_alone), ..record })
    }

    /// All that belongs to attestations.
    fn attached_documents(&self) -> Vec<Digest> {
        let documents = |attached: &PackedAttestations| -> Vec<Digest> {
            let parts = [&attached.descriptor, &attached.config].into_iter().chain(&attached.layers);
            parts.map(|descriptor| descriptor.digest).collect()
        };
        self.attached.iter().flat_map(documents).collect()
    }

    fn add(
        &mut self,
        images: &Images,
        record: &ImageRecord,
        options: &ImageOptions,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let is_lazy = options.lazy_base && !options.force_compression;
        if !is_lazy {
            images.ensure_blobs(&record.layers, cancel)?;
        }
        let (store, types) = (images.store(), options.media_types);
        let mut layers = Vec::with_capacity(record.layers.len());
        for layer in &record.layers {
            if cancel.is_requested() {
                return Err(ImageError::Cancelled);
            }
            let is_elsewhere = images.is_elsewhere(layer)?;
            let form = if is_elsewhere { images.form_of(layer)? } else { layer_blob(store, layer, options)? };
            if !is_elsewhere {
                self.add_blob(store, &form.digest)?;
            }
            let mut descriptor = Descriptor::new(types.layer(form.compression), form.digest, form.size);
            descriptor.annotations = options.layer_notes.get(&form.digest).cloned().unwrap_or_default();
            layers.push(descriptor);
        }
        let config_bytes = inspect::config_bytes(store, record)?;
        let config = Descriptor::of(types.config(), &config_bytes);
        let platform = Some(&record.platform);
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: types.manifest().to_owned(),
            config: config.clone(),
            layers: layers.clone(),
            annotations: options.annotations.at(AnnotationPlace::Manifest, platform),
            extra: Extra::new(),
        });
        let mut descriptor = Descriptor::of(types.manifest(), &manifest);
        descriptor.platform = Some((&record.platform).into());
        descriptor.annotations = options.annotations.at(AnnotationPlace::ManifestDescriptor, platform);
        self.push(record, &descriptor, &config, layers);
        self.documents.extend([(config.digest, config_bytes), (descriptor.digest, manifest)]);
        Ok(())
    }

    fn push(&mut self, record: &ImageRecord, descriptor: &Descriptor, config: &Descriptor, layers: Vec<Descriptor>) {
        let image = PlatformImage {
            id: record.id,
            manifest: descriptor.digest,
            layers: record.layers.clone(),
            platform: record.platform.clone(),
        };
        self.images.push(Packed { image, descriptor: descriptor.clone(), config: config.clone(), layers });
    }

    fn add_index(&mut self, ImageOptions { media_types, annotations, .. }: &ImageOptions) {
        let images = self.images.iter().map(|image| &image.descriptor);
        let index = Index {
            media_type: media_types.index().to_owned(),
            annotations: annotations.at(AnnotationPlace::Index, None),
            ..Index::of(images.chain(self.attestations()).cloned().collect())
        };
        let bytes = json(&index);
        // One without attestations is none any more.
        if self.images.iter().all(|image| image.descriptor.digest != self.root.digest) {
            self.documents.remove(&self.root.digest);
        }
        self.root = Descriptor::of(media_types.index(), &bytes);
        self.root.annotations = annotations.at(AnnotationPlace::IndexDescriptor, None);
        self.documents.insert(self.root.digest, bytes);
    }

    fn add_blob(&mut self, store: &Store, digest: &Digest) -> Result<(), ImageError> {
        let lost = || ImageError::LostBlob { what: "layer", digest: *digest };
        self.blobs.insert(*digest, store.blob(digest)?.ok_or_else(lost)?);
        Ok(())
    }

    /// The image with the documents that the store has of it; none if one of them, or a blob that they name, cannot be
    /// had.
    fn as_it_came(
        images: &Images,
        record: &ImageRecord,
        names: &[Reference],
        lazy_base: bool,
        cancel: &Cancel,
    ) -> Result<Option<Self>, ImageError> {
        let mut package = Self::empty(names);
        let listed = match &record.index {
            None => Vec::new(),
            Some(index) => {
                let Some(bytes) = images.store().read_blob(&index.digest, MANIFEST_LIMIT)? else { return Ok(None) };
                let Document::Index(document) = documents::read_document(&bytes, "", "the index of an image")? else {
                    return Ok(None);
                };
                let (document, bytes) = as_far_as_here(document, bytes, &index.images);
                package.root = Descriptor::of(&document_type(&document.media_type, MediaTypes::index), &bytes);
                package.documents.insert(package.root.digest, bytes);
                document.manifests
            }
        };
        let attestations = listed.iter().filter(|descriptor| choose::is_attestation(descriptor));
        for descriptor in attestations {
            if !package.add_attached(images.store(), descriptor)? {
                return Ok(None);
            }
        }
        let listed = listed.into_iter().map(|descriptor| (descriptor.digest, descriptor)).collect();
        for image in record.platforms() {
            let Some(descriptor) = package.add_as_it_came(images, &image, &listed, lazy_base, cancel)? else {
                return Ok(None);
            };
            if record.index.is_none() {
                package.root = descriptor;
            }
        }
        Ok(Some(package))
    }

    /// Adds the attestations that this manifest has; `false` if one of its documents is not here.
    fn add_attached(&mut self, store: &Store, descriptor: &Descriptor) -> Result<bool, ImageError> {
        let Some(bytes) = store.read_blob(&descriptor.digest, MANIFEST_LIMIT)? else { return Ok(false) };
        let Manifest { config, layers, .. } = attest::read::manifest(&bytes, descriptor)?;
        self.documents.insert(descriptor.digest, bytes);
        for part in layers.iter().chain([&config]) {
            let Some(bytes) = store.read_blob(&part.digest, STATEMENT_LIMIT)? else { return Ok(false) };
            self.documents.insert(part.digest, bytes);
        }
        self.attached.push(PackedAttestations { descriptor: descriptor.clone(), config, layers });
        Ok(true)
    }

    fn add_as_it_came(
        &mut self,
        images: &Images,
        record: &ImageRecord,
        listed: &BTreeMap<Digest, Descriptor>,
        lazy_base: bool,
        cancel: &Cancel,
    ) -> Result<Option<Descriptor>, ImageError> {
        let store = images.store();
        let Some(digest) = record.manifest else { return Ok(None) };
        let Some(bytes) = store.read_blob(&digest, MANIFEST_LIMIT)? else { return Ok(None) };
        let Document::Manifest(manifest) = documents::read_document(&bytes, "", "the manifest of an image")? else {
            return Ok(None);
        };
        if !lazy_base {
            images.ensure_blobs(&record.layers, cancel)?;
        }
        for (descriptor, layer) in manifest.layers.iter().zip(&record.layers) {
            match store.blob(&descriptor.digest)? {
                Some(blob) => drop(self.blobs.insert(blob.digest, blob)),
                None if lazy_base && images.repository_of(layer, &descriptor.digest)?.is_some() => {}
                None => return Ok(None),
            }
        }
        let mut descriptor = listed.get(&digest).cloned().unwrap_or_else(|| {
            let media_type = document_type(&manifest.media_type, MediaTypes::manifest);
            Descriptor::of(&media_type, &bytes)
        });
        descriptor.platform = descriptor.platform.or_else(|| Some((&record.platform).into()));
        let config = inspect::config_bytes(store, record)?;
        self.push(record, &descriptor, &manifest.config, manifest.layers.clone());
        self.documents.extend([(record.id, config), (digest, bytes)]);
        Ok(Some(descriptor))
    }
}

/// An index as it came where all of its images are here; else one of those that are, with what is attested of them.
fn as_far_as_here(index: Index, bytes: Vec<u8>, images: &[PlatformImage]) -> (Index, Vec<u8>) {
    let here: HashSet<Digest> = images.iter().map(|image| image.manifest).collect();
    let is_here = |descriptor: &Descriptor| !choose::is_attestation(descriptor) && here.contains(&descriptor.digest);
    let about: HashSet<Digest> = attest::read::manifests(&index)
        .filter(|(about, _)| here.contains(about))
        .map(|(_, attestations)| attestations.digest)
        .collect();
    let is_away = |descriptor: &Descriptor| !choose::is_attestation(descriptor) && !here.contains(&descriptor.digest);
    // Images of an index within the index are listed there.
    if !index.manifests.iter().any(is_away) || !index.manifests.iter().any(is_here) {
        return (index, bytes);
    }
    let mut part = index;
    part.manifests.retain(|descriptor| is_here(descriptor) || about.contains(&descriptor.digest));
    let bytes = json(&part);
    (part, bytes)
}

/// What a document says that it is; OCI's may leave it out.
fn document_type(own: &str, default: fn(MediaTypes) -> &'static str) -> String {
    if own.is_empty() { default(MediaTypes::Oci).to_owned() } else { own.to_owned() }
}

/// The form in which a layer is exported.
pub(crate) fn layer_blob(store: &Store, layer: &Layer, options: &ImageOptions) -> Result<LayerBlob, ImageError> {
    let compression = options.compression.unwrap_or(DEFAULT_COMPRESSION);
    let known = || store.known_blob(&layer.diff_id)?.ok_or(ImageError::LostLayer(layer.diff_id));
    let came_as_blob = match layer.origin {
        Origin::Image => !store.is_clamped(&layer.diff_id)?,
        // From a cache elsewhere.
        Origin::Built => !store.has_layer(&layer.diff_id)?,
    };
    if came_as_blob {
        let known = known()?;
        let is_as_asked = std::mem::discriminant(&known.compression) == std::mem::discriminant(&compression);
        if is_as_asked || !options.force_compression {
            return Ok(known);
        }
    }
    match store.layer_blob(&layer.diff_id, compression) {
        // The same layer was pulled with some image before it was built here.
        Err(StoreError::NoArchive(_)) => known(),
        outcome => Ok(outcome?),
    }
}

/// Documents of plain maps, lists and texts always have a JSON form.
pub(super) fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}
