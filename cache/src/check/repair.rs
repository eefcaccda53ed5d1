//! Drops what is broken, so that the next build makes it again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Transaction;

use super::{CheckReport, Problem, drop_dependents};
use crate::{Store, StoreError, images, session};

impl Store {
    /// Drops what a check found broken, with the records and images that need it, and what the database does not know.
    /// A damaged database stays as it is.
    ///
    /// # Errors
    /// When the store cannot be written. What was put away by then is missing, which the store can bear.
    pub fn repair(&self, report: &CheckReport) -> Result<(), StoreError> {
        session::sweep(&self.root().join("tmp"))?;
        let trash = self.inner().session()?.make_directory("trash", 0o700)?;
        let suspects = self.unknown_paths()?;
        self.inner().database.write(|transaction| {
            let mut paths = Vec::new();
            for problem in &report.problems {
                if problem.still_counts(transaction)? {
                    paths.extend(self.drop_row(transaction, problem)?);
                }
            }
            drop_dependents(transaction)?;
            images::drop_broken(transaction)?;
            let unknown = self.still_unknown(transaction, suspects)?;
            paths.extend(unknown.into_iter().map(|leftover| self.root().join(leftover.path)));
            // What the sweep has left may be about to become somebody's.
            paths.retain(|path| !(path.starts_with(self.root().join("tmp")) && path.is_dir()));
            paths.iter().try_for_each(|path| put_away(path, &trash))
        })?;
        self.forget_seen();
        session::remove_tree(&trash).map_err(StoreError::io("remove", &trash))
    }

    /// Removes the layers and blobs that were put into place by somebody who was killed before he could record them, and
    /// stat caches that were not written to their end. What is removed comes to lie in `trash`. `false` where it must be
    /// done again: a process that is just dying lets go of its files one after the other.
    pub(crate) fn remove_leftovers(&self, trash: &Path) -> Result<bool, StoreError> {
        let is_done = self.remove_parts_of_contexts()?;
        let suspects = self.unrecorded_paths()?;
        self.inner().database.write(|transaction| {
            let unknown = self.still_unknown(transaction, suspects)?;
            unknown.iter().try_for_each(|leftover| put_away(&self.root().join(&leftover.path), trash))
        })?;
        Ok(is_done)
    }

    /// Drops the row of a layer or blob; yields the path that it has spoken for.
    fn drop_row(&self, transaction: &Transaction<'_>, problem: &Problem) -> Result<Option<PathBuf>, StoreError> {
        Ok(match problem {
            Problem::Layer { diff_id, row, .. } => {
                transaction.execute("DELETE FROM layers WHERE id = ?1", [row])?;
                Some(self.inner().layer_directory(diff_id))
            }
            Problem::Blob { digest, row, .. } => {
                transaction.execute("DELETE FROM blobs WHERE id = ?1", [row])?;
                transaction.execute("DELETE FROM layer_blobs WHERE digest = ?1", [digest.as_bytes()])?;
                Some(self.inner().blob_path(digest))
            }
            _ => None,
        })
    }
}

/// Moves something to the trash under a name that is free there; it may be gone already.
fn put_away(path: &Path, trash: &Path) -> Result<(), StoreError> {
    let count = std::fs::read_dir(trash).map_err(StoreError::io("read", trash))?.count();
    match std::fs::rename(path, trash.join(count.to_string())) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(StoreError::io("remove", path)),
    }
}
