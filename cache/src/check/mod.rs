//! Checks the store: whether all that counts is there and is what it should be, and what lies around that does not.
//!
//! Others may build meanwhile. What is found wrong is told only if it still counts when nobody is in the middle of
//! writing: rows have numbers that never come back, and files are put into place within the transactions of their
//! rows. What a row names never changes, so it need not be looked at again then.

mod files;
mod leftovers;
mod references;
mod repair;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use kiln_solver::Digest;
use rayon::prelude::*;
use rusqlite::{Connection, Row};

pub(crate) use references::drop_dependents;

use crate::{Store, StoreError, database};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// That files are there, of the right kind and size.
    Sizes,
    /// Every byte and attribute, too.
    Contents,
}

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is broken.
    pub problems: Vec<Problem>,
    /// What lies in the store's folders and does not count; in nobody's way.
    pub leftovers: Vec<Leftover>,
    /// How many layers were looked at.
    pub layers: usize,
    /// How many blobs.
    pub blobs: usize,
    /// How many records and observations.
    pub records: usize,
    /// How many names of images.
    pub images: usize,
}

/// One thing that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The database file itself.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// A layer.
    #[error("layer `{diff_id}`: {reason}")]
    Layer {
        /// Which one.
        diff_id: Digest,
        /// What is wrong with it.
        reason: String,
        /// The number of its row.
        row: i64,
    },
    /// A blob.
    #[error("blob `{digest}`: {reason}")]
    Blob {
        /// Which one.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
        /// The number of its row.
        row: i64,
    },
    /// What is remembered of a step needs a layer that is not here.
    #[error("the record of `{name}` needs layer `{layer}`, which is not here")]
    Record {
        /// The step.
        name: String,
        /// The layer.
        layer: Digest,
    },
    /// What a step observed goes with a layer that is not here.
    #[error("what `{name}` observed goes with layer `{layer}`, which is not here")]
    Observation {
        /// The step.
        name: String,
        /// The layer.
        layer: Digest,
    },
    /// An image needs something that is not here and that no registry has.
    #[error("image `{name}` needs {what}, which is not here")]
    Image {
        /// The name of the image.
        name: String,
        /// What it needs.
        what: String,
    },
}

/// Something that the database does not know: a crash left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies, relative to the store.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub size: u64,
}

/// A row of `layers` or `blobs`.
struct Stored {
    row: i64,
    digest: Digest,
    /// The content digest of a layer.
    content: Option<Digest>,
    /// The size of a blob.
    size: u64,
    imported: bool,
}

impl Store {
    /// Checks all that counts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, depth: Depth) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport { problems: self.check_database(depth)?, ..CheckReport::default() };
        let layers = self.inner().database.read(layers)?;
        let blobs = self.inner().database.read(blobs)?;
        let broken_layers: Vec<Problem> = layers
            .par_iter()
            .filter_map(|layer| self.check_layer(layer, depth).transpose())
            .collect::<Result<_, StoreError>>()?;
        let broken_blobs: Vec<Problem> = blobs
            .par_iter()
            .filter_map(|blob| self.check_blob(blob, depth).transpose())
            .collect::<Result<_, StoreError>>()?;
        (report.layers, report.blobs) = (layers.len(), blobs.len());
        let suspects = self.unknown_paths()?;
        // Now nobody is in the middle of writing.
        self.inner().database.write(|transaction| {
            for problem in broken_layers.into_iter().chain(broken_blobs) {
                if problem.still_counts(transaction)? {
                    report.problems.push(problem);
                }
            }
            let references = references::check(transaction)?;
            (report.records, report.images) = (references.records, references.images);
            report.problems.extend(references.problems);
            report.leftovers = self.still_unknown(transaction, suspects)?;
            Ok(())
        })?;
        Ok(report)
    }

    fn check_database(&self, depth: Depth) -> Result<Vec<Problem>, StoreError> {
        let pragma = match depth {
            Depth::Sizes => "PRAGMA quick_check",
            Depth::Contents => "PRAGMA integrity_check",
        };
        let lines: Vec<String> = self.inner().database.read(|connection| {
            let mut query = connection.prepare(pragma)?;
            query.query_map([], |row| row.get(0))?.collect()
        })?;
        Ok(lines.into_iter().filter(|line| line != "ok").map(Problem::Database).collect())
    }
}

impl Problem {
    /// Whether the row that a file was found wrong for is still there.
    fn still_counts(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let (table, row) = match self {
            Self::Layer { row, .. } => ("layers", row),
            Self::Blob { row, .. } => ("blobs", row),
            _ => return Ok(true),
        };
        let query = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = ?1)");
        connection.query_row(&query, [row], |row| row.get(0))
    }
}

/// What was condemned is not looked at: it may be half gone.
fn layers(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let mut query = connection.prepare("SELECT id, diff_id, content, imported FROM layers WHERE condemned IS NULL")?;
    let row = |row: &Row<'_>| {
        let content = Some(database::digest(row, 2)?);
        Ok(Stored { row: row.get(0)?, digest: database::digest(row, 1)?, content, size: 0, imported: row.get(3)? })
    };
    query.query_map([], row)?.collect()
}

fn blobs(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let mut query = connection.prepare("SELECT id, digest, size FROM blobs WHERE condemned IS NULL")?;
    let row = |row: &Row<'_>| {
        let size = row.get::<_, i64>(2)?.cast_unsigned();
        Ok(Stored { row: row.get(0)?, digest: database::digest(row, 1)?, content: None, size, imported: true })
    };
    query.query_map([], row)?.collect()
}
