//! One blob for a repository: nothing moves if it is there, or if the registry can take it from a repository of its own.

use kiln_cache::Scratch;
use kiln_solver::{Cancel, Layer};

use super::{ParcelBlob, Place};
use crate::registry::{Content, Presence, Upload};
use crate::transfer::{Direction, Spared, Transfer};
use crate::{ImageError, Images, Reference};

/// Makes sure that a repository has a blob.
pub(super) fn deliver(
    images: &Images,
    blob: &ParcelBlob,
    target: &Reference,
    done: &[Reference],
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let (digest, size) = (blob.descriptor.digest, blob.descriptor.size);
    let transfer = Transfer { direction: Direction::Push, digest, size };
    let (registries, watcher) = (images.registries(), images.watcher());
    if registries.has_blob(target, &digest, cancel)? {
        watcher.spared(&transfer, &Spared::There);
        return Ok(());
    }
    let mut begun = None;
    for from in others(images, blob, target, done)? {
        match registries.mount_blob(target, &digest, &from, cancel)? {
            Presence::There => {
                watcher.spared(&transfer, &Spared::Mounted(from));
                return Ok(());
            }
            Presence::Absent(upload) => begun = upload.or(begun),
        }
    }
    let (content, _passing) = content(images, blob, cancel)?;
    watcher.started(&transfer);
    let (told, told_of) = (watcher.clone(), transfer);
    let upload = Upload { digest, size, content, told: std::sync::Arc::new(move |sent| told.moved(&told_of, sent)) };
    let sent = registries.send_blob(target, &upload, begun, cancel);
    watcher.ended(&transfer, sent.is_ok());
    sent
}

/// Other repositories of the same registry that have the blob, as far as is known.
fn others(
    images: &Images,
    blob: &ParcelBlob,
    target: &Reference,
    done: &[Reference],
) -> Result<Vec<String>, ImageError> {
    let source = match &blob.at {
        Place::Layer(layer) => images.repository_of(layer, &blob.descriptor.digest)?,
        Place::Elsewhere(repository) => Some(repository.clone()),
        Place::Here(_) => None,
    };
    // The last repository that this very blob was pushed to has it for certain.
    let known = done.iter().rev().find(|other| other.registry == target.registry).cloned().into_iter().chain(source);
    let fits = |other: &Reference| other.registry == target.registry && other.repository != target.repository;
    let mut names: Vec<String> = known.filter(fits).map(|other| other.repository).collect();
    names.dedup();
    Ok(names)
}

/// The bytes of a blob, which are fetched now if they are elsewhere; with the directory that they are in, where that is
/// for this alone.
fn content(images: &Images, blob: &ParcelBlob, cancel: &Cancel) -> Result<(Content, Option<Scratch>), ImageError> {
    match &blob.at {
        Place::Here(content) => Ok((content.clone(), None)),
        Place::Layer(layer) => layer_content(images, blob, layer, cancel).map(|content| (content, None)),
        Place::Elsewhere(repository) => {
            let scratch = images.store().scratch()?;
            let path = scratch.path().join("blob");
            images.fetch_to(repository, &blob.descriptor, &path, cancel)?;
            Ok((Content::File(path), Some(scratch)))
        }
    }
}

fn layer_content(images: &Images, blob: &ParcelBlob, layer: &Layer, cancel: &Cancel) -> Result<Content, ImageError> {
    let digest = blob.descriptor.digest;
    if let Some(stored) = images.store().blob(&digest)? {
        return Ok(Content::File(stored.path));
    }
    images.fetch_blob(layer, cancel)?;
    let stored = images.store().blob(&digest)?.ok_or(ImageError::LostBlob { what: "layer", digest })?;
    Ok(Content::File(stored.path))
}
