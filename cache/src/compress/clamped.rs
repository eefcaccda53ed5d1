//! Layers in which no file has changed later than some time, so that the same files always make the same image.
//!
//! Such a layer is there as a blob alone, as if it had been fetched: what it was made of is what steps are mounted on.

use std::time::SystemTime;

use kiln_solver::{Digest, Hasher};
use rusqlite::{OptionalExtension as _, params};

use super::{Compression, LayerBlob, Urgency};
use crate::{Store, StoreError, Timestamp, database};

impl Store {
    /// The layer that this one is when nothing in it has changed later than `latest`, in whole seconds: itself, where
    /// nothing has. Else a blob of that layer is in the store then; in this compression, if it was made now.
    ///
    /// # Errors
    /// When the layer is not here, the level does not exist, or the store cannot be written.
    pub fn clamp_layer(
        &self,
        diff_id: &Digest,
        latest: SystemTime,
        compression: Compression,
    ) -> Result<Digest, StoreError> {
        self.clamp_layer_with(diff_id, latest, compression, Urgency::Now)
    }

    pub(super) fn clamp_layer_with(
        &self,
        diff_id: &Digest,
        latest: SystemTime,
        compression: Compression,
        urgency: Urgency<'_>,
    ) -> Result<Digest, StoreError> {
        let latest = Timestamp::from(latest).seconds;
        if let Some(known) = self.find_clamped(diff_id, latest)? {
            return Ok(known);
        }
        compression.check()?;
        let layer = self.layer(diff_id)?.ok_or(StoreError::NoLayer(*diff_id))?;
        let is_older = layer.index().entries().all(|entry| entry.mtime.seconds <= latest);
        let clamped = if is_older { *diff_id } else { self.make_clamped(diff_id, latest, compression, urgency)? };
        let insert = "INSERT OR REPLACE INTO clamped (diff_id, latest, result) VALUES (?1, ?2, ?3)";
        self.inner().database.write(|transaction| {
            let parameters = params![diff_id.as_bytes(), latest, clamped.as_bytes()];
            transaction.prepare_cached(insert)?.execute(parameters)?;
            Ok(())
        })?;
        Ok(clamped)
    }

    /// Whether a layer was made of another one by [`Store::clamp_layer`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_clamped(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let query = "SELECT 1 FROM clamped WHERE result = ?1 AND diff_id != ?1";
        self.inner().database.read(|connection| connection.prepare_cached(query)?.exists([diff_id.as_bytes()]))
    }

    fn find_clamped(&self, diff_id: &Digest, latest: i64) -> Result<Option<Digest>, StoreError> {
        let query = "SELECT result FROM clamped WHERE diff_id = ?1 AND latest = ?2";
        let known = self.inner().database.read(|connection| {
            let mut query = connection.prepare_cached(query)?;
            query.query_row(params![diff_id.as_bytes(), latest], |row| database::digest(row, 0)).optional()
        })?;
        let Some(known) = known else { return Ok(None) };
        let is_here = known == *diff_id || self.known_blob(&known)?.is_some();
        Ok(is_here.then_some(known))
    }

    fn make_clamped(
        &self,
        diff_id: &Digest,
        latest: i64,
        compression: Compression,
        urgency: Urgency<'_>,
    ) -> Result<Digest, StoreError> {
        let layer = self.layer(diff_id)?.ok_or(StoreError::NoLayer(*diff_id))?;
        let (writer, clamped) = self.compress(compression, urgency, |pass_on| {
            let mut hasher = Hasher::new();
            layer.write_blocks_until(latest, |block| {
                hasher.update(block.filled());
                pass_on(block)
            })?;
            Ok(hasher.finish())
        })?;
        let blob = writer.commit(None)?;
        self.remember_blob(&clamped, &LayerBlob { digest: blob.digest, size: blob.size, compression })?;
        Ok(clamped)
    }
}
