//! Layers that are not here but could be had: those that a cache elsewhere has.
//!
//! What a step makes of such a layer is decided by what is promised of it, and it is fetched only when its files or
//! its bytes are needed. One that then is not what was promised is refused. Promises last as long as the open store:
//! nothing on the disk ever depends on them.

use std::sync::PoisonError;
use std::time::SystemTime;

use kiln_solver::{Digest, Hasher, Layer, Origin, Output};

use crate::{Store, StoreError};

/// What is promised of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The digest of all that it holds but modification times, see [`StoredLayer::content`](crate::StoredLayer::content);
    /// absent where whoever has it does not know.
    pub content: Option<Digest>,
    /// When it was made.
    pub created: SystemTime,
}

impl Store {
    /// Takes note of a layer that could be had. What is known of its content by then stays.
    pub fn promise_layer(&self, diff_id: Digest, promise: Promise) {
        let mut promises = self.inner().promises.lock().unwrap_or_else(PoisonError::into_inner);
        let known = promises.entry(diff_id).or_insert(promise);
        if promise.content.is_some() {
            *known = promise;
        }
    }

    /// What is promised of a layer, be it here or not.
    pub fn promise(&self, diff_id: &Digest) -> Option<Promise> {
        self.inner().promises.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).copied()
    }

    /// Forgets all promises: they turned out to be worth nothing.
    pub fn forget_promises(&self) {
        self.inner().promises.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The digest of all that a layer holds but modification times: of one that is here, or else as promised.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer_content(&self, diff_id: &Digest) -> Result<Option<Digest>, StoreError> {
        let here = self.layer(diff_id)?.map(|layer| layer.content());
        Ok(here.or_else(|| self.promise(diff_id)?.content))
    }

    /// Whether every layer of these outputs is here that running a step again would have to bring back otherwise.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_outputs(&self, outputs: &[Output]) -> Result<bool, StoreError> {
        let trees = outputs.iter().filter_map(|output| match output {
            Output::Layers(layers) => Some(layers),
            Output::Local(_) => None,
        });
        for layer in trees.flatten().filter(|layer: &&Layer| layer.origin == Origin::Built) {
            if !self.has_layer(&layer.diff_id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has a layer that came as was promised count as made here, if it is one that kiln would write the same way: then
    /// it can be written again, whatever becomes of the blob that it came as.
    pub(crate) fn adopt(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let Some(layer) = self.layer(diff_id)? else { return Ok(()) };
        if !layer.is_imported() {
            return Ok(());
        }
        let mut hasher = Hasher::new();
        layer.write_blocks_until(i64::MAX, |block| {
            hasher.update(block.filled());
            Ok(block)
        })?;
        if hasher.finish() != *diff_id {
            return Ok(());
        }
        self.inner().database.write(|transaction| {
            let update = "UPDATE layers SET imported = 0 WHERE diff_id = ?1";
            transaction.prepare_cached(update)?.execute([diff_id.as_bytes()])?;
            Ok(())
        })?;
        self.inner().open_layers.lock().unwrap_or_else(PoisonError::into_inner).remove(diff_id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;
    use crate::StoreError;
    use crate::testing::*;

    const MADE: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_layer_that_is_as_promised_counts_as_made_here() {
        let (_root, here) = store();
        let original = layer(&here, |files| {
            fill_with_everything(files);
            make_node(&files.join("usr/gone"), rustix::fs::FileType::CharacterDevice, 0, 0);
            set_xattr(&files.join("sticky"), "trusted.overlay.opaque", b"y");
        });
        let bytes = archive(&original);
        let (_root, there) = store();
        let promise = Promise { content: Some(original.content()), created: MADE + Duration::from_secs(9) };
        there.promise_layer(*original.diff_id(), promise);
        assert_eq!(there.layer_content(original.diff_id()).unwrap(), Some(original.content()));
        let outputs = [Output::Layers(vec![Layer { diff_id: *original.diff_id(), origin: Origin::Built }])];
        assert!(!there.has_outputs(&outputs).unwrap());
        there.import_layer(&mut Cursor::new(&bytes), original.diff_id()).unwrap();
        assert!(there.has_outputs(&outputs).unwrap());
        let copy = there.layer(original.diff_id()).unwrap().unwrap();
        assert_eq!(copy.created(), promise.created);
        assert_eq!(archive(&copy), bytes);
    }

    #[test]
    fn an_archive_that_kiln_would_write_otherwise_stays_imported() {
        let (_root, there) = store();
        // One more block of zeros at the end.
        let bytes = vec![0; 1536];
        let (_other, other) = store();
        let content = import(&other, &bytes).unwrap().content();
        there.promise_layer(Digest::of(&bytes), Promise { content: Some(content), created: MADE });
        import(&there, &bytes).unwrap();
        assert!(there.layer(&Digest::of(&bytes)).unwrap().unwrap().is_imported());
    }

    #[test]
    fn a_layer_that_breaks_its_promise_is_refused() {
        let (_root, here) = store();
        let original = layer(&here, |files| std::fs::write(files.join("a"), "a").unwrap());
        let bytes = archive(&original);
        let (_root, there) = store();
        there.promise_layer(*original.diff_id(), Promise { content: Some(Digest::of(b"another")), created: MADE });
        let error = there.import_layer(&mut Cursor::new(&bytes), original.diff_id()).unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { what: "the content of the layer", .. }), "{error}");
        assert!(there.layer(original.diff_id()).unwrap().is_none());
        assert_eq!(left_in_tmp(&there), 0);
    }
}
