//! Who may still use what was taken out of the store.
//!
//! A prune takes rows out of sight, not files away: they are *condemned* in the generation of that moment. Every open
//! store belongs to the generation in which it was opened, sees what was condemned in it or later as if nothing had
//! happened, and holds a shared lock on the generation's file for as long as it lives. The files go when nobody holds
//! that generation or an older one. So nothing that a build has found is ever taken from under it, and nobody waits.
//!
//! ```text
//! generations/current   the number of the generation; locked by those who opened the store in it
//! generations/N         the same file, once generation N has passed
//! ```
//!
//! A store that is being opened may lock a file in the moment when its generation passes. It reads nothing before it
//! has made sure that the file is still the current one. A generation ends only after what was condemned in it is out
//! of sight: whoever enters the next one must not have seen it.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::StoreError;
use crate::session::Session;

/// The first of all.
const FIRST: i64 = 1;

/// The generation in which a store was opened, held for as long as this lives.
pub(crate) struct Generation {
    number: i64,
    lock: OwnedFd,
}

/// Where the generations of a store are.
pub(crate) struct Generations {
    directory: PathBuf,
    tmp: PathBuf,
}

impl Generations {
    pub(crate) fn of(root: &Path) -> Self {
        Self { directory: root.join("generations"), tmp: root.join("tmp") }
    }

    fn current(&self) -> PathBuf {
        self.directory.join("current")
    }

    /// The number of the current generation.
    pub(crate) fn number(&self) -> Result<i64, StoreError> {
        let path = self.current();
        let text = std::fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
        number_in(&text, &path)
    }

    /// Enters the current generation.
    pub(crate) fn enter(&self) -> Result<Generation, StoreError> {
        let path = self.current();
        loop {
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.begin(FIRST, false)?;
                    continue;
                }
                file => file.map_err(StoreError::io("open", &path))?,
            };
            lock(&file, FlockOperation::LockShared).map_err(StoreError::io("lock", &path))?;
            let metadata = file.metadata().map_err(StoreError::io("read", &path))?;
            match std::fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()) => {}
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::io("read", &path)(error)),
                _ => continue,
            }
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(StoreError::io("read", &path))?;
            return Ok(Generation { number: number_in(&text, &path)?, lock: file.into() });
        }
    }

    /// Puts a generation in the place of the current one, or only where there is none.
    fn begin(&self, number: i64, replace: bool) -> Result<(), StoreError> {
        let io = |action| StoreError::io(action, &self.directory);
        std::fs::create_dir_all(&self.directory).map_err(io("create"))?;
        // Killed here, it leaves its part where others find and remove it.
        let session = Session::begin(&self.tmp)?;
        let part = session.name("generation");
        let written = std::fs::write(&part, number.to_string()).and_then(|()| match replace {
            true => std::fs::rename(&part, self.current()),
            false => match std::fs::hard_link(&part, self.current()) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                result => result,
            },
        });
        written.map_err(io("write in"))
    }

    /// Ends the current generation; yields its number. The caller sees to it that only one does.
    pub(crate) fn advance(&self) -> Result<i64, StoreError> {
        let number = self.number()?;
        let passed = self.directory.join(number.to_string());
        match std::fs::hard_link(self.current(), &passed) {
            // It was killed between the two, the last time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => result.map_err(StoreError::io("create", &passed))?,
        }
        self.begin(number + 1, true)?;
        Ok(number)
    }

    /// The last generation of those that have passed which nobody lives in, and in none before it; the files of these
    /// are removed. `own` does not count as somebody.
    pub(crate) fn passed(&self, own: &Generation) -> Result<Option<i64>, StoreError> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(StoreError::io("read", &self.directory))? {
            let entry = entry.map_err(StoreError::io("read", &self.directory))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()));
        }
        numbers.sort_unstable();
        let mut last = None;
        for number in numbers {
            let path = self.directory.join(number.to_string());
            let is_free = if number == own.number {
                lock(&own.lock, FlockOperation::NonBlockingLockExclusive)
            } else {
                match File::open(&path) {
                    // Another one was faster.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    file => {
                        lock(&file.map_err(StoreError::io("open", &path))?, FlockOperation::NonBlockingLockExclusive)
                    }
                }
            };
            match is_free {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(StoreError::io("lock", &path)(error)),
            }
            last = Some(number);
            if number == own.number {
                lock(&own.lock, FlockOperation::LockShared).map_err(StoreError::io("lock", &path))?;
            } else {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(last)
    }
}

impl Generation {
    /// Its number.
    pub(crate) fn number(&self) -> i64 {
        self.number
    }
}

fn number_in(text: &str, path: &Path) -> Result<i64, StoreError> {
    let damaged = |error| StoreError::io("read", path)(io::Error::new(ErrorKind::InvalidData, error));
    text.trim().parse().map_err(damaged)
}

fn lock(file: &impl std::os::fd::AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations() -> (tempfile::TempDir, Generations) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tmp")).unwrap();
        let generations = Generations::of(root.path());
        (root, generations)
    }

    #[test]
    fn a_generation_passes_when_all_who_entered_it_or_an_older_one_have_gone() {
        let (_root, generations) = generations();
        let first = generations.enter().unwrap();
        let also_first = generations.enter().unwrap();
        assert_eq!((first.number(), also_first.number()), (1, 1));
        assert_eq!(generations.advance().unwrap(), 1);
        let second = generations.enter().unwrap();
        assert_eq!(second.number(), 2);
        assert_eq!(generations.advance().unwrap(), 2);
        let third = generations.enter().unwrap();
        assert_eq!(generations.passed(&third).unwrap(), None);
        drop(second);
        assert_eq!(generations.passed(&third).unwrap(), None, "somebody lives in the first");
        drop(first);
        assert_eq!(generations.passed(&third).unwrap(), None);
        drop(also_first);
        assert_eq!(generations.passed(&third).unwrap(), Some(2));
        assert_eq!(generations.passed(&third).unwrap(), None, "they are gone");
        assert_eq!(generations.enter().unwrap().number(), 3);
    }

    #[test]
    fn one_that_ends_its_own_generation_does_not_stand_in_its_own_way() {
        let (_root, generations) = generations();
        let own = generations.enter().unwrap();
        generations.advance().unwrap();
        assert_eq!(generations.passed(&own).unwrap(), Some(1));
        let other = generations.enter().unwrap();
        generations.advance().unwrap();
        assert_eq!(generations.passed(&own).unwrap(), Some(1), "the other lives in the second");
        drop(other);
        assert_eq!(generations.passed(&own).unwrap(), Some(2));
    }

    #[test]
    fn many_enter_while_generations_pass() {
        let (_root, generations) = generations();
        generations.enter().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let entered = generations.enter().unwrap();
                        let path = generations.directory.join(entered.number().to_string());
                        let held = rustix::fs::fstat(&entered.lock).unwrap();
                        let there = rustix::fs::stat(generations.current()).into_iter().chain(rustix::fs::stat(&path));
                        let is_held = there.into_iter().any(|there| there.st_ino == held.st_ino);
                        assert!(is_held, "what is locked is the current generation's file or that of one passed");
                    }
                });
            }
            for _ in 0..100 {
                generations.advance().unwrap();
                let own = generations.enter().unwrap();
                generations.passed(&own).unwrap();
            }
        });
    }
}
