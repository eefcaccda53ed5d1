//! Blobs: files named by their digest.

use std::io::{self, Write};
use std::path::PathBuf;

use kiln_solver::Digest;

use crate::{Store, StoreError};

/// A blob that is in the store, whole and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The file.
    pub path: PathBuf,
}

/// Takes in the bytes of a new blob. Nothing stays when it is dropped before [`BlobWriter::commit`].
pub struct BlobWriter {}

impl BlobWriter {
    /// Makes the blob visible. `expected` is the digest and size that it must have, where they are known.
    ///
    /// # Errors
    /// When digest or size differ (then nothing stays), or the store cannot be written.
    pub fn commit(self, expected: Option<(Digest, u64)>) -> Result<Blob, StoreError> {
        todo!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        todo!()
    }
}

impl Store {
    /// The blob of this digest, if it is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        todo!()
    }

    /// The bytes of a blob of at most `limit` bytes, verified, if it is here.
    ///
    /// # Errors
    /// When it is larger or no longer has its digest, or the store cannot be read.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        todo!()
    }

    /// Stores a small blob at once.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        todo!()
    }
}
