//! Opening the store, and what a power loss may take from it.
//!
//! Rows of `blobs`, `layers` and `records` carry the boot that wrote them. In that boot they hold: the page cache
//! has their bytes. Once a `syncfs` that began after they were written has ended, the boot is struck out and
//! they hold for good. Opened in another boot, the store drops the rows that still carry one, with their files,
//! and the images whose config went with them.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kiln_solver::Digest;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::compress::Compressing;
use crate::database::{self, Database};
use crate::session::{self, Session};
use crate::{StoreError, StoredLayer, sys};

/// How old the oldest row that is not durable may get before an opened store sees to it.
const DURABLE_AFTER: Duration = Duration::from_secs(60);

/// Which extended attributes overlayfs keeps its marks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whiteouts {
    /// `trusted.overlay.*`: mounted by the real root.
    Trusted,
    /// `user.overlay.*`: mounted with `userxattr` inside a user namespace. There, an owner that the namespace
    /// does not map and a device node cannot be put on disk: an import records them in the index alone.
    User,
}

/// The store. Safe to use from any number of threads and processes at once. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// What the clones of a store, and its drafts, share.
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) whiteouts: Whiteouts,
    pub(crate) boot: String,
    pub(crate) database: Database,
    /// Layers that were opened before.
    pub(crate) open_layers: Mutex<HashMap<Digest, StoredLayer>>,
    /// Layers that were seen to be here.
    pub(crate) present: Mutex<HashSet<Digest>>,
    /// Blobs that a thread is making.
    pub(crate) compressing: Compressing,
    /// Begun by the first who writes.
    session: Mutex<Option<Arc<Session>>>,
}

impl Store {
    /// Opens the store at `root`, creating what is missing, and clears away what dead processes and other
    /// boots left unfinished. What has waited longer than a minute to become durable is made so meanwhile, by
    /// a thread of its own.
    ///
    /// # Errors
    /// When `root` cannot be written, or its database is damaged or newer than this program.
    pub fn open(root: &Path, whiteouts: Whiteouts) -> Result<Self, StoreError> {
        let boot = sys::boot_id().map_err(StoreError::io("read", "/proc/sys/kernel/random/boot_id"))?;
        Self::open_in_boot(root, whiteouts, boot)
    }

    /// Opens the store as if in the boot of this name.
    pub(crate) fn open_in_boot(root: &Path, whiteouts: Whiteouts, boot: String) -> Result<Self, StoreError> {
        lay_out(root)?;
        let root = std::path::absolute(root).map_err(StoreError::io("find", root))?;
        let tmp = root.join("tmp");
        session::sweep(&tmp)?;
        let database = Database::open(&root, whiteouts)?;
        let store = Self(Arc::new(Inner {
            root,
            whiteouts,
            boot,
            database,
            open_layers: Mutex::default(),
            present: Mutex::default(),
            compressing: Compressing::default(),
            session: Mutex::default(),
        }));
        store.drop_other_boots()?;
        store.settle_in_background()?;
        Ok(store)
    }

    /// The directory that the store lies in.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Which overlayfs marks its layers carry.
    pub fn whiteouts(&self) -> Whiteouts {
        self.0.whiteouts
    }

    /// Makes all that the store holds now survive a power loss. Takes as long as the disk takes.
    ///
    /// # Errors
    /// When the file system cannot be synced, or the store cannot be written.
    pub fn make_durable(&self) -> Result<(), StoreError> {
        settle(&self.0.root, self.0.whiteouts, &self.0.boot)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Drops what another boot wrote and nobody saw reach the disk.
    fn drop_other_boots(&self) -> Result<(), StoreError> {
        let Inner { root, boot, database, .. } = &*self.0;
        if !database.read(|connection| has_other_boots(connection, boot))? {
            return Ok(());
        }
        let trash = self.0.session()?.make_directory("trash", 0o700)?;
        database.write(|transaction| {
            for (table, column, folder) in [("blobs", "digest", "blobs/sha256"), ("layers", "diff_id", "layers")] {
                for digest in of_other_boots(transaction, table, column, boot)? {
                    set_aside(&root.join(folder).join(digest.hex()), &trash.join(format!("{table}-{}", digest.hex())))?;
                }
            }
            for table in ["blobs", "layers", "records"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot <> ?1"), [boot])?;
            }
            transaction.execute("DELETE FROM images WHERE image NOT IN (SELECT digest FROM blobs)", [])?;
            Ok(())
        })?;
        session::remove_tree(&trash).map_err(StoreError::io("remove", &trash))
    }

    /// Makes old rows durable while others work.
    fn settle_in_background(&self) -> Result<(), StoreError> {
        let Inner { root, boot, database, .. } = &*self.0;
        let Some(oldest) = database.read(|connection| oldest_not_durable(connection, boot))? else { return Ok(()) };
        let due = SystemTime::now().checked_sub(DURABLE_AFTER).map_or(i64::MIN, database::to_nanos);
        if oldest > due {
            return Ok(());
        }
        let (root, whiteouts, boot) = (root.clone(), self.0.whiteouts, boot.clone());
        // A thread that does not start or fails leaves the rows as they are, to the next open.
        let settle = move || drop(settle(&root, whiteouts, &boot));
        let _ = std::thread::Builder::new().name("kiln-durable".to_owned()).spawn(settle);
        Ok(())
    }
}

impl Inner {
    /// The session of this store.
    pub(crate) fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match &*session {
            Some(session) => Ok(Arc::clone(session)),
            None => Ok(Arc::clone(session.insert(Arc::new(Session::begin(&self.root.join("tmp"))?)))),
        }
    }
}

