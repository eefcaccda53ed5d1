//! Observing what a command looks at in the layers above its base image.
//!
//! These layers are one FUSE file system, read-only and served by this process, that is to be an overlayfs lower
//! directory right above those of the base. overlayfs asks it only for what a command looks up in directories that it
//! has, and the kernel remembers each answer. What came to be asked is a list of facts, the [`Observations`]. If all of
//! them hold for another [`Union`] ([`Observations::check`]), over the same base, the command would do the same again.
//!
//! ```text
//! Union ──▶ Tracing::start ──▶ mount ──▶ the command ──▶ Tracing::finish ──▶ Observations
//!   │                                                                             │ with_result: the new layer's own
//! another Union ─────────────────────────────── check: the first Mismatch, if any ◀┘
//! ```
//!
//! A fact is never an inode number, a time or the order of a listing; how many names a file has, and which of the paths
//! that were looked at are one file, is one. Where it cannot be told whether
//! something was seen, it was seen: a miss costs time, a wrong hit costs trust.
//!
//! | file | |
//! |---|---|
//! | `union.rs` | the union of layers, from their indexes |
//! | `fact.rs` | what can be observed of a path |
//! | `observations.rs` | all that was observed: binary form, check |
//! | `mismatch.rs` | a fact that no longer holds, for people |
//! | `protocol.rs` | the kernel's FUSE protocol, as far as it is needed |
//! | `server.rs` | answers requests and takes down what they show |
//! | `connection.rs` | the mount and the thread |
//! | `ids.rs` | which owners there are in a user namespace |
//!
//! The protocol is our own, not that of a crate: of its forty requests a read-only tree that is known beforehand
//! needs a dozen. A crate's loop could be neither ended nor failed from outside, and a step whose server has died must
//! fail rather than hang or lose facts.

mod connection;
mod fact;
mod ids;
mod mismatch;
mod observations;
mod protocol;
mod server;
#[cfg(test)]
mod tests;
mod union;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use kiln_cache::{StoreError, StoredLayer};
use kiln_solver::{Layer, Origin};
use rustix::io::Errno;

pub use fact::{Kind, Seen};
pub use mismatch::{Change, Mismatch};
pub use observations::{DecodeError, Fact, Observations};
pub use union::Union;

use connection::Connection;
use server::Server;

/// How many of these layers, the lowest first, are the base that counts by identity: those up to the highest that came
/// with an image. The rest is what to observe.
pub fn base_length(layers: &[Layer]) -> usize {
    layers.iter().rposition(|layer| layer.origin == Origin::Image).map_or(0, |highest| highest + 1)
}

/// Why a command cannot be observed here. It can be run all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untraceable {
    /// There is no FUSE in this kernel or container.
    #[error("`/dev/fuse` is not there\nhint: load the kernel module `fuse`, or give the container the device")]
    NoDevice,
    /// This user may not use FUSE.
    #[error("`/dev/fuse` cannot be opened: {0}\nhint: it is usually open to everybody: `chmod 666 /dev/fuse`")]
    Device(io::Error),
    /// The kernel does not mount it.
    #[error("FUSE cannot be mounted: {0}")]
    Mount(io::Error),
    /// The kernel's FUSE is too old.
    #[error("this kernel's FUSE is too old: it takes Linux 4.20")]
    Kernel,
    /// The layers cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why there is nothing to say of what a command looked at. The command itself has failed, or seen errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The kernel and the server did not understand each other any more.
    #[error("cannot observe the command: the FUSE connection failed: {0}")]
    Connection(io::Error),
    /// The thread died of a bug.
    #[error("cannot observe the command: its file server died")]
    Died,
    /// A layer is not what its index says.
    #[error(transparent)]
    Store(StoreError),
}

/// A union that is mounted, and observed.
pub struct Tracing {
    union: Arc<Union>,
    connection: Connection,
}

impl Tracing {
    /// Mounts a union, attached nowhere, and begins to observe it. Directories list its whiteouts, too, for overlayfs to
    /// hide what lies beneath.
    ///
    /// # Errors
    /// When the machine does not let it: the command is to run over the plain layers then.
    pub fn start(union: Arc<Union>) -> Result<Self, Untraceable> {
        Self::begin(union, None)
    }

    /// The same for a union that is mounted over these layers, the lowest first. Whiteouts are listed only where one of
    /// them may have something to hide: overlayfs would show those of other directories as files that are not there.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_over(union: Arc<Union>, base: &[StoredLayer]) -> Result<Self, Untraceable> {
        Self::begin(union, Some(Union::new(base)))
    }

    fn begin(union: Arc<Union>, beneath: Option<Union>) -> Result<Self, Untraceable> {
        let connection = Connection::open(Server::new(union.clone(), beneath)?)?;
        Ok(Self { union, connection })
    }

    /// The mount for a sandbox: see [`crate::sandbox::Root::traced`].
    ///
    /// # Errors
    /// When no more files can be open.
    pub fn layer(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.connection.mount().try_clone()?))
    }

    /// The root of the mount, for use as an overlayfs lower directory right above those of the base. From Linux 6.15 on
    /// overlayfs takes it as `/proc/self/fd/N`; before, the mount must be attached somewhere in the mount namespace
    /// that the overlay is mounted from.
    pub fn mount(&self) -> BorrowedFd<'_> {
        self.connection.mount().as_fd()
    }

    /// What the command looked at, once every process of it is dead. What is still mounted anywhere gives nothing
    /// but errors from now on.
    ///
    /// # Errors
    /// When not all may be known: the step must fail.
    pub fn finish(self) -> Result<Observations, TraceError> {
        let looks = self.connection.close()?.finish().map_err(TraceError::Store)?;
        Ok(Observations::new(&self.union, &looks))
    }
}

impl Untraceable {
    fn device(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NXIO | Errno::NODEV => Self::NoDevice,
            error => Self::Device(error.into()),
        }
    }

    fn mount(error: Errno) -> Self {
        Self::Mount(error.into())
    }
}
