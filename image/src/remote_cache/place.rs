//! Sends a cache to where it is kept.

use std::path::{Path, PathBuf};

use kiln_solver::{Cancel, Digest, Layer};

use super::wrap::{ExportOptions, Wrapped, wrap};
use super::{Actions, Gathered, Shelf, ShelfOptions};
use crate::export::{DirectorySink, LAYOUT_MARKER, Sink, blob_name};
use crate::layout::REF_NAME;
use crate::push::{Targets, push};
use crate::spec::{Descriptor, Index};
use crate::{ImageError, Images, Reference};

/// Where a cache is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPlace {
    /// An OCI layout directory, which may have others already.
    Local {
        /// The directory.
        directory: PathBuf,
        /// Its name there.
        tag: String,
    },
    /// A registry.
    Registry(Reference),
    /// A bucket.
    Bucket(Box<Shelf>, ShelfOptions),
    /// The cache of GitHub Actions.
    Actions(Box<Actions>),
}

/// Writes a cache; yields the digest of its manifest or index. Layers that the place has already are not looked at.
///
/// # Errors
/// When a layer cannot be had, or the place cannot be written.
pub fn export(
    images: &Images,
    gathered: &Gathered,
    place: &ExportPlace,
    options: &ExportOptions,
    cancel: &Cancel,
) -> Result<Digest, ImageError> {
    let wrapped = wrap(images, gathered, options, cancel)?;
    match place {
        ExportPlace::Local { directory, tag } => {
            DirectorySink::fill(directory, |sink| write(images, &wrapped, tag, directory, sink, cancel))?;
        }
        ExportPlace::Registry(reference) => {
            let targets = Targets { names: vec![reference.clone()], by_digest: false };
            push(images, &wrapped.parcel(), &targets, cancel)?;
        }
        ExportPlace::Actions(actions) => actions.write(images, &wrapped, cancel)?,
        ExportPlace::Bucket(shelf, options) => shelf.write(images, &wrapped, options, cancel)?,
    }
    Ok(wrapped.root.digest)
}

/// Writes everything; the index, which makes a cache of it all, comes last.
fn write(
    images: &Images,
    wrapped: &Wrapped,
    tag: &str,
    directory: &Path,
    sink: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let index = merged_index(wrapped, tag, sink)?;
    sink.directory("blobs")?;
    sink.directory("blobs/sha256")?;
    for (layer, descriptor) in &wrapped.layers {
        let name = blob_name(&descriptor.digest);
        let there = std::fs::symlink_metadata(directory.join(&name));
        // A blob is named by its digest: one of the right size is the right one.
        if !there.is_ok_and(|there| there.is_file() && there.len() == descriptor.size) {
            sink.blob(&name, &blob(images, layer, &descriptor.digest, cancel)?, cancel)?;
        }
    }
    for bytes in [&wrapped.ledger, &wrapped.config, &wrapped.root_bytes] {
        sink.document(&blob_name(&Digest::of(bytes)), bytes)?;
    }
    sink.document("oci-layout", LAYOUT_MARKER)?;
    sink.document("index.json", &serde_json::to_vec(&index).unwrap_or_default())?;
    sink.finish()
}

/// The blob of a layer, fetched if need be.
pub(super) fn blob(
    images: &Images,
    layer: &Layer,
    digest: &Digest,
    cancel: &Cancel,
) -> Result<kiln_cache::Blob, ImageError> {
    if images.store().blob(digest)?.is_none() {
        images.fetch_blob(layer, cancel)?;
    }
    images.store().blob(digest)?.ok_or(ImageError::LostBlob { what: "layer", digest: *digest })
}

/// The index of the layout: the cache under its name, and what was there under others.
fn merged_index(wrapped: &Wrapped, tag: &str, sink: &dyn Sink) -> Result<Index, ImageError> {
    let mut own: Descriptor = wrapped.root.clone();
    own.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    let Some(existing) = sink.existing("index.json")? else { return Ok(Index::of(vec![own])) };
    let mut index: Index = serde_json::from_slice(&existing).map_err(|error| ImageError::Malformed {
        what: "index",
        name: "index.json".to_owned(),
        reason: error.to_string(),
    })?;
    index.manifests.retain(|old| old.annotations.get(REF_NAME).map(String::as_str) != Some(tag));
    index.manifests.push(own);
    Ok(index)
}
