//! Images by name, and references seen before.

use std::time::SystemTime;

use kiln_solver::{Digest, Layer, Platform};

use crate::{Store, StoreError};

/// An image of this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its config, which is a blob of the store.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What it runs on.
    pub platform: Platform,
    /// When it got this name.
    pub tagged: SystemTime,
}

impl Store {
    /// Gives an image a name (a normalised reference), taking it from another image if need be.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn tag(&self, name: &str, image: &ImageRecord) -> Result<(), StoreError> {
        todo!()
    }

    /// Takes a name away; `false` where nothing had it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        todo!()
    }

    /// The image with this name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>, StoreError> {
        todo!()
    }

    /// All names and their images, sorted by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<(String, ImageRecord)>, StoreError> {
        todo!()
    }

    /// Remembers which manifest a reference of a registry stood for.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_reference(
        &self,
        reference: &str,
        platform: &Platform,
        manifest: &Digest,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Which manifest a reference of a registry stood for when it was last seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn reference(&self, reference: &str, platform: &Platform) -> Result<Option<Digest>, StoreError> {
        todo!()
    }
}
