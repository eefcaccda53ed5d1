//! Who the user is at a registry: docker's `config.json`, containers' `auth.json`, credential helpers.
//!
//! The rules are docker's: a helper named for the registry comes first, then the credential store, then what
//! the file itself holds. Secrets never show in logs or errors.

mod file;
mod helper;
mod login;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kiln_solver::Cancel;

use crate::ImageError;
use file::CredentialFile;
use helper::Helper;
pub use login::{Login, Stored};

/// A helper that asks its user something is given that long to be answered.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// Where credentials are looked up. Nothing is read before a registry asks for them.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
    helper_path: Option<std::ffi::OsString>,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What proves to a registry who the user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A user and a password.
    Password {
        /// The name of the user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, to be exchanged for an access token.
    IdentityToken(Secret),
    /// A token that is sent to the registry as it is.
    RegistryToken(Secret),
}

impl Secret {
    /// Takes charge of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Credentials {
    /// Nobody, anywhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// From these files, in this order (docker's `config.json` or containers' `auth.json`); one that does not
    /// exist is skipped.
    pub fn from_files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), helper_path: None }
    }

    /// Looks for credential helpers in these directories (as in `PATH`) instead of those of this process.
    pub fn with_helper_path(self, path: impl Into<std::ffi::OsString>) -> Self {
        Self { helper_path: Some(path.into()), ..self }
    }

    /// The credentials for a repository, from the first file that has any.
    pub(crate) fn find(
        &self,
        registry: &str,
        repository: &str,
        cancel: &Cancel,
    ) -> Result<Option<Credential>, ImageError> {
        for path in &self.files {
            if let Some(file) = CredentialFile::read(path)?
                && let Some(credential) = self.find_in(&file, registry, repository, cancel)?
            {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        file: &CredentialFile,
        registry: &str,
        repository: &str,
        cancel: &Cancel,
    ) -> Result<Option<Credential>, ImageError> {
        let error = |reason: String| ImageError::Credentials { registry: registry.to_owned(), reason };
        for (helper, server) in file.helpers(registry) {
            if let Some(credential) = self.helper(helper, cancel).get(&server, &error)? {
                return Ok(Some(credential));
            }
        }
        file.stored(registry, repository).map_err(error)
    }

    fn helper<'a>(&'a self, name: &'a str, cancel: &'a Cancel) -> Helper<'a> {
        Helper { name, path: self.helper_path.as_deref(), patience: HELPER_PATIENCE, cancel }
    }
}

/// The names by which files and helpers know a registry.
fn server_names(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" => ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"]
            .map(str::to_owned)
            .into(),
        _ => vec![registry.to_owned()],
    }
}

#[cfg(test)]
mod tests;
