//! The database: what counts of all that lies in the store.
//!
//! SQLite in WAL mode with `synchronous=NORMAL`: a commit writes to the log and waits for no disk; after a power
//! loss the last commits may be gone, and the database is consistent all the same. Writes begin with
//! `BEGIN IMMEDIATE`, so they queue for the lock rather than fail half-way. Neither they nor closing checkpoint, which
//! waits for the disk: see [`Upkeep`].
//! The number in `user_version` counts the entries of [`MIGRATIONS`] that have been applied.
//!
//! `application_id` tells which overlayfs marks the layers carry: read by the other kind of mount they would mean
//! something else.
//!
//! `boot` in a row is the boot that wrote it, and NULL once the row's files are known to be durable.
//! `id` only ever grows, so that "all rows up to here" is one number.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_solver::Digest;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::FlockOperation;

use crate::durability::Upkeep;
use crate::{StoreError, Whiteouts, sys};

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE blobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        saved INTEGER NOT NULL,
        boot TEXT
    );
    CREATE TABLE layers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        diff_id BLOB NOT NULL UNIQUE,
        content BLOB NOT NULL,
        created INTEGER NOT NULL,
        imported INTEGER NOT NULL,
        saved INTEGER NOT NULL,
        boot TEXT
    );
    CREATE TABLE layer_blobs (
        diff_id BLOB NOT NULL,
        compression TEXT NOT NULL,
        digest BLOB NOT NULL,
        saved INTEGER NOT NULL,
        PRIMARY KEY (diff_id, compression)
    ) WITHOUT ROWID;
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        step BLOB NOT NULL,
        name TEXT NOT NULL,
        outputs TEXT NOT NULL,
        saved INTEGER NOT NULL,
        boot TEXT
    );
    CREATE TABLE images (
        name TEXT PRIMARY KEY,
        image BLOB NOT NULL,
        layers TEXT NOT NULL,
        platform TEXT NOT NULL,
        tagged INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE image_references (
        reference TEXT NOT NULL,
        platform TEXT NOT NULL,
        manifest BLOB NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (reference, platform)
    ) WITHOUT ROWID;
    CREATE INDEX blobs_not_durable ON blobs (boot, saved) WHERE boot IS NOT NULL;
    CREATE INDEX layers_not_durable ON layers (boot, saved) WHERE boot IS NOT NULL;
    CREATE INDEX records_not_durable ON records (boot, saved) WHERE boot IS NOT NULL;
",
    "
    CREATE TABLE observations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL,
        facts BLOB NOT NULL,
        changes TEXT NOT NULL,
        step BLOB NOT NULL,
        name TEXT NOT NULL,
        saved INTEGER NOT NULL
    );
    CREATE INDEX observations_by_key ON observations (key, id);
    CREATE TABLE steps (
        own BLOB PRIMARY KEY,
        likeness TEXT NOT NULL,
        detail TEXT NOT NULL,
        saved INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX steps_by_likeness ON steps (likeness, saved);
",
    "
    ALTER TABLE layers ADD COLUMN condemned INTEGER;
    ALTER TABLE layers ADD COLUMN used INTEGER;
    ALTER TABLE layers ADD COLUMN disk INTEGER;
    ALTER TABLE blobs ADD COLUMN condemned INTEGER;
    CREATE INDEX layers_condemned ON layers (condemned) WHERE condemned IS NOT NULL;
    CREATE INDEX blobs_condemned ON blobs (condemned) WHERE condemned IS NOT NULL;
",
    "
    ALTER TABLE images ADD COLUMN manifest BLOB;
    ALTER TABLE images ADD COLUMN platforms TEXT;
    CREATE TABLE clamped (
        diff_id BLOB NOT NULL,
        latest INTEGER NOT NULL,
        result BLOB NOT NULL,
        PRIMARY KEY (diff_id, latest)
    ) WITHOUT ROWID;
    CREATE INDEX clamped_by_result ON clamped (result);
",
    // Of what is there already nobody knows whether it was fetched; it goes only where all may.
    "
    ALTER TABLE blobs ADD COLUMN fetched INTEGER NOT NULL DEFAULT 1;
",
];

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// With so many pages in the log a write does checkpoint, should upkeep never have come to it.
const MOST_PAGES: u32 = 20_000;

/// One connection, shared by the threads of a store.
pub(crate) struct Database {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Told of every write.
    upkeep: Option<Upkeep>,
}

impl Database {
    /// Opens the database in the store's folder, and makes or migrates it where need be.
    pub(crate) fn open(root: &Path, whiteouts: Whiteouts) -> Result<Self, StoreError> {
        let path = root.join("kiln.db");
        let connection = open(&path, root, whiteouts).map_err(|error| locate(&path, error))?;
        Ok(Self { path, connection: Mutex::new(connection), upkeep: None })
    }

