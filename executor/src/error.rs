//! What can go wrong while a step is carried out, beside what its own folder names.

use kiln_cache::StoreError;
use kiln_solver::{Digest, StepError};

use crate::{BoxError, FileError};

/// Why a step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// Files could not be copied or made.
    #[error(transparent)]
    Files(FileError),
    /// Something could not be fetched.
    #[error(transparent)]
    Source(crate::sources::SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layers of an image could not be had.
    #[error(transparent)]
    Image(BoxError),
    /// The root of a layer cannot be read.
    #[error("cannot read the root of a layer: {0}")]
    Root(std::io::Error),
    /// A layer is neither in the store nor part of an image that could be fetched.
    #[error("layer `{0}` is no longer in the store; build again with `--no-cache`")]
    MissingLayer(Digest),
    /// A step names a context that nobody gave.
    #[error("there is no build context named `{0}`")]
    UnknownContext(String),
    /// A step refers to inputs or results that it does not have.
    #[error("malformed step: {0}")]
    Malformed(String),
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<crate::sources::SourceError> for ExecutorError {
    fn from(error: crate::sources::SourceError) -> Self {
        match error {
            crate::sources::SourceError::Cancelled => Self::Cancelled,
            other => Self::Source(other),
        }
    }
}

impl From<ExecutorError> for StepError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Cancelled => Self::Cancelled,
            other => Self::other(other),
        }
    }
}
