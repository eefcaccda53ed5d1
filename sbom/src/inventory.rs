//! All packages of a tree.

use kiln_cache::{View, ViewError};

use crate::{Package, Release, language, system};

/// The packages of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Which distribution it is of, where it says so.
    pub release: Option<Release>,
    /// The packages, sorted, each once.
    pub packages: Vec<Package>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// A file that was to tell of packages and could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`/{path}`: {reason}")]
pub struct Problem {
    /// The file: relative, no leading slash.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Larger files than that are no lists of packages, or none to be held in memory.
const LARGEST: u64 = 64 << 20;

/// What a tree is found to have, as it is gone through.
pub(crate) struct Found<'v> {
    pub(crate) view: &'v View,
    pub(crate) packages: Vec<Package>,
    pub(crate) problems: Vec<Problem>,
}

impl Inventory {
    /// The packages of a tree.
    ///
    /// # Errors
    /// When a layer is not in the store, or cannot be read. What the image itself has wrong is a [`Problem`].
    pub fn of(view: &View) -> Result<Self, ViewError> {
        let release = Release::of(view)?;
        let mut found = Found { view, packages: Vec::new(), problems: Vec::new() };
        system::find(&mut found, release.as_ref())?;
        for entry in view.walk(b"")? {
            if entry.entry.is_file() {
                language::find(&mut found, entry.entry.path)?;
            }
        }
        let Found { mut packages, problems, .. } = found;
        packages.sort_unstable();
        packages.dedup();
        Ok(Self { release, packages, problems })
    }
}

impl Found<'_> {
    /// The content of a file as text; nothing where there is none, or none that can be read, which is a problem.
    pub(crate) fn text(&mut self, path: &[u8]) -> Result<Option<String>, ViewError> {
        match self.view.read(path, LARGEST) {
            Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(ViewError::Store(error)) => Err(error.into()),
            Err(error @ (ViewError::Loop(_) | ViewError::TooLarge { .. })) => {
                self.problem(path, &error);
                Ok(None)
            }
            // Something else than a file: whoever made the image did not mean it as a list of packages.
            Err(_) => Ok(None),
        }
    }

    /// Notes what is wrong with a file.
    pub(crate) fn problem(&mut self, path: &[u8], reason: &dyn std::fmt::Display) {
        let path = String::from_utf8_lossy(path).into_owned();
        self.problems.push(Problem { path, reason: reason.to_string() });
    }
}
