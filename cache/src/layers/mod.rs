//! Layers: unpacked once, named by the digest of their archive, never changed.
//!
//! ```text
//! layers/HEX/files/   what overlayfs takes as a lower directory: whiteouts are character devices 0:0, opaque
//!                     directories carry `trusted.overlay.opaque` (`user.overlay.opaque` in a user namespace)
//! layers/HEX/index    see `index`
//! ```
//!
//! A layer is made as a draft below `tmp/`: `files/`, `work/` for overlayfs, then `index`. To publish it, in one
//! transaction: if the database has the layer, the draft is dropped; else it is renamed to `layers/HEX` and
//! recorded. A folder that is there without a row is what a crash left, and is exchanged for the new one.

mod check;
pub(crate) mod commit;
mod opener;
mod publish;
mod recycle;
mod stored;
pub(crate) mod walk;

#[cfg(test)]
mod tests;

pub(crate) use check::{Fault, check_contents, check_sizes, is_whole};
pub use publish::LayerDraft;
pub use stored::{LayerReader, StoredLayer};
