//! What a source turned out to be, for those who tell where an image comes from.

use kiln_cache::StoredLayer;
use kiln_solver::Digest;

/// What was found at a server or in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file: the SHA-256 of its content.
    File(Digest),
    /// A commit: 40 hexadecimal digits (SHA-1) or 64 (SHA-256).
    Commit(String),
}

impl Found {
    /// The file that is alone in a layer.
    pub fn file(layer: &StoredLayer) -> Option<Self> {
        layer.index().entries().find_map(|entry| entry.content).map(Self::File)
    }
}
