//! Checks a layer that a power loss may have damaged.

use std::io;
use std::path::Path;

use super::commit::{self, Owners};
use crate::index::Index;
use crate::{StoreError, Whiteouts};

/// Whether the files of a layer are, in every byte and attribute, what its index says, and the index is whole.
///
/// # Errors
/// When the disk fails; a layer that is not there, or not a layer any more, is an answer.
pub(crate) fn is_whole(directory: &Path, whiteouts: Whiteouts) -> Result<bool, StoreError> {
    let path = directory.join("index");
    let recorded = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        recorded => recorded.map_err(StoreError::io("read", &path))?,
    };
    let Ok(index) = Index::open(&path) else { return Ok(false) };
    let owners = match whiteouts {
        Whiteouts::Trusted => Owners::new(),
        // A user namespace need not be able to show the owners that the index names.
        Whiteouts::User => index.entries().map(|entry| (entry.path.to_vec(), (entry.uid, entry.gid))).collect(),
    };
    match commit::scan(&directory.join("files"), whiteouts, &owners) {
        Ok((builder, _)) => Ok(builder.finish().0 == recorded),
        Err(StoreError::Io { source, .. }) if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Ok(false)
        }
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(StoreError::Unstorable { .. } | StoreError::ChangedFile { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
