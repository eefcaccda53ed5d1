//! What lies in the folders of the store and does not count.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use kiln_solver::Digest;
use rusqlite::Connection;
use rustix::fs::FlockOperation;

use super::Leftover;
use crate::{Store, StoreError, session};

/// A path that the database may not know.
pub(super) enum Suspect {
    /// It is named after a digest, and lies where this table keeps things.
    Named { path: PathBuf, digest: Digest, table: &'static str, column: &'static str },
    /// Nothing that counts has such a name.
    Stray(PathBuf),
    /// It lies where sessions do, and nobody held it. It may be one that was about to begin.
    Temporary(PathBuf),
}

const FOLDERS: [(&str, &str, &str); 2] = [("layers", "layers", "diff_id"), ("blobs/sha256", "blobs", "digest")];

impl Store {
    /// What there is in the folders, relative to the store.
    pub(super) fn unknown_paths(&self) -> Result<Vec<Suspect>, StoreError> {
        let mut suspects = self.layers_and_blobs()?;
        for name in names(&self.root().join("tmp"))? {
            let path = Path::new("tmp").join(name);
            if !session::is_held(&self.root().join(&path)) {
                suspects.push(Suspect::Temporary(path));
            }
        }
        Ok(suspects)
    }

    /// Layers and blobs that have no row.
    pub(super) fn unrecorded_paths(&self) -> Result<Vec<Suspect>, StoreError> {
        let mut suspects = self.layers_and_blobs()?;
        suspects.retain(|suspect| matches!(suspect, Suspect::Named { .. }));
        Ok(suspects)
    }

    fn layers_and_blobs(&self) -> Result<Vec<Suspect>, StoreError> {
        let mut suspects = Vec::new();
        for (folder, table, column) in FOLDERS {
            for name in names(&self.root().join(folder))? {
                let digest = name.to_str().and_then(|name| Digest::from_str(&format!("sha256:{name}")).ok());
                let path = Path::new(folder).join(name);
                suspects.push(match digest {
                    Some(digest) => Suspect::Named { path, digest, table, column },
                    None => Suspect::Stray(path),
                });
            }
        }
        Ok(suspects)
    }

    /// Removes the files of `contexts/` that are written beside their place (their names have dots) by nobody any more;
    /// `false` where somebody still has one.
    pub(super) fn remove_parts_of_contexts(&self) -> Result<bool, StoreError> {
        let mut is_done = true;
        let folder = self.root().join("contexts");
        for name in names(&folder)?.into_iter().filter(|name| name.as_bytes().contains(&b'.')) {
            let path = folder.join(name);
            let Ok(file) = std::fs::File::open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                is_done = false;
            } else if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                // Its name is nobody else's, so nothing but this file can be there.
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(is_done)
    }

    /// Those that the database does not know, if they are still there.
    pub(super) fn still_unknown(
        &self,
        connection: &Connection,
        suspects: Vec<Suspect>,
    ) -> Result<Vec<Leftover>, StoreError> {
        let mut leftovers = Vec::new();
        for suspect in suspects {
            let path = match suspect {
                Suspect::Stray(path) => path,
                Suspect::Temporary(path) if session::is_held(&self.root().join(&path)) => continue,
                Suspect::Temporary(path) => path,
                Suspect::Named { path, digest, table, column } => {
                    let query = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} = ?1)");
                    if connection.prepare_cached(&query)?.query_row([digest.as_bytes()], |row| row.get(0))? {
                        continue;
                    }
                    path
                }
            };
            let full = self.root().join(&path);
            if full.symlink_metadata().is_ok() {
                leftovers.push(Leftover { path, size: disk_usage(&full) });
            }
        }
        Ok(leftovers)
    }
}

fn names(folder: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    entries.map(|entry| Ok(entry.map_err(StoreError::io("read", folder))?.file_name())).collect()
}

/// What a file, or a directory with all below it, takes on the disk. What cannot be read, or goes away meanwhile, takes
/// nothing.
fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        // Files with several names count once.
        return own / metadata.nlink().max(1);
    }
    let Ok(entries) = std::fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| disk_usage(&entry.path())).sum::<u64>()
}
