//! Fetching a whole image, and giving it its name here.

use std::time::SystemTime;

use kiln_cache::{ImageIndex, ImageRecord, PlatformImage};
use kiln_solver::{Cancel, Digest, Layer, Platform};

use super::attached::attestations;
use super::{Images, Resolved};
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
        self.name_pulled(reference, digest, record)
    }

    /// The same for an image with an index: its images for all platforms.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub fn pull_all(&self, reference: &Reference, cancel: &Cancel) -> Result<Pulled, ImageError> {
        let found = self.resolve_all(reference)?;
        let Some(index) = found.index.filter(|_| !found.images.is_empty()) else {
            return self.pull(reference, None, cancel);
        };
        // What several of them have is fetched once.
        let layers: Vec<Layer> = found.images.iter().flat_map(|(_, image)| image.layers.iter().copied()).collect();
        self.ensure(&layers, cancel)?;
        let image = |(platform, image): (Platform, Resolved)| {
            let id = self.config_of(&image.digest)?;
            Ok(PlatformImage { id, manifest: image.digest, layers: image.layers, platform })
        };
        let images = found.images.into_iter().map(image).collect::<Result<Vec<_>, ImageError>>()?;
        let attached = self.fetch_attached(reference, attestations(&index))?;
        let record = ImageRecord::of_index(ImageIndex { digest: found.digest, images, attached }, |platform| {
            choose::runs_on(&Platform::host(), platform)
        });
        // There is one image at least.
        let record = record.ok_or(ImageError::LostBlob { what: "index", digest: found.digest })?;
        self.name_pulled(reference, found.digest, record)
    }

    fn name_pulled(&self, reference: &Reference, digest: Digest, record: ImageRecord) -> Result<Pulled, ImageError> {
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
