//! The bare repository that is kept for each remote: what was fetched once is not fetched again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_solver::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::super::memory::directory;
use super::super::{SourceError, client};
use super::Fetch;
use super::program::words;
use super::resolve::Target;

/// How often a lock that somebody else holds is tried.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The repository of one remote, ours alone while this lives.
pub(super) struct Mirror {
    pub(super) path: PathBuf,
    is_old: bool,
    _lock: File,
}

impl Mirror {
    /// Waits until nobody else uses it.
    pub(super) fn lock(fetch: &Fetch<'_>) -> Result<Self, SourceError> {
        let directory = directory(fetch.sources.store, "git")?;
        let name = Digest::of(fetch.git.remote.as_bytes()).hex();
        let lock = directory.join(format!("{name}.lock"));
        let failed = |source| SourceError::Local { action: "lock", path: lock.clone(), source };
        let file = File::options().create(true).append(true).open(&lock).map_err(failed)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => client::pause(fetch.cancel, BETWEEN_TRIES)?,
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        let path = directory.join(format!("{name}.git"));
        let is_old = path.join("HEAD").exists();
        Ok(Self { path, is_old, _lock: file })
    }

    /// Whether an earlier build made it.
    pub(super) fn is_old(&self) -> bool {
        self.is_old
    }

    /// Takes everything in it away.
    pub(super) fn start_over(&self) -> Result<(), SourceError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SourceError::Local { action: "remove", path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that a commit is here.
    pub(super) fn ensure(&self, fetch: &Fetch<'_>, target: &Target) -> Result<(), SourceError> {
        if !self.path.join("HEAD").exists() {
            self.start_over()?;
            let parent = self.path.parent().unwrap_or(Path::new("/"));
            let args = words(&[&"init", &"--bare", &"--quiet", &"--template=", &"--", &self.path]);
            fetch.program.must(parent, &args, &[])?;
        }
        if self.has(fetch, target)? {
            return Ok(());
        }
        // The one commit, by its name or else by its number, which not every server gives.
        let names = [target.name.as_deref().filter(|name| name.starts_with("refs/")), Some(target.object.as_str())];
        for name in names.into_iter().flatten() {
            let refspec = format!("+{name}:refs/kiln/{}", target.object);
            let fetched = self.fetch(fetch, &["--depth=1", "--no-tags"], &[refspec])?;
            match fetched {
                Ok(()) if self.has(fetch, target)? => return Ok(()),
                Err(error @ (SourceError::Authentication { .. } | SourceError::Protocol { .. })) => return Err(error),
                _ => {}
            }
        }
        self.fetch_all(fetch)?;
        if self.has(fetch, target)? {
            return Ok(());
        }
        let what = format!("commit `{}`", target.commit);
        Err(SourceError::ReferenceNotFound { remote: fetch.program.shown.clone(), what })
    }

    /// Everything that branches and tags lead to.
    fn fetch_all(&self, fetch: &Fetch<'_>) -> Result<(), SourceError> {
        let all = ["+refs/heads/*:refs/kiln/heads/*", "+refs/tags/*:refs/kiln/tags/*"].map(str::to_owned);
        let is_shallow = self.path.join("shallow").exists();
        let options: &[&str] = if is_shallow { &["--unshallow", "--no-tags"] } else { &["--no-tags"] };
        self.fetch(fetch, options, &all)?
    }

    fn fetch(
        &self,
        fetch: &Fetch<'_>,
        options: &[&str],
        refspecs: &[String],
    ) -> Result<Result<(), SourceError>, SourceError> {
        let mut args = words(&[&"fetch", &"--quiet", &"--force", &"--no-recurse-submodules", &"--no-write-fetch-head"]);
        args.extend(options.iter().map(Into::into));
        args.extend(words(&[&"--", &fetch.program.address]));
        args.extend(refspecs.iter().map(Into::into));
        let fetched = fetch.program.run(&self.path, &args, &[])?;
        Ok(fetched.map(drop).map_err(|failed| fetch.program.error(failed)))
    }

    /// Whether a commit is here.
    fn has(&self, fetch: &Fetch<'_>, target: &Target) -> Result<bool, SourceError> {
        let commit = format!("{}^{{commit}}", target.object);
        Ok(fetch.program.run(&self.path, &["cat-file", "-e", &commit], &[])?.is_ok())
    }
}