    /// Has somebody see to what writing brings with it.
    pub(crate) fn with_upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = Some(upkeep);
        self
    }

    /// Runs queries.
    pub(crate) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        query(&self.lock()).map_err(|error| locate(&self.path, error.into()))
    }

    /// Runs statements as one transaction that nobody else's comes in between.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let value = transact(&mut connection, change).map_err(|error| locate(&self.path, error))?;
        if let Some(upkeep) = &self.upkeep {
            upkeep.after_write(&connection);
        }
        Ok(value)
    }

    /// How many bytes of log there are. Who opens the database first reads all of it.
    pub(crate) fn log_length(root: &Path) -> u64 {
        std::fs::metadata(root.join("kiln.db-wal")).map_or(0, |log| log.len())
    }

    /// Moves the log into the database and empties it. Gives way to others.
    pub(crate) fn shorten_log(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            // The long part, while others write.
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            connection.busy_timeout(Duration::ZERO)?;
            let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            connection.busy_timeout(BUSY_TIMEOUT)?;
            match emptied {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
                result => result,
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn transact<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn open(path: &Path, root: &Path, whiteouts: Whiteouts) -> Result<Connection, StoreError> {
    // No mutex of SQLite's own: ours guards the connection.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if version(&connection)? != supported() {
        migrate(&mut connection, path, root)?;
    }
    claim(&connection, root, whiteouts)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", MOST_PAGES)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn supported() -> i64 {
    MIGRATIONS.len() as i64
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings an empty or older database up to date. The lock on the root keeps two processes from doing it at once.
fn migrate(connection: &mut Connection, path: &Path, root: &Path) -> Result<(), StoreError> {
    let lock = sys::open_directory(root).map_err(StoreError::io("open", root))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(StoreError::io("lock", root))?;
    let found = version(connection)?;
    if found > supported() || found < 0 {
        return Err(StoreError::DatabaseVersion { path: path.to_owned(), found, supported: supported() });
    }
    if found == 0 {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            let reason = "it is a database of something else".to_owned();
            return Err(StoreError::DatabaseDamaged { path: path.to_owned(), reason });
        }
    }
    if enter_wal(connection)? != "wal" {
        let reason = "its file system does not support a write-ahead log".to_owned();
        return Err(StoreError::DatabaseDamaged { path: path.to_owned(), reason });
    }
    transact(connection, |transaction| {
        for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", supported())?;
        Ok(())
    })
}

/// Yields the mode that the database is in then. SQLite does not wait here while somebody else is in the database; who
/// is, looks at its version and leaves again.
fn enter_wal(connection: &Connection) -> rusqlite::Result<String> {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        match connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && waited < BUSY_TIMEOUT => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            result => return result,
        }
    }
}

/// Checks that the layers carry marks of this kind. The first to open a database settles it.
fn claim(connection: &Connection, root: &Path, whiteouts: Whiteouts) -> Result<(), StoreError> {
    let own = whiteouts.application_id();
    let made_with = if whiteouts == Whiteouts::User { Whiteouts::Trusted } else { Whiteouts::User };
    match connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i64>(0))? {
        0 => Ok(connection.pragma_update(None, "application_id", own)?),
        kind if kind == own => Ok(()),
        _ => Err(StoreError::OtherWhiteouts { root: root.to_owned(), made_with }),
    }
}

impl Whiteouts {
    /// `kiln` or `kilu`, as four bytes.
    fn application_id(self) -> i64 {
        match self {
            Self::Trusted => 0x6b69_6c6e,
            Self::User => 0x6b69_6c75,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    /// The path is filled in by `locate` on the way out.
    fn from(source: rusqlite::Error) -> Self {
        Self::Database { path: PathBuf::new(), source }
    }
}

/// Says which file a database error is about, and tells damage from other trouble.
fn locate(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Database { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::DatabaseDamaged { path: path.to_owned(), reason: source.to_string() }
            }
            _ => StoreError::Database { path: path.to_owned(), source },
        },
        other => other,
    }
}

/// A time as the database keeps it: nanoseconds since 1970.
pub(crate) fn to_nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// The time that the database keeps as this.
pub(crate) fn from_nanos(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let time = if nanos < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A digest from its column.
pub(crate) fn digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_no_database() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("kiln.db"), vec![b'x'; 8192]).unwrap();
        assert!(matches!(Database::open(root.path(), Whiteouts::Trusted), Err(StoreError::DatabaseDamaged { .. })));
    }

    #[test]
    fn the_database_of_something_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        Connection::open(root.path().join("kiln.db")).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(Database::open(root.path(), Whiteouts::Trusted), Err(StoreError::DatabaseDamaged { .. })));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let database = Database::open(root.path(), Whiteouts::Trusted).unwrap();
        database.write(|transaction| Ok(transaction.pragma_update(None, "user_version", 1000)?)).unwrap();
        let error = Database::open(root.path(), Whiteouts::Trusted).err().unwrap();
        assert!(matches!(error, StoreError::DatabaseVersion { found: 1000, .. }), "{error}");
    }

    #[test]
    fn many_open_a_new_database_at_once() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Database::open(root.path(), Whiteouts::Trusted).unwrap());
            }
        });
    }

    /// Several kilns that were the first in a store used to fail now and then: `database is locked`.
    #[test]
    fn a_new_database_is_opened_while_others_look_at_it() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stopped = || stop.load(std::sync::atomic::Ordering::SeqCst);
        let roots: Vec<_> = (0..30).map(|_| tempfile::tempdir().unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let open = |root: &tempfile::TempDir| Connection::open(root.path().join("kiln.db")).unwrap();
                    let others: Vec<Connection> = roots.iter().map(open).collect();
                    while !stopped() {
                        for other in &others {
                            // It may be locked, which is none of our business.
                            let _ = version(other);
                        }
                    }
                });
            }
            let opened: Vec<_> = roots.iter().map(|root| Database::open(root.path(), Whiteouts::Trusted)).collect();
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            opened.into_iter().for_each(|opened| drop(opened.unwrap()));
        });
    }

    #[test]
    fn times_survive() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_001, i64::MAX] {
            assert_eq!(to_nanos(from_nanos(nanos)), nanos);
        }
    }
}
