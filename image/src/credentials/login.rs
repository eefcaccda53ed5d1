//! Keeping and forgetting credentials: with a helper or store where docker's configuration names one, else in the file.

use std::fs::{DirBuilder, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::Cancel;
use serde_json::{Map, Value, json};

use super::file::{self, CredentialFile};
use super::{Credential, Credentials, Secret, server_names};
use crate::ImageError;

/// A user of a registry and the password, as they were given.
pub struct Login {
    /// Host and port.
    registry: String,
    user: String,
    password: Secret,
}

/// Where credentials are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// By this program.
    Helper(String),
    /// In this file, for whoever can read it.
    File(PathBuf),
}

impl Login {
    /// A user and a password.
    pub fn new(registry: &str, user: &str, password: &str) -> Self {
        Self { registry: registry.to_owned(), user: user.to_owned(), password: Secret::new(password) }
    }

    /// The registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub(crate) fn credential(&self) -> Credential {
        Credential::Password { user: self.user.clone(), password: self.password.clone() }
    }
}

impl Credentials {
    /// Whether there are credentials for a registry.
    ///
    /// # Errors
    /// When a file is malformed or a helper fails.
    pub fn has(&self, registry: &str, cancel: &Cancel) -> Result<bool, ImageError> {
        Ok(self.find(registry, "", cancel)?.is_some())
    }

    /// Keeps credentials: with the helper or store that the first file names, else in that file.
    ///
    /// # Errors
    /// When the file is malformed or cannot be written, or the helper fails.
    pub fn store(&self, login: &Login, cancel: &Cancel) -> Result<Stored, ImageError> {
        let registry = login.registry.as_str();
        let error = |reason: String| ImageError::Credentials { registry: registry.to_owned(), reason };
        let path = self.first(registry)?;
        let known = CredentialFile::read(path)?.unwrap_or_default();
        let server = server_names(registry).into_iter().next().unwrap_or_default();
        let mut entry = json!({});
        let stored = match known.helpers(registry).into_iter().next() {
            Some((name, server)) => {
                let helper = self.helper(name, cancel);
                helper.store(&server, &login.user, &login.password, &error)?;
                Stored::Helper(helper.program())
            }
            None => {
                let pair = format!("{}:{}", login.user, login.password.reveal());
                entry = json!({ "auth": STANDARD.encode(pair) });
                Stored::File(path.to_owned())
            }
        };
        change(path, |auths| {
            auths.retain(|key, _| !file::is_for(key, registry));
            auths.insert(server, entry);
        })?;
        Ok(stored)
    }

    /// Forgets the credentials that the first file, or the helper that it names, has for a registry; `false` where
    /// there were none.
    ///
    /// # Errors
    /// When the file is malformed or cannot be written, or the helper fails.
    pub fn erase(&self, registry: &str, cancel: &Cancel) -> Result<bool, ImageError> {
        let error = |reason: String| ImageError::Credentials { registry: registry.to_owned(), reason };
        let path = self.first(registry)?;
        let Some(known) = CredentialFile::read(path)? else { return Ok(false) };
        let mut found = false;
        for (name, server) in known.helpers(registry) {
            found |= self.helper(name, cancel).erase(&server, &error)?;
        }
        if known.names(registry) {
            found = true;
            change(path, |auths| auths.retain(|key, _| !file::is_for(key, registry)))?;
        }
        Ok(found)
    }

    fn first(&self, registry: &str) -> Result<&Path, ImageError> {
        self.files.first().map(PathBuf::as_path).ok_or_else(|| ImageError::Credentials {
            registry: registry.to_owned(),
            reason: "there is no file for them: neither `HOME` nor `DOCKER_CONFIG` is set".to_owned(),
        })
    }
}

/// Changes the entries of a file and nothing else in it. It appears whole, and readable for its owner alone.
fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), ImageError> {
    let mut document = file::read_document(path)?;
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    if let Some(auths) = auths.as_object_mut() {
        change(auths);
    }
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(&document, &mut serializer)
        .map_err(|error| ImageError::io("write", path)(std::io::Error::other(error)))?;
    // Through a symbolic link, it is the file behind it that changes.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(ImageError::io("create", folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-").permissions(Permissions::from_mode(0o600));
    let mut file = builder.tempfile_in(folder).map_err(ImageError::io("create", &path))?;
    file.write_all(&bytes).map_err(ImageError::io("write", &path))?;
    file.persist(&path).map_err(|error| ImageError::io("create", &path)(error.error))?;
    Ok(())
}
