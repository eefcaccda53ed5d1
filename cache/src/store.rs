//! Opening the store.

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_solver::Digest;

use crate::compress::Compressing;
use crate::database::Database;
use crate::durability::Upkeep;
use crate::generation::{Generation, Generations};
use crate::promises::Promise;
use crate::session::{self, Session};
use crate::{ArchiveLimits, StoreError, StoredLayer, durability, sys};

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
    /// Layers that could be had from elsewhere.
    pub(crate) promises: Mutex<HashMap<Digest, Promise>>,
    /// Blobs that a thread is making.
    pub(crate) compressing: Compressing,
    /// What this store still sees of what has been pruned.
    pub(crate) generation: Generation,
    /// The directories of drafts that came to nothing, in the session.
    pub(crate) spare_drafts: Mutex<Vec<PathBuf>>,
    /// How much an archive may hold.
    pub(crate) limits: Mutex<ArchiveLimits>,
    /// Begun by the first who writes.
    session: Mutex<Option<Arc<Session>>>,
}

impl Store {
    /// Opens the store at `root`, creating what is missing, and clears away what dead processes and other
    /// boots left unfinished. Once something is written, what has waited longer than a minute to become durable is
    /// made so, by a thread of its own.
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
        let dead = session::dead(&tmp)?;
        // Before anything is read.
        let generation = Generations::of(&root).enter()?;
        let database = Database::open(&root, whiteouts)?.with_upkeep(Upkeep::new(&root, whiteouts, &boot));
        let store = Self(Arc::new(Inner {
            generation,
            root,
            whiteouts,
            boot,
            database,
            open_layers: Mutex::default(),
            present: Mutex::default(),
            promises: Mutex::default(),
            compressing: Compressing::default(),
            spare_drafts: Mutex::default(),
            limits: Mutex::default(),
            session: Mutex::default(),
        }));
        if let Some(first) = dead.first()
            && store.remove_leftovers(first.directory())?
        {
            session::bury(dead);
        }
        durability::check_other_boots(&store.0)?;
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
        durability::settle(&self.0.root, self.0.whiteouts, &self.0.boot)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// The layers that were looked at.
    pub(crate) fn layers_in_use(&self) -> HashSet<Digest> {
        let lock = |mutex: &Mutex<HashSet<Digest>>| mutex.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut layers = lock(&self.0.present);
        layers.extend(self.0.open_layers.lock().unwrap_or_else(PoisonError::into_inner).keys());
        layers
    }

    /// Forgets which layers were seen to be here.
    pub(crate) fn forget_seen(&self) {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.open_layers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
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
    for folder in ["", "blobs", "blobs/sha256", "layers", "mounts", "contexts", "history", "generations", "tmp"] {
        let path = root.join(folder);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
    }
    sys::spread_out(&root.join("tmp"));
    let gc = root.join("gc");
    File::create(&gc).map_err(StoreError::io("create", &gc))?;
    let session = Session::begin(&root.join("tmp"))?;
    let part = session.name("oci-layout");
    std::fs::write(&part, "{\"imageLayoutVersion\":\"1.0.0\"}").map_err(StoreError::io("write", &part))?;
    std::fs::rename(&part, &marker).map_err(StoreError::io("write", &marker))
}
