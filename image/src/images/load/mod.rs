//! Taking in archives of images: those of `docker save`, and OCI image layouts.
//!
//! [`archive`] makes the members of an archive known by name, [`contents`] says which images it has. Their layers come
//! into the store as those of a registry do, verified; an image gets its names when all of it is there.

mod archive;
mod contents;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use kiln_cache::{Compression, ImageIndex, ImageRecord, PlatformImage};
use kiln_solver::{Cancel, Digest, Layer, Platform};

use super::Images;
use super::fetch::Incoming;
use crate::registry::Failure;
use crate::spec::Descriptor;
use crate::{ImageError, Reference};
use archive::Archive;
pub use archive::Source;
use contents::{Contents, Listed};

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its names; none where it goes by its ID.
    pub names: Vec<Reference>,
    /// As the store lists it.
    pub record: ImageRecord,
}

impl Images {
    /// Takes in all images of an archive, compressed with gzip, bzip2, xz or Zstandard or not at all; each gets its
    /// names as soon as it is complete. Of images for several platforms all that are in the archive are taken, or the
    /// one for `platform`.
    ///
    /// # Errors
    /// When the archive is malformed or hostile, or what it holds is not what it says: images before that one stay.
    pub fn load(
        &self,
        source: Source<'_>,
        platform: Option<&Platform>,
        cancel: &Cancel,
    ) -> Result<Vec<Loaded>, ImageError> {
        let archive = Archive::open(self.store(), source, cancel)?;
        let contents = Contents::read(&archive, platform)?;
        contents.images.iter().map(|listed| self.load_image(&archive, listed, cancel)).collect()
    }

    fn load_image(&self, archive: &Archive, listed: &Listed, cancel: &Cancel) -> Result<Loaded, ImageError> {
        let mut images = Vec::with_capacity(listed.images.len());
        for image in &listed.images {
            for (layer, member) in image.layers.iter().zip(&image.members) {
                self.load_layer(archive, layer, member, cancel)?;
            }
            let id = self.store().put_blob(&image.config)?;
            if let Some(manifest) = &image.manifest {
                self.store().put_blob(manifest)?;
            }
            let manifest = image.manifest.as_deref().map(Digest::of);
            images.push((id, manifest, image.layers.clone(), image.platform.clone()));
        }
        let host = Platform::host();
        let suits = |(_, _, _, platform): &&(_, _, _, Platform)| crate::choose::runs_on(&host, platform);
        let main = images.iter().find(suits).or(images.first());
        let (id, manifest, layers, own) =
            main.ok_or_else(|| archive.refused("it has an image for no platform"))?.clone();
        let mut record = ImageRecord { manifest, ..ImageRecord::new(id, layers, own, SystemTime::now()) };
        if let Some(index) = &listed.index {
            let digest = self.store().put_blob(&index.bytes)?;
            let attached = index.attached.iter().map(|document| Ok(self.store().put_blob(document)?));
            let attached = attached.collect::<Result<Vec<_>, ImageError>>()?;
            let image = |(id, manifest, layers, platform)| -> Option<PlatformImage> {
                Some(PlatformImage { id, manifest: manifest?, layers, platform })
            };
            let images = images.into_iter().filter_map(image).collect();
            record.index = Some(ImageIndex { digest, images, attached });
        }
        for name in &listed.names {
            self.store().tag(&name.to_string(), &record)?;
        }
        if listed.names.is_empty() {
            self.store().tag(&record.identity().to_string(), &record)?;
        }
        Ok(Loaded { names: listed.names.clone(), record })
    }

    /// Brings a layer into the store, with the blob that it has in the archive.
    fn load_layer(&self, archive: &Archive, layer: &Layer, member: &str, cancel: &Cancel) -> Result<(), ImageError> {
        let here = self.store().layer(&layer.diff_id)?.is_some();
        let blob = Descriptor::new("", blob_digest(archive, layer, member, cancel)?, archive.size(member)?);
        if here && self.store().known_blob(&layer.diff_id)?.is_some_and(|known| known.digest == blob.digest) {
            return Ok(());
        }
        let incoming = Incoming {
            bytes: Box::new(archive.member(member)?),
            failure: Failure::default(),
            source: archive.name().to_owned(),
        };
        let compression = match here {
            true => self.take_in(layer, &blob, incoming, cancel)?,
            false => self.unpack_incoming(layer, &blob, incoming, cancel)?,
        };
        self.note_blob(layer, &kiln_cache::LayerBlob { digest: blob.digest, size: blob.size, compression })
    }
}

/// The digest that a layer's blob is to have: as its name says, that of the layer where it is not compressed, or else
/// whatever it has.
fn blob_digest(archive: &Archive, layer: &Layer, member: &str, cancel: &Cancel) -> Result<Digest, ImageError> {
    if let Some(digest) = member.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()) {
        return Ok(digest);
    }
    let mut first = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(archive.member(member)?, 4), &mut first);
    read.map_err(ImageError::io("read", archive.name()))?;
    match Compression::of_stream(&first) {
        Compression::Uncompressed => Ok(layer.diff_id),
        _ => archive.digest(member, cancel),
    }
}
