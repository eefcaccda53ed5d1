//! Running as an ordinary user: moving into a user namespace where that user is root.

use std::io;

/// What this process is, and so what its sandboxes can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The machine's root.
    Root,
    /// An ordinary user, root of a user namespace that has a range of further ids.
    UserRange,
    /// An ordinary user, root of a user namespace that has no id but that one. Files keep no other owner.
    UserSingle {
        /// Why there are no more ids.
        why: String,
    },
    /// Root of a user namespace that somebody else made, such as that of a container.
    NestedRoot,
}

/// Why a process could not move into a user namespace.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// The kernel refused.
    #[error("cannot {what}: {source}\nhint: {hint}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// How.
        source: io::Error,
        /// What to enable.
        hint: String,
    },
}

impl Identity {
    /// Whether it lives in a user namespace: overlayfs keeps its marks in `user.*` attributes there.
    pub fn in_user_namespace(&self) -> bool {
        !matches!(self, Self::Root)
    }
}

/// Finds out what this process is; as an ordinary user, moves it into a user namespace and a mount namespace of
/// its own. To be called once, first thing, while the process has a single thread.
///
/// # Errors
/// When the kernel does not let ordinary users make user namespaces, with what to do about it.
pub fn enter() -> Result<Identity, RootlessError> {
    todo!()
}
