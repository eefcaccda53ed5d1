//! Fetching a whole image, and giving it its name here.

use std::time::SystemTime;

use kiln_cache::{ImageRecord, PlatformImage};
use kiln_solver::{Cancel, Digest, Platform};

use super::Images;
use crate::choose;
use crate::documents::{self, Document};
use crate::registry::MANIFEST_LIMIT;
use crate::{ImageError, Reference};

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What the reference stands for at the registry: the digest of a manifest or an index.
    pub digest: Digest,
    /// As the store lists it.
    pub record: ImageRecord,
    /// Whether the store had another image under this name, or none.
    pub is_new: bool,
}

impl Images {
    /// Fetches an image with all its layers, and gives it its name in the store once they are there.
    ///
    /// # Errors
    /// When it does not exist, or not for the platform that was asked for (else this machine's is preferred), or a
    /// registry cannot be reached or sends nonsense.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        cancel: &Cancel,
    ) -> Result<Pulled, ImageError> {
        let host = Platform::host();
        let (digest, resolved) = self.resolve_at_registry(reference, platform.unwrap_or(&host))?;
        let image = &resolved.image;
        let own = Platform::new(&image.os, &image.architecture, image.variant.as_deref());
        if let Some(platform) = platform.filter(|platform| !choose::runs_on(platform, &own)) {
            return Err(ImageError::Platform {
                name: reference.to_string(),
                platform: Box::new(platform.clone()),
                available: vec![own.to_string()],
            });
        }
        self.ensure(&resolved.layers, cancel)?;
        let id = self.config_of(&resolved.digest)?;
        let (layers, platform) = (resolved.layers.clone(), own.clone());
        let image = PlatformImage { id, manifest: resolved.digest, layers, platform };
        let record = ImageRecord {
            manifest: Some(resolved.digest),
            index: self.index_with_attestations(reference, &digest, image)?,
            ..ImageRecord::new(id, resolved.layers, own, SystemTime::now())
        };
        let name = reference.to_string();
        let is_new = self.store().image(&name)?.is_none_or(|known| known.identity() != record.identity());
        self.store().tag(&name, &record)?;
        Ok(Pulled { digest, record, is_new })
    }

    /// The digest of the config that a manifest of the store names.
    fn config_of(&self, manifest: &Digest) -> Result<Digest, ImageError> {
        let lost = ImageError::LostBlob { what: "manifest", digest: *manifest };
        let Some(bytes) = self.store().read_blob(manifest, MANIFEST_LIMIT)? else { return Err(lost) };
        match documents::read_document(&bytes, "", &manifest.to_string())? {
            Document::Manifest(manifest) => Ok(manifest.config.digest),
            Document::Index(_) => Err(lost),
        }
    }
}
