//! Cache mounts: directories that outlive steps and builds, shared by all kiln processes of a store.
//!
//! ```text
//! $ROOT/mounts/HEX/     a cache: HEX is the digest of its id and of what it begins with
//!   id                  its id
//!   lock                locked with flock(2) while a copy is looked for or added
//!   N/                  one copy; there is a second one where somebody wanted it while the first was not to be had
//!     lock              locked, shared or not, by whoever uses the copy; its modification time is that of the last use
//!     data              what is mounted: a directory, or a file where the cache begins with one
//! ```
//!
//! A copy is made in `tmp/` and renamed, so there is never half of one. Locks go with the command to the sandbox's
//! helper: they are held until every process of it is dead, even if kiln is killed, and no longer.
//!
//! As BuildKit has it, `shared` uses any copy that nobody has for itself, `private` takes one that nobody uses, and
//! `locked` waits for one rather than make a second.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kiln_cache::{LayerDraft, Store};
use kiln_solver::{Cancel, Digest, Sharing};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::MountError;

const FORMAT: &[u8] = b"kiln.cache-mount.v1";
/// How often a lock that somebody else has is tried again: nothing tells when it is free.
const PAUSE: Duration = Duration::from_millis(10);

/// The cache of this id that began with what has this digest, or with nothing.
pub(super) fn name(id: &str, seed: Option<&Digest>) -> Digest {
    let mut bytes = FORMAT.to_vec();
    bytes.extend_from_slice(&(id.len() as u64).to_le_bytes());
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(seed.map(Digest::as_bytes).map_or(&[], |digest| digest.as_slice()));
    Digest::of(&bytes)
}

/// A copy to be mounted, and the lock on it.
pub(super) struct Taken {
    pub(super) data: PathBuf,
    pub(super) lock: Arc<OwnedFd>,
}

/// A cache that somebody wants.
pub(super) struct Wanted<'a> {
    pub(super) store: &'a Store,
    pub(super) id: &'a str,
    pub(super) name: Digest,
    pub(super) sharing: Sharing,
    /// Puts what the cache begins with at `data` in an empty draft.
    pub(super) fill: &'a dyn Fn(&LayerDraft) -> Result<(), MountError>,
    /// Is told once that the step waits.
    pub(super) on_wait: &'a dyn Fn(),
    pub(super) cancel: &'a Cancel,
}

