//! File operations (`COPY`, `ADD`, `WORKDIR`, heredocs), done on layers without mounting anything.
//!
//! | file | |
//! |---|---|
//! | `attributes.rs` | extended attributes: which count, reading and writing them |
//! | `tree.rs` | what is copied from: a context or layers, behind one face |
//! | `select.rs` | what a copy selects of it |
//! | `include.rs` | the pattern of `--parents` |
//! | `digest.rs` | the content key of that |
//! | `contenthash.rs` | the same for caches that are shared with BuildKit |
//! | `base.rs` | what is changed, and what was asked of it |
//! | `plan.rs` | the new layer as it will be, in memory, above the base |
//! | `copy.rs` | Docker's rules of copying: from a selection to a plan |
//! | `unpack.rs` | archives of `ADD` into a plan |
//! | `owner.rs` | users and groups by name |
//! | `write.rs` | from a plan to files |
//! | `mounted.rs` | what commands mount of a tree |
//! | `run.rs` | the actions of a step, one after the other |
//!
//! Every decision is made in memory first, on the base layers' indexes and the source's listing. Only then are
//! files written, each read once, in parallel, and checked against the digest that the step's key was made of.

mod attributes;
mod base;
mod contenthash;
mod copy;
mod digest;
mod error;
mod include;
mod mounted;
mod owner;
mod plan;
mod run;
mod select;
mod tree;
mod unpack;
mod write;

use kiln_cache::{Device, Timestamp};

pub(crate) use attributes::{Attributes, attributes_of};
pub(crate) use base::Facts;
pub use contenthash::Part;
pub(crate) use contenthash::content_hash;
pub(crate) use digest::selected;
pub use error::{FileError, UnpackError};
pub(crate) use mounted::{copy_of_path, layer_of, seen_at, write_copy};
pub(crate) use plan::Plan;
pub(crate) use run::{changed_input, recheck, run_actions, timestamp};
pub(crate) use select::must_exist;
pub(crate) use tree::Tree;
pub(crate) use unpack::{Archive, unpack_all as unpack};
pub(crate) use write::write;

/// What something in a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Socket,
}

/// What a path has beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Timestamp,
    pub(crate) attributes: Attributes,
}

/// The number of a device that is none.
pub(crate) const NO_DEVICE: Device = Device { major: 0, minor: 0 };

#[cfg(test)]
mod tests;
