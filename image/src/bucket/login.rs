//! Who asks a bucket: keys that were given, or those that Amazon's own tools would find on this machine.
//!
//! The order is that of their SDKs: a token of an identity provider, the profile, the container, the machine. Nothing is
//! read or asked before a bucket is.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kiln_solver::Cancel;
use rusty_s3::Credentials;

use super::issued::{self, Issuers};
use super::profile;
use crate::credentials::Secret;
use crate::{Configuration, ImageError};

/// Keys that end are asked for anew that long before they do.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// What proves to a store who is asking.
#[derive(Clone, PartialEq, Eq)]
pub enum BucketLogin {
    /// Keys that were given.
    Keys(Keys),
    /// Those that are found on this machine; nobody in particular asks where there are none.
    Found(Box<AwsSurroundings>),
}

/// An access key, and the token of a session where it is one's.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) id: String,
    pub(super) key: Secret,
    pub(super) token: Option<Secret>,
    /// When they end.
    pub(super) expires: Option<SystemTime>,
}

/// What the environment says of keys for Amazon's services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSurroundings {
    /// The region.
    pub region: String,
    /// The profile that is asked for (`AWS_PROFILE`).
    pub profile: Option<String>,
    /// `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, or `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, with the role to take on.
    pub web_identity: Option<WebIdentity>,
    /// The URL of the security token service; Amazon's own of the region where there is none.
    pub sts_endpoint: Option<String>,
    /// Where a container gets its keys (`AWS_CONTAINER_CREDENTIALS_FULL_URI`, or the relative one made whole).
    pub container_url: Option<String>,
    /// What it says to get them (`AWS_CONTAINER_AUTHORIZATION_TOKEN`).
    pub container_token: Option<Secret>,
    /// A file with that, which counts more (`AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`).
    pub container_token_file: Option<PathBuf>,
    /// Where a machine gets its keys; nowhere if it is not to be asked (`AWS_EC2_METADATA_DISABLED`).
    pub metadata_url: Option<String>,
}

/// Who an identity provider says that this is, and what it may be taken for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebIdentity {
    /// The file with the provider's token.
    pub token_file: PathBuf,
    /// The ARN of the role.
    pub role: String,
    /// What the session is called.
    pub session: Option<String>,
}

impl Keys {
    /// An access key by its id, and the token of a session where it is one's.
    pub fn new(id: impl Into<String>, key: impl Into<String>, token: Option<String>) -> Self {
        Self { id: id.into(), key: Secret::new(key), token: token.map(Secret::new), expires: None }
    }

    fn credentials(&self) -> Credentials {
        match &self.token {
            Some(token) => Credentials::new_with_token(&self.id, self.key.reveal(), token.reveal()),
            None => Credentials::new(&self.id, self.key.reveal()),
        }
    }
}

impl fmt::Debug for BucketLogin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BucketLogin")
    }
}

/// The keys of a bucket, as far as they have been found.
pub(super) struct KeyRing {
    login: BucketLogin,
    issuers: Issuers,
    /// What was found last; `Some(None)` where there is nothing to be found.
    found: Mutex<Option<Option<Keys>>>,
}

impl KeyRing {
    pub(super) fn new(login: BucketLogin, configuration: &Configuration) -> Self {
        Self { login, issuers: Issuers::new(configuration), found: Mutex::default() }
    }

    /// What requests are signed with; nothing where nobody in particular asks.
    pub(super) fn credentials(&self, cancel: &Cancel) -> Result<Option<Credentials>, ImageError> {
        let surroundings = match &self.login {
            BucketLogin::Keys(keys) => return Ok(Some(keys.credentials())),
            BucketLogin::Found(surroundings) => surroundings,
        };
        // Whoever else wants them waits: once is enough.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = |keys: &Keys| keys.expires.is_some_and(|end| end < SystemTime::now() + MARGIN);
        if found.as_ref().is_none_or(|found| found.as_ref().is_some_and(is_stale)) {
            *found = Some(find(surroundings, &self.issuers, cancel)?);
        }
        Ok(found.as_ref().and_then(|found| found.as_ref().map(Keys::credentials)))
    }
}

fn find(from: &AwsSurroundings, issuers: &Issuers, cancel: &Cancel) -> Result<Option<Keys>, ImageError> {
    if let Some(identity) = &from.web_identity {
        return issued::of_identity(identity, from, issuers, cancel).map(Some);
    }
    match profile::find(from)? {
        profile::Found::Keys(keys) => return Ok(Some(keys)),
        profile::Found::Identity(identity) => return issued::of_identity(&identity, from, issuers, cancel).map(Some),
        profile::Found::Nothing => {}
    }
    if let Some(url) = &from.container_url {
        return issued::of_container(url, from, issuers, cancel).map(Some);
    }
    match &from.metadata_url {
        Some(url) => issued::of_machine(url, issuers, cancel),
        None => Ok(None),
    }
}

/// An error on the way to keys.
pub(super) fn failed(reason: impl Into<String>) -> ImageError {
    ImageError::Credentials { registry: "s3".to_owned(), reason: reason.into() }
}
