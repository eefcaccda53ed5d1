//! What a power loss may take from the store, and what it may not.
//!
//! Rows of `blobs`, `layers` and `records` carry the boot that wrote them. In that boot they hold: the page cache
//! has their bytes. Once a `syncfs` that began after they were written has ended, the boot is struck out and
//! they hold for good. Opened in another boot, the store reads what still carries one and compares it, byte for
//! byte and attribute for attribute, with what it should be: what is whole stays (an orderly reboot loses nothing),
//! and the rest goes, with the images that need it. A record needs no check of its own: the database vouches for
//! the row, and the row counts only while the layers in it are here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, Hasher};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::database::{self, Database};
use crate::store::Inner;
use crate::{StoreError, Whiteouts, check, images, layers, session, sys};

/// How old the oldest row that is not durable may get before the next who writes sees to it.
const DURABLE_AFTER: Duration = Duration::from_secs(60);

/// How long the database's log may get before one who writes empties it, in bytes. Reading so much takes a fifth of a
/// millisecond, which every process pays that opens the store.
const LONGEST_LOG: u64 = 512 << 10;

/// What another boot left of one kind.
struct Left {
    whole: Vec<Digest>,
    damaged: Vec<Digest>,
}

/// Keeps of what another boot wrote and nobody saw reach the disk all that did reach it, and drops the rest.
pub(crate) fn check_other_boots(store: &Inner) -> Result<(), StoreError> {
    let Inner { boot, database, .. } = store;
    if !database.read(|connection| has_other_boots(connection, boot))? {
        return Ok(());
    }
    let blobs = database.read(|connection| blobs_of_other_boots(connection, boot))?;
    let blobs = sort(blobs, |(digest, size)| {
        let path = store.root.join("blobs/sha256").join(digest.hex());
        Ok((digest, holds(&path, digest, size)?))
    })?;
    let layers = database.read(|connection| layers_of_other_boots(connection, boot))?;
    let layers = sort(layers, |digest| {
        let whole = layers::is_whole(&store.layer_directory(&digest), store.whiteouts)?;
        Ok((digest, whole))
    })?;
    let trash = store.session()?.make_directory("trash", 0o700)?;
    database.write(|transaction| {
        for (table, column, folder, left) in
            [("blobs", "digest", "blobs/sha256", &blobs), ("layers", "diff_id", "layers", &layers)]
        {
            keep(transaction, table, column, &left.whole)?;
            for digest in &left.damaged {
                let path = store.root.join(folder).join(digest.hex());
                drop_row(transaction, table, column, digest, boot, &path, &trash)?;
            }
        }
        transaction.execute("UPDATE records SET boot = NULL WHERE boot IS NOT NULL AND boot <> ?1", [boot])?;
        if !layers.damaged.is_empty() {
            check::drop_dependents(transaction)?;
        }
        images::drop_broken(transaction)
    })?;
    session::remove_tree(&trash).map_err(StoreError::io("remove", &trash))
}

/// Tells what is whole from what is not.
fn sort<T>(found: Vec<T>, check: impl Fn(T) -> Result<(Digest, bool), StoreError>) -> Result<Left, StoreError> {
    let mut left = Left { whole: Vec::new(), damaged: Vec::new() };
    for found in found {
        let (digest, whole) = check(found)?;
        if whole { &mut left.whole } else { &mut left.damaged }.push(digest);
    }
    Ok(left)
}

/// Whether a file has this digest and size.
pub(crate) fn holds(path: &Path, digest: Digest, size: u64) -> Result<bool, StoreError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(StoreError::io("open", path))?,
    };
    let mut hasher = Hasher::new();
    let found = std::io::copy(&mut file, &mut hasher).map_err(StoreError::io("read", path))?;
    Ok(found == size && hasher.finish() == digest)
}

/// What was read back from the disk is on the disk.
fn keep(transaction: &Transaction<'_>, table: &str, column: &str, digests: &[Digest]) -> Result<(), StoreError> {
    let mut update = transaction.prepare(&format!("UPDATE {table} SET boot = NULL WHERE {column} = ?1"))?;
    for digest in digests {
        update.execute([digest.as_bytes()])?;
    }
    Ok(())
}

/// Drops a row of another boot with its file or directory; one that this boot has written anew since stays.
fn drop_row(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
    digest: &Digest,
    boot: &str,
    path: &Path,
    trash: &Path,
) -> Result<(), StoreError> {
    let delete = format!("DELETE FROM {table} WHERE {column} = ?1 AND boot IS NOT NULL AND boot <> ?2");
    if transaction.execute(&delete, params![digest.as_bytes(), boot])? == 0 {
        return Ok(());
    }
    let to: PathBuf = trash.join(format!("{table}-{}", digest.hex()));
    match std::fs::rename(path, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("remove", path)),
    }
}