/// Makes the folders of the store. Others may not enter: its layers hold set-user-id programs of root's.
fn lay_out(root: &Path) -> Result<(), StoreError> {
    let marker = root.join("oci-layout");
    if marker.exists() && root.join("tmp").exists() {
        return Ok(());
    }
    for folder in ["", "blobs", "blobs/sha256", "layers", "mounts", "contexts", "tmp"] {
        let path = root.join(folder);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
    }
    let part = root.join(format!("tmp/oci-layout-{}", sys::random_name().map_err(StoreError::io("name", &marker))?));
    std::fs::write(&part, "{\"imageLayoutVersion\":\"1.0.0\"}").map_err(StoreError::io("write", &part))?;
    std::fs::rename(&part, &marker).map_err(StoreError::io("write", &marker))
}

fn has_other_boots(connection: &Connection, boot: &str) -> rusqlite::Result<bool> {
    // Two ranges rather than `<>`: only those can be looked up in the index.
    let query = "SELECT EXISTS (SELECT 1 FROM blobs WHERE boot < ?1) OR EXISTS (SELECT 1 FROM blobs WHERE boot > ?1)
        OR EXISTS (SELECT 1 FROM layers WHERE boot < ?1) OR EXISTS (SELECT 1 FROM layers WHERE boot > ?1)
        OR EXISTS (SELECT 1 FROM records WHERE boot < ?1) OR EXISTS (SELECT 1 FROM records WHERE boot > ?1)";
    connection.prepare_cached(query)?.query_row([boot], |row| row.get(0))
}

fn of_other_boots(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
    boot: &str,
) -> rusqlite::Result<Vec<Digest>> {
    let query = format!("SELECT {column} FROM {table} WHERE boot IS NOT NULL AND boot <> ?1");
    transaction.prepare(&query)?.query_map([boot], |row| database::digest(row, 0))?.collect()
}

fn oldest_not_durable(connection: &Connection, boot: &str) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT min(saved) FROM (
        SELECT min(saved) AS saved FROM blobs WHERE boot = ?1
        UNION ALL SELECT min(saved) FROM layers WHERE boot = ?1
        UNION ALL SELECT min(saved) FROM records WHERE boot = ?1)";
    connection.prepare_cached(query)?.query_row([boot], |row| row.get(0)).optional().map(Option::flatten)
}

/// Takes a file or directory out of the way, if it is there.
fn set_aside(path: &Path, to: &Path) -> Result<(), StoreError> {
    match std::fs::rename(path, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("remove", path)),
    }
}

/// Syncs the file system, then strikes the boot out of exactly the rows that were there before the sync. On a
/// connection of its own: it may take long and outlive the store.
fn settle(root: &Path, whiteouts: Whiteouts, boot: &str) -> Result<(), StoreError> {
    let database = Database::open(root, whiteouts)?;
    let tables = ["blobs", "layers", "records"];
    let last = |table| {
        let query = format!("SELECT max(id) FROM {table}");
        database.read(|connection| connection.query_row(&query, [], |row| row.get::<_, Option<i64>>(0)))
    };
    let before = [last(tables[0])?, last(tables[1])?, last(tables[2])?];
    sys::sync_file_system(root).map_err(StoreError::io("sync", root))?;
    database.write(|transaction| {
        for (table, last) in tables.into_iter().zip(before) {
            let update = format!("UPDATE {table} SET boot = NULL WHERE boot = ?1 AND id <= ?2");
            transaction.execute(&update, params![boot, last])?;
        }
        Ok(())
    })?;
    database.shorten_log()
}
