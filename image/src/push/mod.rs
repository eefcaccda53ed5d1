//! Pushing images: blobs first and in parallel, those that the registry lacks alone; then the manifests, those that
//! others refer to first. So nothing is ever named that is not whole.

mod deliver;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kiln_solver::{Cancel, Digest, Layer};

use crate::registry::Content;
use crate::spec::Descriptor;
use crate::{ImageError, Images, Reference, parallel};

/// How many blobs are sent at a time.
const MOST_AT_A_TIME: usize = 4;

/// What is pushed: an image, or an index of images.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Manifests and indexes, each behind those that it refers to. The last one is what gets the names.
    pub(crate) documents: Vec<Document>,
    /// All other blobs that they refer to.
    pub(crate) blobs: Vec<ParcelBlob>,
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// A config, a layer, or whatever else a manifest refers to.
#[derive(Clone, Debug)]
pub(crate) struct ParcelBlob {
    pub(crate) descriptor: Descriptor,
    pub(crate) at: Place,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Here.
    Here(Content),
    /// A layer, here or where it was pulled from: it is fetched if the registry turns out to lack it.
    Layer(Layer),
    /// In this repository: it passes through this machine if the registry turns out to lack it.
    Elsewhere(Reference),
}

/// Under which names something is pushed.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The names; those of one repository share its blobs.
    pub names: Vec<Reference>,
    /// Whether the repositories of the names get no tags: what is pushed goes by its digest.
    pub by_digest: bool,
}

impl Parcel {
    /// The digest of what gets the names.
    pub fn digest(&self) -> Option<Digest> {
        self.documents.last().map(|document| Digest::of(&document.bytes))
    }

    /// The size of what gets the names, in bytes.
    pub fn manifest_size(&self) -> usize {
        self.documents.last().map_or(0, |document| document.bytes.len())
    }
}

/// Pushes a parcel.
///
/// # Errors
/// When a registry does not let it, cannot be reached, or fails again and again. What has arrived by then stays
/// there, but nothing has got a name in the repository that it failed for.
pub fn push(images: &Images, parcel: &Parcel, targets: &Targets, cancel: &Cancel) -> Result<(), ImageError> {
    let mut repositories: Vec<(String, Vec<&Reference>)> = Vec::new();
    for name in &targets.names {
        match repositories.iter_mut().find(|(known, _)| *known == name.name()) {
            Some((_, names)) => names.push(name),
            None => repositories.push((name.name(), vec![name])),
        }
    }
    let mut done: Vec<Reference> = Vec::new();
    for (_, names) in repositories {
        let Some(&first) = names.first() else { continue };
        push_to(images, parcel, first, &names, &done, targets.by_digest, cancel)?;
        done.push(first.clone());
    }
    Ok(())
}

fn push_to(
    images: &Images,
    parcel: &Parcel,
    repository: &Reference,
    names: &[&Reference],
    done: &[Reference],
    by_digest: bool,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let mut blobs: Vec<&ParcelBlob> = Vec::with_capacity(parcel.blobs.len());
    for blob in &parcel.blobs {
        if !blobs.iter().any(|known| known.descriptor.digest == blob.descriptor.digest) {
            blobs.push(blob);
        }
    }
    parallel::for_each(blobs, MOST_AT_A_TIME, cancel, |blob, cancel| {
        deliver::deliver(images, blob, repository, done, cancel)
    })?;
    let Some((root, parts)) = parcel.documents.split_last() else { return Ok(()) };
    let put = |name: &Reference, document: &Document| {
        images.registries().put_manifest(name, &document.media_type, &document.bytes, cancel)
    };
    let untagged = |document: &Document| repository.with_digest(Digest::of(&document.bytes));
    for part in parts {
        put(&untagged(part), part)?;
    }
    if by_digest {
        return put(&untagged(root), root);
    }
    names.iter().try_for_each(|name| put(name, root))
}

impl Content {
    /// These bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::Bytes(Arc::from(bytes))
    }
}
