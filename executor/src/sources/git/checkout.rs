//! From a commit to files: plain modes, and the time of the commit on all of them.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kiln_cache::StoredLayer;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::super::SourceError;
use super::Fetch;
use super::mirror::Mirror;
use super::program::words;
use super::resolve::Target;

/// Makes a layer of a commit that the mirror has.
pub(super) fn check_out(fetch: &Fetch<'_>, mirror: &Mirror, target: &Target) -> Result<StoredLayer, SourceError> {
    let scratch = fetch.sources.store.scratch()?;
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).map_err(local("make", &tree))?;
    let checkout = Checkout { fetch, mirror, target, tree: &tree };
    let commit = checkout.commit()?;
    let with_submodules = fetch.git.submodules && checkout.has_submodules(&commit)?;
    if fetch.git.keep_git_dir || with_submodules {
        checkout.as_repository(&commit, with_submodules)?;
        if !fetch.git.keep_git_dir {
            remove_git(&tree).map_err(local("remove `.git` of", &tree))?;
        }
    } else {
        checkout.as_files(&commit, &scratch.path().join("index"))?;
    }
    let time = checkout.time(&commit)?;
    let root = checkout.root(&commit)?;
    settle(&root, time).map_err(local("set the modes and times of", &root))?;
    let draft = fetch.sources.store.begin_layer()?;
    move_contents(&root, draft.files()).map_err(local("move", &root))?;
    Ok(draft.commit(fetch.sources.created)?)
}

struct Checkout<'a> {
    fetch: &'a Fetch<'a>,
    mirror: &'a Mirror,
    target: &'a Target,
    tree: &'a Path,
}

impl Checkout<'_> {
    /// What the mirror says about a commit.
    fn ask(&self, args: &[&str]) -> Result<String, SourceError> {
        let output = self.fetch.program.must(&self.mirror.path, args, &[])?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// The commit itself, should the target be a tag of it.
    fn commit(&self) -> Result<String, SourceError> {
        self.ask(&["rev-parse", "--verify", "--quiet", &format!("{}^{{commit}}", self.target.object)])
    }

    fn has_submodules(&self, commit: &str) -> Result<bool, SourceError> {
        Ok(!self.ask(&["ls-tree", commit, "--", ".gitmodules"])?.is_empty())
    }

    /// When it was committed.
    fn time(&self, commit: &str) -> Result<i64, SourceError> {
        Ok(self.ask(&["show", "--no-patch", "--format=%ct", commit])?.parse().unwrap_or(0))
    }

    /// The files alone.
    fn as_files(&self, commit: &str, index: &Path) -> Result<(), SourceError> {
        if self.ask(&["ls-tree", commit])?.is_empty() {
            return Ok(());
        }
        let environment: [(&str, &OsStr); 3] = [
            ("GIT_DIR", self.mirror.path.as_os_str()),
            ("GIT_WORK_TREE", self.tree.as_os_str()),
            ("GIT_INDEX_FILE", index.as_os_str()),
        ];
        let args = ["checkout", "--quiet", "--force", "--no-recurse-submodules", commit, "--", "."];
        self.fetch.program.must(self.tree, &args, &environment).map(drop)
    }

    /// A repository with the one commit, its files and those of its submodules.
    fn as_repository(&self, commit: &str, submodules: bool) -> Result<(), SourceError> {
        let program = &self.fetch.program;
        let git = |args: &[&str]| program.must(self.tree, args, &[]).map(drop);
        git(&["init", "--quiet", "--template="])?;
        git(&["config", "remote.origin.url", &program.address])?;
        git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
        let name = self.target.name.as_deref().unwrap_or_default();
        let refspec = match name.strip_prefix("refs/tags/") {
            Some(_) => format!("+{}:{name}", self.target.object),
            None => commit.to_owned(),
        };
        let options = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--"];
        let mut args = words(&options.each_ref().map(|option| option as &dyn AsRef<OsStr>));
        args.extend([format!("file://{}", self.mirror.path.display()).into(), refspec.into()]);
        program.must(self.tree, &args, &[("GIT_ALLOW_PROTOCOL", OsStr::new("file"))])?;
        match name.strip_prefix("refs/heads/") {
            Some(branch) => git(&["checkout", "--quiet", "--force", "-B", branch, commit, "--"])?,
            None => git(&["checkout", "--quiet", "--force", "--detach", commit, "--"])?,
        }
        if submodules { self.submodules() } else { Ok(()) }
    }

    fn submodules(&self) -> Result<(), SourceError> {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
        let shallow: Vec<&str> = update.into_iter().chain(["--depth=1"]).collect();
        // Not every server gives a commit that no branch ends in.
        match self.fetch.program.run(self.tree, &shallow, &[])? {
            Ok(_) => Ok(()),
            Err(_) => self.fetch.program.must(self.tree, &update, &[]).map(drop),
        }
    }

    /// The directory that becomes the root. No link leads to it: it might lead anywhere.
    fn root(&self, commit: &str) -> Result<PathBuf, SourceError> {
        let subdirectory = self.fetch.git.subdirectory.as_deref().unwrap_or_default();
        let mut root = self.tree.to_owned();
        for name in subdirectory.split('/').filter(|name| !matches!(*name, "" | ".")) {
            root.push(name);
            let is_directory = root.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if name == ".." || name == ".git" || !is_directory {
                return Err(SourceError::Subdirectory {
                    remote: self.fetch.program.shown.clone(),
                    subdirectory: subdirectory.to_owned(),
                    commit: commit.to_owned(),
                });
            }
        }
        Ok(root)
    }
}

fn local(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Local { action, path, source }
}

/// Removes every `.git`: git allows no file of that name in a commit, so they are the repositories' own.
fn remove_git(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        match (entry.file_name() == ".git", is_directory) {
            (true, true) => std::fs::remove_dir_all(entry.path())?,
            (true, false) => std::fs::remove_file(entry.path())?,
            (false, true) => remove_git(&entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// Gives all below a directory the modes that git knows, whatever the umask, and one time.
fn settle(directory: &Path, time: i64) -> io::Result<()> {
    let spec = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: spec, last_modification: spec };
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
            settle(&path, time)?;
        } else if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn move_contents(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