fn has_other_boots(connection: &Connection, boot: &str) -> rusqlite::Result<bool> {
    // Two ranges rather than `<>`: only those can be looked up in the index.
    let query = "SELECT EXISTS (SELECT 1 FROM blobs WHERE boot < ?1) OR EXISTS (SELECT 1 FROM blobs WHERE boot > ?1)
        OR EXISTS (SELECT 1 FROM layers WHERE boot < ?1) OR EXISTS (SELECT 1 FROM layers WHERE boot > ?1)
        OR EXISTS (SELECT 1 FROM records WHERE boot < ?1) OR EXISTS (SELECT 1 FROM records WHERE boot > ?1)";
    connection.prepare_cached(query)?.query_row([boot], |row| row.get(0))
}

fn blobs_of_other_boots(connection: &Connection, boot: &str) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut query = connection.prepare("SELECT digest, size FROM blobs WHERE boot IS NOT NULL AND boot <> ?1")?;
    let row = |row: &Row<'_>| Ok((database::digest(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    query.query_map([boot], row)?.collect()
}

fn layers_of_other_boots(connection: &Connection, boot: &str) -> rusqlite::Result<Vec<Digest>> {
    let mut query = connection.prepare("SELECT diff_id FROM layers WHERE boot IS NOT NULL AND boot <> ?1")?;
    query.query_map([boot], |row| database::digest(row, 0))?.collect()
}

/// Makes old rows durable and keeps the log short, in a thread of its own, while a build that writes goes on. One that
/// finds all that it needs is over before that could be done, and does not begin it.
pub(crate) struct Upkeep {
    root: PathBuf,
    whiteouts: Whiteouts,
    boot: String,
    /// Whether rows were looked at.
    has_looked: AtomicBool,
    is_at_work: Arc<AtomicBool>,
}

impl Upkeep {
    pub(crate) fn new(root: &Path, whiteouts: Whiteouts, boot: &str) -> Self {
        let (root, boot) = (root.to_owned(), boot.to_owned());
        Self { root, whiteouts, boot, has_looked: AtomicBool::new(false), is_at_work: Arc::default() }
    }

    /// Sees what there is to do. What cannot be done is left to the next who writes.
    pub(crate) fn after_write(&self, connection: &Connection) {
        let (root, whiteouts, boot) = (self.root.clone(), self.whiteouts, self.boot.clone());
        if !self.has_looked.swap(true, Ordering::Relaxed) && has_old_rows(connection, &boot).unwrap_or(false) {
            self.start(move || settle(&root, whiteouts, &boot));
        } else if Database::log_length(&root) > LONGEST_LOG {
            self.start(move || Database::open(&root, whiteouts)?.shorten_log());
        }
    }

    fn start(&self, work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) {
        if self.is_at_work.swap(true, Ordering::SeqCst) {
            return;
        }
        let is_at_work = Arc::clone(&self.is_at_work);
        let work = move || {
            let _ = work();
            is_at_work.store(false, Ordering::SeqCst);
        };
        if std::thread::Builder::new().name("kiln-upkeep".to_owned()).spawn(work).is_err() {
            self.is_at_work.store(false, Ordering::SeqCst);
        }
    }
}

/// Whether something has waited too long to become durable.
fn has_old_rows(connection: &Connection, boot: &str) -> rusqlite::Result<bool> {
    let due = SystemTime::now().checked_sub(DURABLE_AFTER).map_or(i64::MIN, database::to_nanos);
    Ok(oldest_not_durable(connection, boot)?.is_some_and(|oldest| oldest <= due))
}

fn oldest_not_durable(connection: &Connection, boot: &str) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT min(saved) FROM (
        SELECT min(saved) AS saved FROM blobs WHERE boot = ?1
        UNION ALL SELECT min(saved) FROM layers WHERE boot = ?1
        UNION ALL SELECT min(saved) FROM records WHERE boot = ?1)";
    connection.prepare_cached(query)?.query_row([boot], |row| row.get(0)).optional().map(Option::flatten)
}

/// Syncs the file system, then strikes the boot out of exactly the rows that were there before the sync. On a
/// connection of its own: it may take long and outlive the store.
pub(crate) fn settle(root: &Path, whiteouts: Whiteouts, boot: &str) -> Result<(), StoreError> {
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
