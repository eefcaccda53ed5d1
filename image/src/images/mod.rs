//! Finding images and bringing their layers into the store.

use std::sync::Arc;

use kiln_cache::Store;
use kiln_solver::{Cancel, Digest, Layer, Platform};

use crate::registry::Patience;
use crate::spec::Image;
use crate::{Configuration, Credentials, ImageError, Location};

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
}

impl Images {
    /// Images by these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
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
        todo!()
    }

    /// The layers of an image, the lowest first, by the digest that [`Images::resolve`] gave.
    ///
    /// # Errors
    /// When no image of this digest was ever resolved, or the store cannot be read.
    pub fn stack(&self, image: &Digest) -> Result<Vec<Layer>, ImageError> {
        todo!()
    }

    /// Makes sure that layers are in the store, fetching and unpacking in parallel those that are not.
    ///
    /// # Errors
    /// When one cannot be fetched, is not what it should be, or the store cannot be written. What was
    /// unpacked by then stays.
    pub fn ensure(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), ImageError> {
        todo!()
    }
}
