//! What those who watch are told of blobs on their way.

use kiln_solver::Digest;

/// Which way a blob goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
}

/// A blob on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// The blob.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// Why a blob need not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spared {
    /// It is there already.
    There,
    /// The registry took it from this repository of its own.
    Mounted(String),
}

/// Watches blobs. It is told from several threads, and must not be slow.
pub trait Watcher: Send + Sync {
    /// A blob does not have to be moved.
    fn spared(&self, transfer: &Transfer, why: &Spared);
    /// A blob begins to move.
    fn started(&self, transfer: &Transfer);
    /// So many bytes of it have moved. That may also be fewer than before: what was lost moves again.
    fn moved(&self, transfer: &Transfer, bytes: u64);
    /// It has arrived, or failed to.
    fn ended(&self, transfer: &Transfer, arrived: bool);
}

/// Does not care.
pub(crate) struct Nobody;

impl Watcher for Nobody {
    fn spared(&self, _: &Transfer, _: &Spared) {}
    fn started(&self, _: &Transfer) {}
    fn moved(&self, _: &Transfer, _: u64) {}
    fn ended(&self, _: &Transfer, _: bool) {}
}
