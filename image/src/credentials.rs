//! Who the user is at a registry: docker's `config.json`, containers' `auth.json`, credential helpers.

use std::path::PathBuf;

/// Where credentials are looked up.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

impl Credentials {
    /// Nobody, anywhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// From these files, in this order (docker's `config.json` or containers' `auth.json`); one that does not
    /// exist is skipped.
    pub fn from_files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect() }
    }
}
