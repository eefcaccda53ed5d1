//! What the store takes of the disk, who needs it, and taking away what nobody does.
//!
//! | file | |
//! |---|---|
//! | `usage.rs` | all that is in the store, with sizes; `contexts.rs` what is kept of sources |
//! | `holders.rs` | who needs it |
//! | `filter.rs` | what a prune is about |
//! | `policy.rs` | how much may stay, and the rules of an automatic prune |
//! | `prune.rs` | which of it goes, least recently used first |
//! | `collect.rs` | the automatic prune |
//! | `reap.rs` | removing what was condemned, once nobody can use it any more |
//!
//! See `generation.rs` for why something that a running build uses is never taken away.

mod collect;
mod contexts;
mod disk;
mod filter;
mod holders;
mod policy;
mod prune;
mod reap;
#[cfg(test)]
mod tests;
mod usage;

use kiln_solver::Digest;
use rusqlite::Transaction;

use crate::StoreError;

pub use filter::{Filter, FilterError};
pub use policy::{Bounds, Policy, Space};
pub use prune::{Prune, Pruned};
pub(crate) use usage::folders;
pub use usage::{Held, Usage, UsageKind};

/// Takes back that these layers are condemned: somebody needs them after all.
pub(crate) fn pardon<'d>(
    transaction: &Transaction<'_>,
    layers: impl IntoIterator<Item = &'d Digest>,
) -> Result<(), StoreError> {
    let update = "UPDATE layers SET condemned = NULL WHERE diff_id = ?1 AND condemned IS NOT NULL";
    let mut update = transaction.prepare_cached(update)?;
    for layer in layers {
        update.execute([layer.as_bytes()])?;
    }
    Ok(())
}

/// The same for a blob.
pub(crate) fn pardon_blob(transaction: &Transaction<'_>, digest: &Digest) -> Result<(), StoreError> {
    let update = "UPDATE blobs SET condemned = NULL WHERE digest = ?1 AND condemned IS NOT NULL";
    transaction.prepare_cached(update)?.execute([digest.as_bytes()])?;
    Ok(())
}
