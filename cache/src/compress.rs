//! Compressed archives of layers.

use std::io::{self, BufRead, Read};

use kiln_solver::Digest;

use crate::{Store, StoreError};

/// How the archive of a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// gzip.
    Gzip {
        /// 1 to 9; 0 for a blob that was made elsewhere.
        level: u8,
    },
    /// Zstandard.
    Zstd {
        /// 1 to 19; 0 for a blob that was made elsewhere.
        level: u8,
    },
}

/// One form of a layer's archive that is in the store as a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// The digest of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// Undoes gzip (of any number of members) or Zstandard, whichever the first bytes tell; other streams pass as they are.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress<'a>(input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    todo!()
}

impl Store {
    /// A blob of this layer in this compression: found, or made now. The same layer and compression give the
    /// same bytes on any machine.
    ///
    /// # Errors
    /// When the layer is not here, was imported without its blob, or the store cannot be written.
    pub fn layer_blob(&self, diff_id: &Digest, compression: Compression) -> Result<LayerBlob, StoreError> {
        todo!()
    }

    /// A blob of this layer in whatever compression is here; the one it was pulled as, if it was pulled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn known_blob(&self, diff_id: &Digest) -> Result<Option<LayerBlob>, StoreError> {
        todo!()
    }

    /// Notes that a blob in the store is the archive of this layer.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_blob(&self, diff_id: &Digest, blob: &LayerBlob) -> Result<(), StoreError> {
        todo!()
    }
}
