//! All that is in the store: what it takes of the disk, when it was used, and who holds it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_solver::Digest;
use rusqlite::params;
use rustix::fs::FlockOperation;

use super::disk;
use super::holders::Holders;
use crate::{Store, StoreError, database};

/// One thing in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it is.
    pub kind: UsageKind,
    /// A digest, or the name of a folder or file below the store's own.
    pub id: String,
    /// What it is called besides: the id of a cache mount, the first known step that made a layer.
    pub description: String,
    /// What it takes of the disk, in bytes.
    pub size: u64,
    /// When it was made, where that is known.
    pub created: Option<SystemTime>,
    /// When it was used last, where that is known.
    pub used: Option<SystemTime>,
    /// Who needs it.
    pub held: Vec<Held>,
    /// Of a layer: those right below it, in images and in what steps came to. It does not need them.
    pub parents: Vec<Digest>,
    /// Whether it belongs to an image that was fetched, and not to what was built here.
    pub is_fetched: bool,
}

/// What a [`Usage`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKind {
    /// An unpacked layer.
    Layer,
    /// A manifest, a config or a compressed layer.
    Blob,
    /// A copy of a cache mount.
    CacheMount,
    /// What is remembered of the files of a build context.
    Context,
    /// A git repository that was fetched.
    Git,
    /// The history of builds.
    History,
    /// What is being made at the moment.
    Temporary,
    /// The database, and the little files that keep order.
    Database,
}

/// Who needs a thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The image of this name.
    Image(String),
    /// What is remembered of this step: with it the step is cached.
    Step(String),
    /// A build that runs: it has a cache mount, or was there when the thing was pruned.
    Build,
}

impl UsageKind {
    /// What filters can be about.
    pub(super) const FILTERED: [Self; 5] = [Self::Layer, Self::Blob, Self::CacheMount, Self::Context, Self::Git];

    /// What BuildKit calls its kind of it.
    pub(super) fn buildkit_name(self) -> Option<&'static str> {
        match self {
            Self::Layer => Some("regular"),
            Self::CacheMount => Some("exec.cachemount"),
            Self::Context => Some("source.local"),
            Self::Git => Some("source.git.checkout"),
            Self::Blob | Self::History | Self::Temporary | Self::Database => None,
        }
    }

    /// The word for it, for `--filter type=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Blob => "blob",
            Self::CacheMount => "cachemount",
            Self::Context => "context",
            Self::Git => "git",
            Self::History => "history",
            Self::Temporary => "temporary",
            Self::Database => "database",
        }
    }
}

impl Usage {
    pub(super) fn of_files(kind: UsageKind, id: String, size: u64) -> Self {
        Self {
            kind,
            id,
            size,
            description: String::new(),
            created: None,
            used: None,
            held: Vec::new(),
            parents: Vec::new(),
            is_fetched: false,
        }
    }

    /// Whether it may come to have another content.
    pub fn is_mutable(&self) -> bool {
        !matches!(self.kind, UsageKind::Layer | UsageKind::Blob)
    }

    /// The names of the steps that need it.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.held.iter().filter_map(|held| match held {
            Held::Step(name) => Some(name.as_str()),
            Held::Image(_) | Held::Build => None,
        })
    }

    /// Whether an image needs it.
    pub fn is_in_image(&self) -> bool {
        self.held.iter().any(|held| matches!(held, Held::Image(_)))
    }

    /// Whether a prune could take it away now.
    pub fn is_reclaimable(&self) -> bool {
        self.is_cache() && !self.held.contains(&Held::Build)
    }

    /// Whether it is there to make builds faster and nothing else: no image needs it.
    pub fn is_cache(&self) -> bool {
        use UsageKind::{Blob, CacheMount, Context, Git, Layer};
        matches!(self.kind, Layer | Blob | CacheMount | Context | Git) && !self.is_in_image()
    }

    /// Whether it was pruned, and goes as soon as the builds that run have ended.
    pub(super) fn is_condemned(&self) -> bool {
        matches!(self.kind, UsageKind::Layer | UsageKind::Blob) && self.held.contains(&Held::Build)
    }
}

/// A row of `layers` or `blobs`.
struct Row {
    digest: Digest,
    saved: SystemTime,
    used: Option<SystemTime>,
    disk: Option<u64>,
    is_condemned: bool,
    is_fetched: bool,
}

impl Store {
    /// All that is in the store, the largest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, StoreError> {
        let holders = self.holders()?;
        let mut all = self.layers_usage(&holders)?;
        all.extend(self.blobs_usage(&holders)?);
        all.extend(self.mounts_usage()?);
        all.extend(self.contexts_usage()?);
        let root = self.root();
        for (kind, name) in [
            (UsageKind::History, "history"),
            (UsageKind::Temporary, "tmp"),
            (UsageKind::Database, "kiln.db"),
            (UsageKind::Database, "kiln.db-wal"),
            (UsageKind::Database, "kiln.db-shm"),
        ] {
            let path = root.join(name);
            let size = disk::taken(&path).map_err(StoreError::io("read", &path))?;
            if size > 0 {
                all.push(Usage::of_files(kind, name.to_owned(), size));
            }
        }
        all.push(Usage::of_files(UsageKind::Database, "folders".to_owned(), self.own_folders()?));
        all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// What the folders themselves take, and the little files that keep order in them.
    fn own_folders(&self) -> Result<u64, StoreError> {
        let root = self.root();
        let mut paths: Vec<PathBuf> = ["", "gc", "oci-layout", "blobs", "blobs/sha256", "layers", "mounts"]
            .iter()
            .map(|name| root.join(name))
            .collect();
        for cache in folders(&root.join("mounts"))? {
            paths.extend([cache.join("id"), cache.join("lock"), cache]);
        }
        let own = paths.iter().map(|path| disk::own(path).map_err(StoreError::io("read", path)));
        let generations = root.join("generations");
        let total: u64 = own.sum::<Result<u64, _>>()?;
        Ok(total + disk::taken(&generations).map_err(StoreError::io("read", &generations))?)
    }

