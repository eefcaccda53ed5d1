//! The store: layers, blobs, cache records and images on disk, shared by any number of processes.
//!
//! ```text
//! $ROOT/
//!   oci-layout             `blobs` is that of an OCI image layout
//!   blobs/sha256/HEX       every blob: pulled layers, layers compressed here, configs, manifests
//!   layers/HEX/files/      one unpacked layer in overlayfs form, by the digest of its archive (diffID)
//!   layers/HEX/index       its index: what is in it, see `index`
//!   mounts/                cache mounts
//!   history/ID/             builds and what their steps printed, see `history`
//!   contexts/              stat caches of build contexts, and what the executor remembers of sources
//!   tmp/SESSION/           what a live process has not finished yet, see `session`
//!   kiln.db                SQLite: what of the above counts, see `database`
//! ```
//!
//! Everything is written below `tmp/`, renamed into place, and only then recorded in `kiln.db`. What is not
//! recorded does not exist, whatever lies on the disk. Nothing is synced on the way: each row carries the boot
//! that wrote it until a later `syncfs` has made it durable, and after another boot the rows that never were
//! are dropped, with their files. So a power loss costs work and never correctness.
//!
//! **Invariant**: nothing here knows the Dockerfile, the sandbox or a registry; and nobody outside of this
//! crate knows how a layer lies on the disk.

mod archive;
mod blobs;
mod check;
mod compress;
mod database;
mod durability;
mod error;
mod extractor;
mod gc;
mod generation;
mod hashing;
pub mod history;
mod images;
mod index;
mod layers;
mod limits;
mod mounts;
mod observations;
mod past;
mod promises;
mod records;
mod session;
mod store;
#[cfg(test)]
mod store_tests;
mod sys;
#[cfg(test)]
mod testing;
mod view;

pub use archive::{ArchiveError, ArchiveReader, Member, MemberKind, is_hole};
pub use blobs::{Blob, BlobWriter};
pub use check::{CheckReport, Depth, Leftover, Problem};
pub use compress::{Compression, ELSEWHERE, EstargzLayer, LayerBlob, decompress};
pub use error::StoreError;
pub use gc::{Bounds, Filter, FilterError, Held, Policy, Prune, Pruned, Space, Usage, UsageKind};
pub use images::{ImageIndex, ImageRecord, PlatformImage};
pub use index::{Children, Device, Entries, Entry, EntryKind, Index, Timestamp, Xattrs, compare_paths};
pub use layers::{LayerDraft, LayerReader, StoredLayer};
pub use limits::{Allowance, ArchiveLimits};
pub use mounts::{Exported, Imported, ImportedMount, MountWatch};
pub use promises::Promise;
pub use session::Scratch;
pub use store::{Store, Whiteouts};
pub use view::{Found, Resolved, Target, View, ViewError};
