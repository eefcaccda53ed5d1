//! Build contexts: directories of this machine, seen through `.dockerignore`.

use std::path::{Path, PathBuf};

use kiln_parser::ignore::Ignore;

/// A directory that builds read from, seen through a `.dockerignore`.
pub struct Context {}

/// Why a context could not be read, or lacks what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {}

impl Context {
    /// Opens the directory `root` as the context `name`. What is learned of its files is kept in the directory
    /// `stat_cache` (`contexts/` of the store), so that an unchanged file is not read again by a later build.
    /// Nothing is walked yet.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn open(_name: &str, _root: &Path, _ignore: Ignore, _stat_cache: PathBuf) -> Result<Self, ContextError> {
        todo!()
    }
}
