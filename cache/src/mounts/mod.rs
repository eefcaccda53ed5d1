//! Cache mounts as archives, to carry them from one machine to another.
//!
//! How they lie in `mounts/` the executor says, which makes them. The archive of some is a tar, compressed or not:
//!
//! ```text
//! kiln-mounts.json     which mounts there are: the name of their folder, and their id
//! NAME/N/data…         each copy, with owners, modes, times to the nanosecond, links and attributes
//! ```
//!
//! NAME stands for the id and for what the mount began with, so a build elsewhere finds it by the same words. The same
//! mounts give the same bytes: nothing tells when or where they were written, and holes of files are written as the
//! zeros that they are read as, for where a file has holes depends on its file system. They are holes again later.

mod export;
mod import;
mod locks;
mod unpack;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use kiln_solver::Cancel;
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, gc};
pub use export::Exported;
pub use import::{Imported, ImportedMount};
pub(crate) use locks::is_at;

/// The name of the first member of an archive.
const MANIFEST: &str = "kiln-mounts.json";
const FORMAT: &str = "kiln.cache-mounts.v1";

/// What the first member of an archive says.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format: String,
    mounts: Vec<Mount>,
}

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Mount {
    id: String,
    /// Of its folder in `mounts/`: 64 hexadecimal digits.
    name: String,
}

/// How somebody who moves cache mounts is told of what happens, and stops it.
pub struct MountWatch<'a> {
    /// Ends it.
    pub cancel: &'a Cancel,
    /// Is told once of each cache mount that a build has, by its id: it is waited for.
    pub on_wait: &'a dyn Fn(&str),
}

impl Mount {
    fn directory(&self, store: &Store) -> PathBuf {
        store.root().join("mounts").join(&self.name)
    }
}

impl Store {
    /// The cache mounts that are here, by id.
    fn mounts(&self) -> Result<Vec<Mount>, StoreError> {
        let mut mounts = Vec::new();
        for directory in gc::folders(&self.root().join("mounts"))? {
            let path = directory.join("id");
            let id = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
            let id = String::from_utf8_lossy(&id).into_owned();
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_name(&name) && !copies(&directory)?.is_empty() {
                mounts.push(Mount { id, name });
            }
        }
        mounts.sort();
        Ok(mounts)
    }
}

/// Whether this can be the name of a mount's folder.
fn is_name(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The numbers of the copies of a mount, in order.
fn copies(mount: &Path) -> Result<Vec<u32>, StoreError> {
    let folders = gc::folders(mount)?;
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str()?.parse().ok());
    let mut numbers: Vec<u32> = names.collect();
    numbers.sort_unstable();
    Ok(numbers)
}