    fn layers_usage(&self, holders: &Holders) -> Result<Vec<Usage>, StoreError> {
        let rows = self.rows("SELECT diff_id, saved, used, disk, condemned, imported FROM layers")?;
        let unknown: Vec<Digest> = rows.iter().filter(|row| row.disk.is_none()).map(|row| row.digest).collect();
        let paths: Vec<PathBuf> = unknown.iter().map(|digest| self.inner().layer_directory(digest)).collect();
        let sizes = disk::taken_each(&paths).map_err(StoreError::io("read", self.root()))?;
        // A layer never changes, so it is measured once.
        self.inner().database.write(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE layers SET disk = ?2 WHERE diff_id = ?1")?;
            for (digest, size) in unknown.iter().zip(&sizes) {
                update.execute(params![digest.as_bytes(), i64::try_from(*size).unwrap_or(i64::MAX)])?;
            }
            Ok(())
        })?;
        let measured: HashMap<Digest, u64> = unknown.into_iter().zip(sizes).collect();
        let usage = |row: Row| {
            let size = row.disk.or_else(|| measured.get(&row.digest).copied()).unwrap_or_default();
            let parents = holders.parents.get(&row.digest).into_iter().flatten().copied().collect();
            let description = holders.makers.get(&row.digest).cloned().unwrap_or_default();
            Usage { parents, description, ..self.row_usage(UsageKind::Layer, row, size, &holders.layers) }
        };
        Ok(rows.into_iter().map(usage).collect())
    }

    fn blobs_usage(&self, holders: &Holders) -> Result<Vec<Usage>, StoreError> {
        let rows = self.rows("SELECT digest, saved, NULL, NULL, condemned, fetched FROM blobs")?;
        let paths: Vec<PathBuf> =
            rows.iter().map(|row| self.root().join("blobs/sha256").join(row.digest.hex())).collect();
        let sizes = disk::taken_each(&paths).map_err(StoreError::io("read", self.root()))?;
        let usage = |(row, size)| self.row_usage(UsageKind::Blob, row, size, &holders.blobs);
        Ok(rows.into_iter().zip(sizes).map(usage).collect())
    }

    fn row_usage(&self, kind: UsageKind, row: Row, size: u64, holders: &HashMap<Digest, Vec<Held>>) -> Usage {
        let held = match row.is_condemned {
            true => vec![Held::Build],
            false => holders.get(&row.digest).cloned().unwrap_or_default(),
        };
        let used = Some(row.used.unwrap_or(row.saved));
        let usage = Usage::of_files(kind, row.digest.to_string(), size);
        Usage { created: Some(row.saved), used, held, is_fetched: row.is_fetched, ..usage }
    }

    fn rows(&self, query: &str) -> Result<Vec<Row>, StoreError> {
        self.inner().database.read(|connection| {
            let mut query = connection.prepare(query)?;
            let rows = query.query_map([], |row| {
                Ok(Row {
                    digest: database::digest(row, 0)?,
                    saved: database::from_nanos(row.get(1)?),
                    used: row.get::<_, Option<i64>>(2)?.map(database::from_nanos),
                    disk: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                    is_condemned: row.get::<_, Option<i64>>(4)?.is_some(),
                    is_fetched: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Each copy of each cache mount.
    fn mounts_usage(&self) -> Result<Vec<Usage>, StoreError> {
        let mut all = Vec::new();
        for copy in copies(&self.root().join("mounts"))? {
            let io = || StoreError::io("read", &copy);
            let size = disk::taken(&copy).map_err(io())?;
            let used = std::fs::metadata(copy.join("lock")).and_then(|lock| lock.modified()).ok();
            let id = copy.strip_prefix(self.root()).unwrap_or(&copy).display().to_string();
            let name = copy.parent().map(|cache| std::fs::read(cache.join("id")).unwrap_or_default());
            let description = String::from_utf8_lossy(&name.unwrap_or_default()).into_owned();
            let held = if is_locked(&copy.join("lock")) { vec![Held::Build] } else { Vec::new() };
            all.push(Usage { used, description, held, ..Usage::of_files(UsageKind::CacheMount, id, size) });
        }
        Ok(all)
    }
}

/// Whether somebody has locked a file. What cannot be told is settled when it is to be taken.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    matches!(rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}

/// The folders of the copies of all cache mounts.
pub(super) fn copies(mounts: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut copies = Vec::new();
    for cache in folders(mounts)? {
        copies.extend(folders(&cache)?);
    }
    Ok(copies)
}

/// The folders in a folder, or none where that is not there.
pub(crate) fn folders(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = || StoreError::io("read", path);
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io())?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io())?;
        if entry.file_type().map_err(io())?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}
