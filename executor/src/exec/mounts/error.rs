//! What can go wrong with the mounts of a command.

use std::io;
use std::path::PathBuf;

use kiln_cache::StoreError;

use crate::ExecutorError;

/// Why something could not be made ready to be mounted. No value of a secret is ever part of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// What a mount is to show cannot be had.
    #[error("cannot mount at `{destination}`: {source}")]
    Source {
        /// Where it was to be mounted.
        destination: String,
        /// Why not.
        source: Box<ExecutorError>,
    },
    /// An empty tree has no paths.
    #[error("cannot mount at `{destination}`: `{selector}` is looked for in an empty tree")]
    Empty {
        /// Where it was to be mounted.
        destination: String,
        /// The path.
        selector: String,
    },
    /// A secret is needed that nobody gave.
    #[error(
        "the secret `{id}` is needed {place} and was not given\nhint: give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`"
    )]
    NoSecret {
        /// Its name.
        id: String,
        /// Where.
        place: String,
    },
    /// A secret that no variable can hold.
    #[error("the secret `{id}` cannot be in the variable `{name}`: {reason}\nhint: mount it as a file")]
    NoText {
        /// Its name.
        id: String,
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An ssh agent is needed that nobody gave.
    #[error(
        "the ssh agent `{id}` is needed at `{destination}` and was not given\nhint: give it with `--ssh {id}`, or `--ssh {id}=SOCKET`, while an agent runs"
    )]
    NoAgent {
        /// Its name.
        id: String,
        /// Where.
        destination: String,
    },
    /// The socket of an agent could not be passed on.
    #[error("the ssh agent `{id}`: cannot {action}: {source}")]
    Agent {
        /// What was tried.
        action: &'static str,
        /// The name of the agent.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// The directory of a cache mount could not be had.
    #[error("cannot {action} `{}` for the cache mount `{id}`: {source}", path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The name of the cache.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// The step makes no sense.
    #[error("malformed step: {0}")]
    Malformed(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl MountError {
    /// Says where something was to be mounted.
    pub(super) fn at(destination: &str, source: impl Into<ExecutorError>) -> Self {
        match source.into() {
            ExecutorError::Cancelled => Self::Cancelled,
            source => Self::Source { destination: destination.to_owned(), source: Box::new(source) },
        }
    }
}
