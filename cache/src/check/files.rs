//! Whether the files of layers and blobs are what their rows say.

use super::{Depth, Problem, Stored};
use crate::layers::Fault;
use crate::{Store, StoreError, durability, layers};

impl Store {
    pub(super) fn check_layer(&self, layer: &Stored, depth: Depth) -> Result<Option<Problem>, StoreError> {
        let directory = self.inner().layer_directory(&layer.digest);
        let fault = match layers::check_sizes(&directory, self.whiteouts(), layer.content)? {
            None if depth == Depth::Contents => {
                // The archive of an imported layer is not known to be what kiln would write.
                let expected = (!layer.imported).then_some(layer.digest);
                layers::check_contents(&directory, self.whiteouts(), expected)?
            }
            fault => fault,
        };
        let problem =
            |fault: Fault| Problem::Layer { diff_id: layer.digest, reason: fault.to_string(), row: layer.row };
        Ok(fault.map(problem))
    }

    pub(super) fn check_blob(&self, blob: &Stored, depth: Depth) -> Result<Option<Problem>, StoreError> {
        let path = self.inner().blob_path(&blob.digest);
        let problem = |reason: &str| Problem::Blob { digest: blob.digest, reason: reason.to_owned(), row: blob.row };
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(problem("it is missing"))),
            metadata => metadata.map_err(StoreError::io("read", &path))?,
        };
        if !metadata.is_file() || metadata.len() != blob.size {
            return Ok(Some(problem("its size is not the one recorded")));
        }
        if depth == Depth::Contents && !durability::holds(&path, blob.digest, blob.size)? {
            return Ok(Some(problem("its bytes have another digest")));
        }
        Ok(None)
    }
}
