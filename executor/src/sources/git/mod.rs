//! A commit of a git repository.
//!
//! | file | |
//! |---|---|
//! | `program.rs` | running git |
//! | `resolve.rs` | which commit a branch or tag is |
//! | `mirror.rs` | the bare repository that is kept for each remote |
//! | `checkout.rs` | from a commit to files |

mod checkout;
mod mirror;
mod program;
mod resolve;

use kiln_cache::StoredLayer;
use kiln_solver::{Cancel, Digest, Git};

use super::memory::Memory;
use super::{Commit, SourceError, Sources};
use mirror::Mirror;
use program::Program;
use resolve::Target;

/// What one fetch works with.
struct Fetch<'a> {
    sources: &'a Sources<'a>,
    git: &'a Git,
    program: Program<'a>,
    cancel: &'a Cancel,
}

pub(super) fn fetch(sources: &Sources<'_>, git: &Git, cancel: &Cancel) -> Result<Commit, SourceError> {
    let program = Program::new(sources.remote, &git.remote, cancel);
    let fetch = Fetch { sources, git, program, cancel };
    let target = fetch.resolve()?;
    fetch.check(&target)?;
    let layer = fetch.layer_of(&target)?;
    Ok(Commit { layer, commit: target.commit })
}

impl Fetch<'_> {
    /// The layer of a commit, made if it was not made before.
    fn layer_of(&self, target: &Target) -> Result<StoredLayer, SourceError> {
        let memory = Memory::new(self.sources.store, "git", &self.name(target))?;
        if let Some((layer, _)) = memory.recall()? {
            return Ok(layer);
        }
        let mirror = Mirror::lock(self)?;
        // Somebody else may have done it while we waited.
        if let Some((layer, _)) = memory.recall()? {
            return Ok(layer);
        }
        let layer = match self.layer(&mirror, target) {
            // A power loss may have left half a repository; a new one has no past.
            Err(SourceError::Git { .. }) if mirror.is_old() => {
                mirror.start_over()?;
                self.layer(&mirror, target)?
            }
            made => made?,
        };
        memory.remember(&layer, &[])?;
        Ok(layer)
    }

    /// A name for the layer: the commit, where it was found, and what is made of it.
    fn name(&self, target: &Target) -> Digest {
        let Git { subdirectory, keep_git_dir, submodules, .. } = self.git;
        // `.git` tells the branch, and where submodules are may depend on the remote.
        let branch = target.name.as_deref().filter(|_| *keep_git_dir).unwrap_or_default();
        let subdirectory = subdirectory.as_deref().unwrap_or_default();
        let parts = [
            "kiln.git.v1",
            &self.git.remote,
            &target.commit,
            subdirectory,
            if *keep_git_dir { "keep" } else { "" },
            if *submodules { "submodules" } else { "" },
            branch,
        ];
        Digest::of(parts.join("\0").as_bytes())
    }

    fn check(&self, target: &Target) -> Result<(), SourceError> {
        let Some(expected) = self.git.checksum.as_deref().filter(|checksum| !checksum.is_empty()) else {
            return Ok(());
        };
        let fits = |found: &str| found.starts_with(&expected.to_ascii_lowercase());
        if fits(&target.commit) || fits(&target.object) {
            return Ok(());
        }
        Err(SourceError::CommitChecksum {
            remote: self.program.shown.clone(),
            reference: self.git.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
            expected: expected.to_owned(),
            found: target.commit.clone(),
        })
    }

    fn layer(&self, mirror: &Mirror, target: &Target) -> Result<StoredLayer, SourceError> {
        mirror.ensure(self, target)?;
        checkout::check_out(self, mirror, target)
    }
}

#[cfg(test)]
mod tests;
