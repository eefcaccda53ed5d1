//! What overlayfs leaves in its work directories, cleared away while the next command runs.
//!
//! Five directories and files have to go after each command, one after the other, and each costs the file system about
//! a tenth of a millisecond. One rename takes them out of the way.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A directory for what is to be removed. Whoever owns it makes it, and removes it with what is left in it.
pub(super) struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    /// Whether nothing more needs to be removed.
    closed: Arc<AtomicBool>,
    remover: Mutex<Option<Remover>>,
}

struct Remover {
    queue: Sender<PathBuf>,
    thread: JoinHandle<()>,
}

impl Trash {
    /// Trash in a directory. As long as that is not there, things are removed where they are.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, next: AtomicU64::new(0), closed: Arc::default(), remover: Mutex::default() }
    }

    /// Removes a directory with all that is in it; when this returns, it is not there any more. One that is not there is
    /// fine.
    pub(super) fn take(&self, path: &Path) -> io::Result<()> {
        let place = self.directory.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        if std::fs::rename(path, &place).is_ok() {
            self.queue(place);
            return Ok(());
        }
        // Most often it is not there, but it may be on another file system.
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What cannot be removed now stays in the trash.
    fn queue(&self, place: PathBuf) {
        let mut remover = self.remover.lock().unwrap_or_else(PoisonError::into_inner);
        if remover.is_none() {
            *remover = self.start();
        }
        if let Some(remover) = &*remover {
            let _ = remover.queue.send(place);
        }
    }

    fn start(&self) -> Option<Remover> {
        let (queue, places) = channel::<PathBuf>();
        let closed = self.closed.clone();
        let remove = move || {
            for place in places.iter().take_while(|_| !closed.load(Ordering::Relaxed)) {
                let _ = std::fs::remove_dir_all(place);
            }
        };
        let thread = std::thread::Builder::new().name("trash".to_owned()).spawn(remove).ok()?;
        Some(Remover { queue, thread })
    }
}

impl Drop for Trash {
    /// The thread must not be at work when the directory is removed.
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let remover = self.remover.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Remover { queue, thread }) = remover.take() {
            drop(queue);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_taken_is_gone_at_once_and_in_the_end_for_good() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let trash = Trash::new(at("trash"));
        trash.take(&at("never")).unwrap();
        for turn in 0..20 {
            if turn == 1 {
                fs::create_dir(trash.directory()).unwrap();
            }
            fs::create_dir_all(at("work/a/b")).unwrap();
            fs::write(at("work/a/b/c"), "").unwrap();
            trash.take(&at("work")).unwrap();
            assert!(!at("work").exists());
        }
        drop(trash);
        fs::remove_dir_all(at("trash")).unwrap();
    }
}
