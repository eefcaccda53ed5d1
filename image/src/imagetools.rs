//! Images at registries, looked at and put together without fetching their layers: `kiln imagetools`.
//!
//! [`find`] gets what a name means, [`combine`] makes one index of the manifests of several, and [`Combined::parcel`] is
//! that with everything that belongs to it, to be pushed: blobs that the registry cannot take from another repository
//! of its own pass through this machine, one file at a time.

mod combine;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use kiln_solver::{Cancel, Platform};

pub use crate::documents::Document;
pub use combine::{Combined, combine};

use crate::attest::read::{self, Attested};
use crate::documents;
use crate::push::{self, Parcel, ParcelBlob, Place};
use crate::registry::CONFIG_LIMIT;
use crate::spec::{Descriptor, Manifest, media_type};
use crate::{ImageError, Images, Reference, choose};

/// An index may list indexes, but not for ever.
const DEEPEST_INDEX: usize = 4;

/// What a registry has under a name.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name.
    pub reference: Reference,
    /// What it is, its digest and size; with what an index said of it where that is where it comes from.
    pub descriptor: Descriptor,
    /// Its bytes, as they came.
    pub bytes: Vec<u8>,
    /// What they say.
    pub document: Document,
}

/// Gets the manifest or index of a name.
///
/// # Errors
/// When the registry does not have it or cannot be asked, or it is no image.
pub fn find(images: &Images, reference: &Reference, cancel: &Cancel) -> Result<Found, ImageError> {
    let fetched = images.registries().manifest(reference, cancel)?;
    let document = documents::read_document(&fetched.bytes, &fetched.media_type, &reference.to_string())?;
    let descriptor = Descriptor::of(&type_of(&document, &fetched.media_type), &fetched.bytes);
    Ok(Found { reference: reference.clone(), descriptor, bytes: fetched.bytes, document })
}

/// What a document says that it is, or else the registry, or else the specification.
fn type_of(document: &Document, announced: &str) -> String {
    let (own, default) = match document {
        Document::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        Document::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
    };
    let known = |text: &&str| media_type::is_index(text) || media_type::is_manifest(text);
    [own.as_str(), announced].into_iter().find(known).unwrap_or(default).to_owned()
}

impl Found {
    /// The config of an image, as its bytes are; none of an index.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn config(&self, images: &Images) -> Result<Option<Vec<u8>>, ImageError> {
        match &self.document {
            Document::Manifest(manifest) if media_type::is_config(&manifest.config.media_type) => {
                images.small_blob(&self.reference, &manifest.config, "config", CONFIG_LIMIT).map(Some)
            }
            Document::Manifest(_) | Document::Index(_) => Ok(None),
        }
    }

    /// The images: of an index those that it lists, without attestations.
    ///
    /// # Errors
    /// When one cannot be fetched.
    pub fn images(&self, images: &Images, cancel: &Cancel) -> Result<Vec<(Platform, Found)>, ImageError> {
        let Document::Index(index) = &self.document else {
            let platform = self.platform(images)?.unwrap_or_else(Platform::host);
            return Ok(vec![(platform, self.clone())]);
        };
        let listed = index.manifests.iter().filter(|descriptor| !choose::is_attestation(descriptor));
        let image = |descriptor: &Descriptor| {
            let found = find(images, &self.reference.with_digest(descriptor.digest), cancel)?;
            let platform = match &descriptor.platform {
                Some(platform) => Some(platform.normalised()),
                None => found.platform(images)?,
            };
            Ok((platform.unwrap_or_else(Platform::host), found))
        };
        listed.map(image).collect()
    }

    /// What is attested of its images.
    ///
    /// # Errors
    /// When something cannot be fetched or is malformed.
    pub fn attested(&self, images: &Images, cancel: &Cancel) -> Result<Vec<Attested>, ImageError> {
        let Document::Index(index) = &self.document else { return Ok(Vec::new()) };
        read::read(
            index,
            |_| true,
            |descriptor| {
                let reference = self.reference.with_digest(descriptor.digest);
                if media_type::is_manifest(&descriptor.media_type) {
                    return Ok(Some(images.registries().manifest(&reference, cancel)?.bytes));
                }
                images.small_blob(&reference, descriptor, "attestation", crate::attest::STATEMENT_LIMIT).map(Some)
            },
        )
    }

    /// What the config says that it is for.
    fn platform(&self, images: &Images) -> Result<Option<Platform>, ImageError> {
        let Some(bytes) = self.config(images)? else { return Ok(None) };
        let config = documents::read_config(&bytes, &self.reference.to_string())?;
        Ok(Some(config.platform()).filter(|platform| !platform.architecture.is_empty()))
    }
}

/// Gathers a document and all that it refers to, each once; what others refer to comes first.
struct Gathering<'a> {
    images: &'a Images,
    cancel: &'a Cancel,
    seen: HashSet<kiln_solver::Digest>,
    parcel: Parcel,
}

impl<'a> Gathering<'a> {
    fn new(images: &'a Images, cancel: &'a Cancel) -> Self {
        let parcel = Parcel { documents: Vec::new(), blobs: Vec::new() };
        Self { images, cancel, seen: HashSet::new(), parcel }
    }

    fn add(&mut self, repository: &Reference, descriptor: &Descriptor, depth: usize) -> Result<(), ImageError> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let reference = repository.with_digest(descriptor.digest);
        let found = find(self.images, &reference, self.cancel)?;
        self.add_found(&found, depth)
    }

    fn add_found(&mut self, found: &Found, depth: usize) -> Result<(), ImageError> {
        match &found.document {
            Document::Manifest(manifest) => self.add_blobs(&found.reference, manifest),
            Document::Index(_) if depth >= DEEPEST_INDEX => {
                let reason = format!("indexes are nested more than {DEEPEST_INDEX} deep");
                return Err(ImageError::Malformed { what: "index", name: found.reference.to_string(), reason });
            }
            Document::Index(index) => {
                for descriptor in &index.manifests {
                    self.add(&found.reference, descriptor, depth + 1)?;
                }
            }
        }
        let media_type = found.descriptor.media_type.clone();
        self.parcel.documents.push(push::Document { media_type, bytes: found.bytes.clone() });
        Ok(())
    }

    /// Whatever a manifest names, an image's or not; but for layers that no registry has.
    fn add_blobs(&mut self, repository: &Reference, manifest: &Manifest) {
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let own = blobs.filter(|descriptor| !media_type::is_foreign_layer(&descriptor.media_type));
        let place = Place::Elsewhere(Reference { tag: None, digest: None, ..repository.clone() });
        self.parcel
            .blobs
            .extend(own.map(|descriptor| ParcelBlob { descriptor: descriptor.clone(), at: place.clone() }));
    }
}
