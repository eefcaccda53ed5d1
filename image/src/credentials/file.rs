//! docker's `config.json` and containers' `auth.json`: which helpers they name and what they hold themselves.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Credential, Secret, server_names};
use crate::ImageError;

/// The part of the file that is about credentials; docker keeps much else in it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CredentialFile {
    #[serde(default)]
    auths: BTreeMap<String, Option<StoredCredential>>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct StoredCredential {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl CredentialFile {
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ImageError> {
        read(path)
    }

    /// Whether there is an entry for a registry, in which a helper may be all that it says.
    pub(super) fn names(&self, registry: &str) -> bool {
        self.auths.keys().any(|key| is_for(key, registry))
    }

    /// The helpers to ask, in order, and the name by which each knows the registry.
    pub(super) fn helpers(&self, registry: &str) -> Vec<(&str, String)> {
        let names = server_names(registry);
        let own = names.iter().find_map(|name| Some((self.cred_helpers.get(name)?.as_str(), name.clone())));
        let store = self.creds_store.as_deref().filter(|store| !store.is_empty());
        let store = store.and_then(|store| Some((store, names.first()?.clone())));
        own.or(store).into_iter().collect()
    }

    /// What the file itself holds for a repository: the entry that names the most of it wins.
    pub(super) fn stored(&self, registry: &str, repository: &str) -> Result<Option<Credential>, String> {
        let mut scope = Some(format!("{registry}/{repository}"));
        while let Some(key) = scope {
            if let Some(credential) = self.auths.get(&key).and_then(Option::as_ref).map(StoredCredential::decode) {
                return credential;
            }
            scope = key.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        }
        match self.auths.iter().find(|(key, credential)| is_for(key, registry) && credential.is_some()) {
            Some((_, Some(credential))) => credential.decode(),
            _ => Ok(None),
        }
    }
}

/// The file with all that is in it; an empty one where there is none.
pub(super) fn read_document(path: &Path) -> Result<Map<String, Value>, ImageError> {
    Ok(read(path)?.unwrap_or_default())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(None);
        }
        Err(error) => return Err(ImageError::io("read", path)(error)),
    };
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    // The error of serde could quote a secret: only its place is told.
    let file = serde_json::from_slice(&text).map_err(|error| ImageError::CredentialFile {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    Ok(Some(file))
}

/// Whether an entry of this name is for a registry.
pub(super) fn is_for(key: &str, registry: &str) -> bool {
    server_names(registry).iter().any(|name| name == key || (is_legacy(key) && host_of(name) == host_of(key)))
}

/// Old files name registries by URL: `https://host/v1/`.
fn is_legacy(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}

fn host_of(key: &str) -> &str {
    let address = key.split_once("://").map_or(key, |(_, rest)| rest);
    address.split('/').next().unwrap_or(address)
}

impl StoredCredential {
    fn decode(&self) -> Result<Option<Credential>, String> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret(token))));
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret(token))));
        }
        if let Some(auth) = filled(&self.auth) {
            return decode_auth(&auth).map(Some);
        }
        let password = filled(&self.password).map(Secret);
        Ok(filled(&self.username).zip(password).map(|(user, password)| Credential::Password { user, password }))
    }
}

fn decode_auth(auth: &str) -> Result<Credential, String> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(auth.trim());
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (user, password) = pair.ok_or("its `auth` is not base64 of `user:password`")?;
    Ok(Credential::Password { user: user.to_owned(), password: Secret::new(password) })
}
