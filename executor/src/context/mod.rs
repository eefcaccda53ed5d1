//! Build contexts: directories of this machine, seen through `.dockerignore`.
//!
//! | file | |
//! |---|---|
//! | `listing.rs` | one directory, read with getdents and statx |
//! | `walk.rs` | trees of them, each directory once per build |
//! | `hash.rs` | what files hold: from the stat cache, else read in parallel |
//! | `stat_cache.rs` | what earlier builds learned, `map.rs` its mapping |
//!
//! A [`Context`] is what one build sees: a directory is listed once, a file hashed once, and every later
//! question is answered from memory. What changes on the disk meanwhile shows when a file is copied and its
//! bytes are not those that the cache key speaks of: then the step fails.

mod hash;
mod listing;
mod map;
mod stat_cache;
mod walk;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use kiln_parser::ignore::Ignore;
use kiln_solver::Digest;
use rustix::fs::{CWD, Mode, OFlags};

use crate::paths;
use stat_cache::{Identity, Known, StatCache};
use walk::Seen;

pub(crate) use listing::{Node, open_file};
pub(crate) use walk::{Directory, NodeRef};

/// A directory that builds read from, seen through a `.dockerignore`.
pub struct Context {
    name: String,
    root: PathBuf,
    descriptor: OwnedFd,
    ignore: Ignore,
    stat_cache: PathBuf,
    /// Read when the first directory is.
    known: OnceLock<StatCache>,
    /// What this build has added to that.
    learned: Mutex<Vec<(Identity, Known)>>,
    seen: Mutex<Seen>,
}

/// Why a context could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The operating system refused something.
    #[error("cannot {action} `{}` in the build context `{context}`: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The name of the context.
        context: String,
        /// Why not.
        source: io::Error,
    },
    /// What should be the context is not a directory.
    #[error("the build context `{context}` is not a directory: `{}`", path.display())]
    NotADirectory {
        /// The name of the context.
        context: String,
        /// What was given for it.
        path: PathBuf,
    },
    /// A file is not what it was a moment ago.
    #[error("`{}` in the build context `{context}` was changed while it was being read; build again once it stays as it is", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The name of the context.
        context: String,
    },
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Context {
    /// Opens the directory `root` as the context `name`. What is learned of its files is kept in the directory
    /// `stat_cache` (`contexts/` of the store), so that an unchanged file is not read again by a later build.
    /// Nothing is walked yet.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn open(name: &str, root: &Path, ignore: Ignore, stat_cache: PathBuf) -> Result<Self, ContextError> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENOTDIR) => ContextError::NotADirectory { context: name.to_owned(), path: root.to_owned() },
            _ => ContextError::Io { action: "open", path: root.to_owned(), context: name.to_owned(), source },
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let real = std::fs::canonicalize(root).map_err(failed)?;
        let stat_cache = stat_cache.join(Digest::of(real.as_os_str().as_bytes()).hex());
        Ok(Self {
            name: name.to_owned(),
            root: root.to_owned(),
            descriptor,
            ignore,
            stat_cache,
            known: OnceLock::new(),
            learned: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// The name that steps know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What earlier builds learned.
    fn known(&self) -> &StatCache {
        self.known.get_or_init(|| StatCache::open(self.stat_cache.clone()))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn error(&self, action: &'static str, path: &[u8], source: impl Into<io::Error>) -> ContextError {
        let source = source.into();
        // A link in the place of what was no link: somebody is changing the tree under us.
        if matches!(source.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) {
            return self.changed(path);
        }
        ContextError::Io { action, path: shown(path), context: self.name.clone(), source }
    }

    pub(crate) fn changed(&self, path: &[u8]) -> ContextError {
        ContextError::Changed { path: shown(path), context: self.name.clone() }
    }

    /// Whether something is at this path that `.dockerignore` leaves out; for the explanation of an error.
    pub(crate) fn leaves_out(&self, path: &[u8]) -> bool {
        let there = listing::open_directory(self.descriptor(), paths::parent(path)).is_ok_and(|parent| {
            rustix::fs::statat(&parent, paths::name(path), rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
        });
        there && self.ignore.is_ignored(path)
    }
}

fn shown(path: &[u8]) -> PathBuf {
    let path = if path.is_empty() { b"." } else { path };
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests;
