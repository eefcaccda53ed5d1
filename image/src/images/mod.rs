//! Finding images and bringing their layers into the store.

mod attached;
mod fetch;
mod flights;
mod intake;
pub mod load;
mod pull;
mod resolve;
mod source;
mod watched;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kiln_cache::{ImageRecord, LayerBlob, Promise, Store};
use kiln_solver::{Cancel, Digest, Layer, Origin, Platform};

use crate::actions::ActionsCache;
use crate::bucket::Bucket;
use crate::registry::{CONFIG_LIMIT, Patience, Registries};
use crate::spec::{Descriptor, Image, Manifest};
use crate::transfer::{Nobody, Watcher};
use crate::{ActionsSettings, BucketSettings, Configuration, Credentials, ImageError, Location, documents};
use flights::Flights;
pub use pull::Pulled;
pub(crate) use source::Source;
use source::Sources;

/// What [`Images`] works with.
pub struct Settings {
    /// Where images are kept.
    pub store: Arc<Store>,
    /// How registries are reached.
    pub configuration: Configuration,
    /// Who the user is there.
    pub credentials: Credentials,
    /// How long to wait for them.
    pub patience: Patience,
    /// Tells [`Images::resolve`] when to stop.
    pub cancel: Cancel,
}

/// Whether a registry is asked about an image that is known already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Only about what is missing.
    #[default]
    Missing,
    /// Always (`--pull`).
    Always,
}

/// An image that was found.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where, written out.
    pub reference: String,
    /// Its identity: the digest of the platform's manifest, or that of the config where it was built here.
    pub digest: Digest,
    /// Its config.
    pub image: Image,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// Finds images and fetches their layers. To be shared between threads; makes no thread and no connection
/// before one is needed.
pub struct Images {
    settings: Settings,
    registries: OnceLock<Arc<Registries>>,
    stacks: Mutex<HashMap<Digest, Vec<Layer>>>,
    sources: Sources,
    flights: Flights,
    watcher: Arc<dyn Watcher>,
    /// Why the first layer that a cache elsewhere promised could not be had.
    broken: Mutex<Option<String>>,
    buckets: Mutex<Vec<(BucketSettings, Arc<Bucket>)>>,
    actions: Mutex<Vec<(ActionsSettings, Arc<ActionsCache>)>>,
}