impl Wanted<'_> {
    /// Takes a copy, made if need be, and waits for one if that is wanted.
    pub(super) fn take(&self) -> Result<Taken, MountError> {
        let mut made: Option<LayerDraft> = None;
        let mut waited = false;
        loop {
            let cache = self.open()?;
            let copies = self.copies()?;
            for number in &copies {
                if let Some(taken) = self.try_copy(&self.directory().join(number.to_string()))? {
                    return Ok(taken);
                }
            }
            if self.sharing == Sharing::Locked && !copies.is_empty() {
                drop(cache);
                if !std::mem::replace(&mut waited, true) {
                    (self.on_wait)();
                }
                self.pause()?;
            } else if let Some(draft) = made.take() {
                let free = (0..).find(|number| !copies.contains(number)).unwrap_or_default();
                return self.add(&draft, &self.directory().join(free.to_string()));
            } else {
                // It may take its time; others need not wait for that.
                drop(cache);
                made = Some(self.make()?);
            }
        }
    }

    fn directory(&self) -> PathBuf {
        self.store.root().join("mounts").join(self.name.hex())
    }

    /// Makes the folder of the cache where it is missing, and locks it.
    fn open(&self) -> Result<OwnedFd, MountError> {
        let directory = self.directory();
        let path = directory.join("lock");
        loop {
            let lock = match open(&path) {
                Err(Errno::NOENT) => {
                    self.begin(&directory)?;
                    continue;
                }
                other => other.map_err(|error| self.failed("open", &path, error))?,
            };
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&lock, &path).map_err(|error| self.failed("lock", &path, error))? => return Ok(lock),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => self.pause()?,
                Err(error) => return Err(self.failed("lock", &path, error)),
            }
        }
    }

    fn begin(&self, directory: &Path) -> Result<(), MountError> {
        let scratch = self.store.scratch()?;
        let part = scratch.path().join("cache");
        let write = |name: &str, text: &[u8]| std::fs::File::create_new(part.join(name))?.write_all(text);
        std::fs::create_dir(&part)
            .and_then(|()| rustix::fs::chmod(&part, Mode::RWXU).map_err(Into::into))
            .and_then(|()| write("lock", b""))
            .and_then(|()| write("id", self.id.as_bytes()))
            .map_err(|error| self.failed("make", &part, error))?;
        match rustix::fs::renameat_with(CWD, &part, CWD, directory, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.failed("make", directory, error)),
        }
    }

    /// The numbers of all copies, in order.
    fn copies(&self) -> Result<Vec<u32>, MountError> {
        let directory = self.directory();
        let failed = |error| self.failed("read", &directory, error);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            numbers.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Locks a copy, unless others are in the way.
    fn try_copy(&self, copy: &Path) -> Result<Option<Taken>, MountError> {
        let path = copy.join("lock");
        let lock = open(&path).map_err(|error| self.failed("open", &path, error))?;
        match rustix::fs::flock(&lock, self.kind_of_lock()) {
            Ok(()) => self.taken(copy, lock).map(Some),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(self.failed("lock", &path, error)),
        }
    }

    fn kind_of_lock(&self) -> FlockOperation {
        match self.sharing {
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
            Sharing::Private | Sharing::Locked => FlockOperation::NonBlockingLockExclusive,
        }
    }

    fn taken(&self, copy: &Path, lock: OwnedFd) -> Result<Taken, MountError> {
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        rustix::fs::futimens(&lock, &now).map_err(|error| self.failed("use", copy, error))?;
        Ok(Taken { data: copy.join("data"), lock: Arc::new(lock) })
    }

    /// A copy in a place of its own.
    fn make(&self) -> Result<LayerDraft, MountError> {
        let draft = self.store.begin_layer()?;
        (self.fill)(&draft)?;
        let path = draft.files().join("lock");
        std::fs::File::create_new(&path).map_err(|error| self.failed("make", &path, error))?;
        Ok(draft)
    }

    /// Adds a copy, locked already, to a cache that is locked.
    fn add(&self, draft: &LayerDraft, copy: &Path) -> Result<Taken, MountError> {
        let failed = |error| self.failed("make", copy, error);
        let lock = open(&draft.files().join("lock")).map_err(failed)?;
        rustix::fs::flock(&lock, self.kind_of_lock()).map_err(failed)?;
        rustix::fs::renameat_with(CWD, draft.files(), CWD, copy, RenameFlags::NOREPLACE).map_err(failed)?;
        self.taken(copy, lock)
    }

    fn pause(&self) -> Result<(), MountError> {
        if self.cancel.is_requested() {
            return Err(MountError::Cancelled);
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }

    fn failed(&self, action: &'static str, path: &Path, error: impl Into<io::Error>) -> MountError {
        MountError::Cache { action, path: path.to_owned(), id: self.id.to_owned(), source: error.into() }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Whether an open file is still the one at its path: an import may have exchanged the cache since it was opened.
fn is_at(file: &OwnedFd, path: &Path) -> Result<bool, Errno> {
    let open = rustix::fs::fstat(file)?;
    match rustix::fs::lstat(path) {
        Ok(there) => Ok((open.st_dev, open.st_ino) == (there.st_dev, there.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use kiln_cache::Whiteouts;

    use super::*;

    struct World {
        _directory: tempfile::TempDir,
        store: Store,
        made: AtomicUsize,
        cancel: Cancel,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path(), Whiteouts::Trusted).unwrap();
            Self { _directory: directory, store, made: AtomicUsize::new(0), cancel: Cancel::new() }
        }

        fn take(&self, id: &str, sharing: Sharing, on_wait: &dyn Fn()) -> Result<Taken, MountError> {
            let fill = |draft: &LayerDraft| {
                self.made.fetch_add(1, Ordering::SeqCst);
                std::fs::create_dir(draft.files().join("data")).unwrap();
                Ok(())
            };
            let Self { store, cancel, .. } = self;
            Wanted { store, id, name: name(id, None), sharing, fill: &fill, on_wait, cancel }.take()
        }

        fn at_once(&self, id: &str, sharing: Sharing) -> Taken {
            self.take(id, sharing, &|| panic!("waits")).unwrap()
        }
    }

    #[test]
    fn a_cache_is_found_again() {
        let world = World::new();
        let first = world.at_once("a", Sharing::Shared);
        assert!(first.data.is_dir());
        assert_eq!(world.at_once("a", Sharing::Shared).data, first.data);
        assert_ne!(world.at_once("b", Sharing::Shared).data, first.data);
        drop(first);
        for sharing in [Sharing::Private, Sharing::Locked, Sharing::Shared] {
            assert!(world.at_once("a", sharing).data.ends_with("0/data"));
        }
        assert_eq!(world.made.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn who_wants_it_alone_gets_another_one() {
        let world = World::new();
        let shared = world.at_once("a", Sharing::Shared);
        let private = world.at_once("a", Sharing::Private);
        assert_ne!(private.data, shared.data);
        let third = world.at_once("a", Sharing::Private);
        assert!(third.data != private.data && third.data != shared.data);
        drop(private);
        assert!(world.at_once("a", Sharing::Private).data.ends_with("1/data"), "the one that nobody uses");
    }

    #[test]
    fn a_locked_one_is_waited_for() {
        let world = World::new();
        let taken = world.at_once("a", Sharing::Locked);
        let data = taken.data.clone();
        let (waits, waiting) = mpsc::channel();
        std::thread::scope(|scope| {
            let (world, data) = (&world, &data);
            scope.spawn(move || {
                let second = world.take("a", Sharing::Locked, &|| waits.send(()).unwrap()).unwrap();
                assert_eq!(&second.data, data);
            });
            waiting.recv().unwrap();
            drop(taken);
        });
        assert_eq!(world.made.load(Ordering::SeqCst), 1);
        assert!(waiting.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn waiting_ends_with_the_build() {
        let world = World::new();
        let _taken = world.at_once("a", Sharing::Locked);
        let result = world.take("a", Sharing::Locked, &|| world.cancel.request());
        assert!(matches!(result, Err(MountError::Cancelled)));
    }

    #[test]
    fn many_at_once_make_one() {
        let world = World::new();
        let ready = std::sync::Barrier::new(8);
        let taken: Vec<Taken> = std::thread::scope(|scope| {
            let take = || {
                ready.wait();
                world.at_once("a", Sharing::Shared)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(taken.iter().all(|one| one.data == taken[0].data));
    }

    #[test]
    fn half_of_one_is_never_there() {
        let world = World::new();
        let Taken { data, lock } = world.at_once("a", Sharing::Shared);
        drop(lock);
        let cache = data.parent().unwrap().parent().unwrap().to_owned();
        std::fs::remove_dir_all(&cache).unwrap();
        let fail = |_: &LayerDraft| Err(MountError::Malformed("on purpose"));
        let World { store, cancel, .. } = &world;
        let name = name("a", None);
        let wanted = Wanted { store, id: "a", name, sharing: Sharing::Shared, fill: &fail, on_wait: &|| {}, cancel };
        assert!(wanted.take().is_err());
        let mut left: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["id", "lock"]);
        assert_eq!(world.at_once("a", Sharing::Shared).data, data);
    }

    #[test]
    fn names_do_not_run_together() {
        let one = Digest::of(b"1");
        assert_ne!(name("a", None), name("b", None));
        assert_ne!(name("a", None), name("a", Some(&one)));
        assert_ne!(name("a", Some(&one)), name("a", Some(&Digest::of(b"2"))));
        assert_eq!(
            name("/root/.cache", None).to_string(),
            "sha256:3cf80beead809aaebf087c3583ee8418c4b841d7f9097afbd64523963229a07f"
        );
    }
}
