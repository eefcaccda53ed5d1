//! What comes from afar: files of web servers, commits of git repositories, and archives that hold a context.
//!
//! | file | |
//! |---|---|
//! | `http.rs` | one file over http or https, asked for again only if it changed |
//! | `client.rs` | the HTTP client, requests that can be interrupted |
//! | `git/` | a commit of a repository, through the git program |
//! | `archive.rs` | archives as contexts |
//! | `memory.rs` | which layer came of what, from one build to the next |
//! | `found.rs` | what a source turned out to be |
//! | `address.rs` | URLs without the secrets in them |
//!
//! ```text
//! $ROOT/contexts/
//!   http/HEX       a memory: entity tag, date and layer of a URL
//!   mounts/HEX     a memory: the layer of a part of a build context that commands mount, times and all
//!   git/HEX        a memory: the layer of a commit
//!   git/HEX.git    a bare repository for each remote, which only grows
//!   git/HEX.lock   locked with flock(2) while the repository is used
//! ```
//!
//! **Invariant**: no credential of a URL reaches an error, a log, a memory or the arguments of a program.

mod address;
mod archive;
mod client;
mod error;
mod found;
mod git;
mod http;
mod memory;
#[cfg(test)]
mod testing;

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use kiln_cache::{Store, StoredLayer};
use kiln_solver::{Cancel, Git, Http};

pub use address::shown;
pub use archive::Unpacked;
pub use error::SourceError;
pub use found::Found;
pub(crate) use memory::Memory;

/// How this machine reaches others.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The environment of programs that fetch, and where proxies (`HTTPS_PROXY` and the like) are looked up:
    /// `PATH`, `SSH_AUTH_SOCK`, `GIT_ALLOW_PROTOCOL`, …
    pub environment: Vec<(OsString, OsString)>,
    /// The pause before a request is made a second time; it doubles with each one.
    pub pause: Duration,
}

impl Default for Remote {
    fn default() -> Self {
        Self { environment: Vec::new(), pause: Duration::from_millis(250) }
    }
}

impl Remote {
    /// A variable of the environment, unless it is empty.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }
}

/// A commit of a git repository.
#[derive(Clone)]
pub struct Commit {
    /// Its files.
    pub layer: StoredLayer,
    /// Its name: 40 hexadecimal digits (SHA-1) or 64 (SHA-256).
    pub commit: String,
}

/// Brings things from afar into a store.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Where to.
    pub store: &'a Store,
    /// How.
    pub remote: &'a Remote,
    /// When the new layers are said to be made.
    pub created: SystemTime,
}

impl Sources<'_> {
    /// A layer with the file in its root, mode 0600, root's, modified when the server says. A file that the server
    /// says is unchanged is not sent again.
    ///
    /// # Errors
    /// When the file cannot be fetched, or is not the one that the checksum speaks of.
    pub fn http(&self, http: &Http, cancel: &Cancel) -> Result<StoredLayer, SourceError> {
        http::fetch(self, http, cancel)
    }

    /// A layer with the files of a commit, modified when it was committed. A commit that was checked out before is
    /// not checked out again, and one that is named in full is not even asked for.
    ///
    /// # Errors
    /// When git is not installed, the repository cannot be reached, or it has no such commit.
    pub fn git(&self, git: &Git, cancel: &Cancel) -> Result<Commit, SourceError> {
        git::fetch(self, git, cancel)
    }
}
