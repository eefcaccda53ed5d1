//! Removing what was condemned, once nobody can use it any more.

use std::path::PathBuf;

use kiln_solver::Digest;
use rusqlite::Transaction;

use crate::generation::Generations;
use crate::{Store, StoreError, database, session};

impl Store {
    /// Removes what was condemned in generations that have passed.
    pub(super) fn reap(&self) -> Result<(), StoreError> {
        let inner = self.inner();
        let Some(generation) = Generations::of(self.root()).passed(&inner.generation)? else { return Ok(()) };
        let trash = inner.session()?.make_directory("trash", 0o700)?;
        inner.database.write(|transaction| {
            for digest in condemned(transaction, "layers", "diff_id", generation)? {
                let path = inner.layer_directory(&digest);
                move_away(path, trash.join(format!("layer-{}", digest.hex())))?;
                transaction.execute("DELETE FROM layers WHERE diff_id = ?1", [digest.as_bytes()])?;
            }
            for digest in condemned(transaction, "blobs", "digest", generation)? {
                let path = self.root().join("blobs/sha256").join(digest.hex());
                move_away(path, trash.join(format!("blob-{}", digest.hex())))?;
                transaction.execute("DELETE FROM blobs WHERE digest = ?1", [digest.as_bytes()])?;
                transaction.execute("DELETE FROM layer_blobs WHERE digest = ?1", [digest.as_bytes()])?;
            }
            Ok(())
        })?;
        self.forget_seen();
        session::remove_tree(&trash).map_err(StoreError::io("remove", &trash))
    }
}

fn condemned(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
    generation: i64,
) -> Result<Vec<Digest>, StoreError> {
    let query = format!("SELECT {column} FROM {table} WHERE condemned IS NOT NULL AND condemned <= ?1");
    let mut query = transaction.prepare(&query)?;
    let rows = query.query_map([generation], |row| database::digest(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn move_away(path: PathBuf, to: PathBuf) -> Result<(), StoreError> {
    match std::fs::rename(&path, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("remove", &path)),
    }
}