impl Images {
    /// Images by these settings.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            registries: OnceLock::new(),
            stacks: Mutex::default(),
            sources: Sources::default(),
            flights: Flights::default(),
            watcher: Arc::new(Nobody),
            broken: Mutex::default(),
            buckets: Mutex::default(),
            actions: Mutex::default(),
        }
    }

    /// Has somebody watch the blobs that are fetched and pushed.
    #[must_use]
    pub fn watched_by(self, watcher: Arc<dyn Watcher>) -> Self {
        Self { watcher, ..self }
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.settings.cancel
    }

    pub(crate) fn watcher(&self) -> &Arc<dyn Watcher> {
        &self.watcher
    }

    /// The store that they are kept in.
    pub fn store(&self) -> &Store {
        &self.settings.store
    }

    /// Finds an image: one of this name built here, else one pulled before, else at the registry.
    ///
    /// # Errors
    /// When it is nowhere, or not for this platform, or a registry cannot be reached or sends nonsense.
    pub fn resolve(&self, location: &Location, platform: &Platform, pull: Pull) -> Result<Resolved, ImageError> {
        let resolved = match location {
            Location::Reference(reference) => self.resolve_reference(reference, platform, pull)?,
            Location::Layout(layout) => self.resolve_layout(layout, platform)?,
        };
        self.stacks().insert(resolved.digest, resolved.layers.clone());
        Ok(resolved)
    }

    /// The layers of an image, the lowest first, by the digest that [`Images::resolve`] gave.
    ///
    /// # Errors
    /// When no image of this digest was ever resolved, or the store cannot be read.
    pub fn stack(&self, image: &Digest) -> Result<Vec<Layer>, ImageError> {
        if let Some(layers) = self.stacks().get(image) {
            return Ok(layers.clone());
        }
        let layers = self.stored_stack(image)?;
        self.stacks().insert(*image, layers.clone());
        Ok(layers)
    }

    /// Makes sure that layers are in the store, fetching and unpacking in parallel those that are not.
    ///
    /// # Errors
    /// When one cannot be fetched, is not what it should be, or the store cannot be written. What was
    /// unpacked by then stays.
    pub fn ensure(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), ImageError> {
        let present = |layer: &Layer| Ok(self.store().layer(&layer.diff_id)?.is_some());
        fetch::in_parallel(layers, cancel, present, |layer, cancel| self.fetch_layer(layer, cancel))
    }

    /// Makes sure that those of these layers are in the store which steps made, be it elsewhere.
    ///
    /// # Errors
    /// As for [`Images::ensure`].
    pub fn ensure_made(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), ImageError> {
        let made: Vec<Layer> = layers.iter().filter(|layer| layer.origin == Origin::Built).copied().collect();
        let present = |layer: &Layer| Ok(self.store().has_layer(&layer.diff_id)?);
        fetch::in_parallel(&made, cancel, present, |layer, cancel| self.fetch_layer(layer, cancel))
    }

    /// Takes note that a cache elsewhere has a layer.
    pub(crate) fn promise(&self, diff_id: Digest, promise: Promise, source: &Source, blob: &Descriptor) {
        self.sources.add(diff_id, source, blob);
        self.store().promise_layer(diff_id, promise);
    }

    /// Why the first layer that a cache elsewhere promised could not be had, if there is one.
    pub fn broken_promise(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing of a layer is here, neither its files nor a blob.
    pub(crate) fn is_elsewhere(&self, layer: &Layer) -> Result<bool, ImageError> {
        let is_made_here = layer.origin == Origin::Built && self.store().has_layer(&layer.diff_id)?;
        Ok(!is_made_here && self.store().known_blob(&layer.diff_id)?.is_none())
    }

    /// Makes sure that a blob of each of these layers is in the store, without unpacking those that are not.
    /// Layers that were made here are left to be compressed.
    pub(crate) fn ensure_blobs(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), ImageError> {
        let present = |layer: &Layer| Ok(!self.is_elsewhere(layer)?);
        fetch::in_parallel(layers, cancel, present, |layer, cancel| self.fetch_blob(layer, cancel).map(drop))
    }

    /// What an image runs on, by the digest that [`Images::resolve`] gave: none if its documents are not here any more.
    ///
    /// # Errors
    /// When the store cannot be read, or has what is malformed.
    pub fn platform_of(&self, image: &Digest) -> Result<Option<Platform>, ImageError> {
        let Some(bytes) = self.store().read_blob(image, CONFIG_LIMIT)? else { return Ok(None) };
        let name = image.to_string();
        let config = match documents::read_document(&bytes, "", &name) {
            Ok(documents::Document::Manifest(manifest)) => self.stored_config(&manifest)?,
            // That of an image that was built here.
            _ => Some(documents::read_config(&bytes, &name)?),
        };
        Ok(config.map(|config| config.platform()))
    }

    fn stored_stack(&self, image: &Digest) -> Result<Vec<Layer>, ImageError> {
        let store = self.store();
        let built = |(_, record): (String, ImageRecord)| (record.id == *image).then_some(record.layers);
        if let Some(layers) = store.images()?.into_iter().find_map(built) {
            return Ok(layers);
        }
        let lost = |what, digest: &Digest| ImageError::LostBlob { what, digest: *digest };
        let name = image.to_string();
        let bytes = store.read_blob(image, CONFIG_LIMIT)?.ok_or_else(|| lost("manifest", image))?;
        let Ok(documents::Document::Manifest(manifest)) = documents::read_document(&bytes, "", &name) else {
            return Err(lost("manifest", image));
        };
        let config = self.stored_config(&manifest)?.ok_or_else(|| lost("config", &manifest.config.digest))?;
        documents::layers(&manifest, &config, &name)
    }

    fn stored_config(&self, manifest: &Manifest) -> Result<Option<Image>, ImageError> {
        let digest = &manifest.config.digest;
        let bytes = self.store().read_blob(digest, CONFIG_LIMIT)?;
        bytes.map(|bytes| documents::read_config(&bytes, &digest.to_string())).transpose()
    }

    pub(crate) fn registries(&self) -> &Arc<Registries> {
        let make = || {
            let Settings { configuration, credentials, patience, .. } = &self.settings;
            Arc::new(Registries::new(configuration.clone(), credentials.clone(), patience.clone()))
        };
        self.registries.get_or_init(make)
    }

    /// A bucket by its settings.
    pub(crate) fn bucket(&self, settings: &BucketSettings) -> Result<Arc<Bucket>, ImageError> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bucket)) = buckets.iter().find(|(known, _)| known == settings) {
            return Ok(bucket.clone());
        }
        let Settings { configuration, patience, .. } = &self.settings;
        let bucket = Arc::new(Bucket::new(settings, configuration, patience)?);
        buckets.push((settings.clone(), bucket.clone()));
        Ok(bucket)
    }

    pub(crate) fn actions(&self, settings: &ActionsSettings) -> Result<Arc<ActionsCache>, ImageError> {
        let mut all = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cache)) = all.iter().find(|(known, _)| known == settings) {
            return Ok(cache.clone());
        }
        let Settings { configuration, patience, .. } = &self.settings;
        let cache = Arc::new(ActionsCache::new(settings, configuration, patience)?);
        all.push((settings.clone(), cache.clone()));
        Ok(cache)
    }

    fn stacks(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Vec<Layer>>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_blob(&self, layer: &Layer, blob: &LayerBlob) -> Result<(), ImageError> {
        Ok(self.store().remember_blob(&layer.diff_id, blob)?)
    }
}
