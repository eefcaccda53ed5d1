//! The cache of GitHub Actions, in version 2 of its service: calls of Twirp, which answer with signed URLs of Azure's blob
//! storage. An entry never changes, and is found by its key or by how that begins, the youngest first.
//!
//! What belongs to whom says the token: a job reads the entries of its branch and of those that it comes from, and writes
//! those of its own branch.

mod token;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use kiln_solver::{Cancel, Digest};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::azure::{Header, Target};
use crate::credentials::Secret;
use crate::registry::{BlobReader, Body, Content, Http, Patience, Request, Response};
use crate::spec::Descriptor;
use crate::{Configuration, ImageError};
use token::Scope;

/// The service, in a URL.
const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";
/// What BuildKit's entries are marked with: those of others with the same keys are not meant.
const MARK: &[u8] = b"|go-actionscache-1.0";
/// The most of an answer that is read.
const LIMIT: u64 = 64 << 10;

/// Where the cache is, and who is asking.
#[derive(Clone, PartialEq, Eq)]
pub struct ActionsSettings {
    /// The URL of the service.
    pub url: String,
    /// The token of the job.
    pub token: Secret,
}

impl fmt::Debug for ActionsSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ActionsSettings({})", self.url)
    }
}

/// The cache. Connections are made when they are needed.
pub(crate) struct ActionsCache {
    url: Url,
    token: Secret,
    scopes: Vec<Scope>,
    http: Http,
    patience: Patience,
}

/// What was found.
pub(crate) struct Entry {
    pub(crate) key: String,
    url: Secret,
}

/// Whether something was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Now,
    /// There is such an entry, or somebody is about to make one.
    Before,
}

#[derive(Serialize)]
struct Asked<'a> {
    key: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_keys: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// What any of the calls answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    ok: bool,
    #[serde(alias = "signedUploadUrl")]
    signed_upload_url: String,
    #[serde(alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(alias = "matchedKey")]
    matched_key: String,
}

/// What Twirp says of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Complaint {
    code: String,
    msg: String,
}

impl ActionsCache {
    pub(crate) fn new(
        settings: &ActionsSettings,
        configuration: &Configuration,
        patience: &Patience,
    ) -> Result<Self, ImageError> {
        let wrong =
            |reason: &str| ImageError::RegistrySettings { registry: settings.url.clone(), reason: reason.into() };
        let slash = if settings.url.ends_with('/') { "" } else { "/" };
        let url = Url::parse(&format!("{}{slash}", settings.url)).map_err(|_| wrong("it is not a URL"))?;
        let scopes = token::scopes(settings.token.reveal()).map_err(wrong)?;
        let http = Http::new(configuration.clone(), patience.clone());
        Ok(Self { url, token: settings.token.clone(), scopes, http, patience: patience.clone() })
    }

    /// The scopes that can be read, the job's own first.
    pub(crate) fn readable(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().filter(|scope| scope.is_readable()).map(|scope| scope.scope.as_str())
    }

    /// The scope that is written to.
    pub(crate) fn writable(&self) -> Option<&str> {
        self.scopes.iter().rev().find(|scope| scope.is_writable()).map(|scope| scope.scope.as_str())
    }

    /// The host, for people.
    pub(crate) fn host(&self) -> String {
        crate::registry::host(&self.url)
    }

    /// The youngest entry whose key is this one, or begins with it.
    pub(crate) fn find(&self, key: &str, cancel: &Cancel) -> Result<Option<Entry>, ImageError> {
        let asked = Asked { restore_keys: Some([key]), ..Asked::of(key) };
        let answered = self.call("GetCacheEntryDownloadURL", &asked, cancel)?;
        let Answered { ok, signed_download_url, matched_key, .. } = answered.unwrap_or_default();
        let is_found = ok && !signed_download_url.is_empty() && matched_key.starts_with(key);
        Ok(is_found.then(|| Entry { key: matched_key, url: Secret::new(signed_download_url) }))
    }

    /// Whether there is an entry of this very key.
    pub(crate) fn has(&self, key: &str, cancel: &Cancel) -> Result<bool, ImageError> {
        Ok(self.find(key, cancel)?.is_some_and(|entry| entry.key == key))
    }

    /// The bytes of an entry, of which there are at most `limit`.
    pub(crate) fn read(
        &self,
        entry: &Entry,
        what: &'static str,
        limit: u64,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, ImageError> {
        let too_large = || ImageError::TooLarge { what, name: entry.key.clone(), limit };
        self.download(entry, 0, cancel)?.bytes(limit, cancel)?.ok_or_else(too_large)
    }

    /// The bytes of the entry of this very key.
    pub(crate) fn get(
        &self,
        key: &str,
        what: &'static str,
        limit: u64,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, ImageError> {
        self.read(&self.entry(key, cancel)?, what, limit, cancel)
    }

    /// Starts to fetch a blob. Its URL does not last, so each attempt asks for one.
    pub(crate) fn blob(
        self: &Arc<Self>,
        key: String,
        descriptor: &Descriptor,
        cancel: &Cancel,
    ) -> Result<BlobReader, ImageError> {
        let (cache, stop) = (self.clone(), cancel.clone());
        let ask = move |offset| cache.download(&cache.entry(&key, &stop)?, offset, &stop);
        BlobReader::start(self.host(), self.patience.clone(), descriptor, cancel, Box::new(ask))
    }

    /// Makes an entry of so many bytes. It is there when all of it is.
    pub(crate) fn save(&self, key: &str, content: &Content, size: u64, cancel: &Cancel) -> Result<Saved, ImageError> {
        let begun = self.call("CreateCacheEntry", &Asked::of(key), cancel)?;
        let Some(Answered { ok: true, signed_upload_url, .. }) = begun else { return Ok(Saved::Before) };
        let (url, name) = (parse(&signed_upload_url, self)?, key.to_owned());
        let request = |method, query: &[(&str, &str)], headers: &[Header], _| {
            let mut url = url.clone();
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            let request = Request::new(method, url);
            Ok(headers.iter().fold(request, |request, (name, value)| {
                request.header(reqwest::header::HeaderName::from_static(name), value)
            }))
        };
        let host = crate::registry::host(&url);
        Target { http: &self.http, request: &request, host, name }.put(content, size, cancel)?;
        let asked = Asked { size_bytes: Some(size), ..Asked::of(key) };
        match self.call("FinalizeCacheEntryUpload", &asked, cancel)? {
            Some(Answered { ok: true, .. }) => Ok(Saved::Now),
            _ => Err(ImageError::Protocol { registry: self.host(), reason: format!("`{key}` was not finished") }),
        }
    }

    fn entry(&self, key: &str, cancel: &Cancel) -> Result<Entry, ImageError> {
        let found = self.find(key, cancel)?.filter(|entry| entry.key == key);
        found.ok_or_else(|| self.missing(key))
    }

    /// There is no such entry.
    pub(crate) fn missing(&self, key: &str) -> ImageError {
        ImageError::NotFound { reference: key.to_owned(), registry: self.host(), what: "cache entry".to_owned() }
    }

    fn download(&self, entry: &Entry, offset: u64, cancel: &Cancel) -> Result<Response, ImageError> {
        let url = parse(entry.url.reveal(), self)?;
        let host = crate::registry::host(&url);
        let request = Request::get(url);
        let request = if offset > 0 { request.starting_at(offset) } else { request };
        let response = self.http.send(&request, cancel)?;
        let nothing = |_, _: &[(&str, &str)], _: &[Header], _| Err(ImageError::Cancelled);
        let target = Target { http: &self.http, request: &nothing, host, name: entry.key.clone() };
        target.check(response, "GET", cancel)
    }

    /// Makes a call; nothing where there is no such entry, or there is one already.
    fn call(&self, method: &'static str, asked: &Asked<'_>, cancel: &Cancel) -> Result<Option<Answered>, ImageError> {
        let broken = |reason: String| ImageError::Protocol { registry: self.host(), reason };
        let name = format!("{SERVICE}/{method}");
        let url = self.url.join(&name).map_err(|error| broken(error.to_string()))?;
        let body = serde_json::to_vec(asked).unwrap_or_default();
        let authorization = Secret::new(format!("Bearer {}", self.token.reveal()));
        let request = Request::new(Method::POST, url).header(CONTENT_TYPE, "application/json");
        let request = request.authorized(Some(authorization)).carrying(Body::Bytes(body.into()));
        let response = self.http.send(&request, cancel)?;
        let status = response.status();
        let bytes = response.bytes(LIMIT, cancel)?.unwrap_or_default();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(format!("{method}: {error}")));
        }
        let Complaint { code, msg } = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_plain = matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT);
        if is_plain && (code.is_empty() || code == "not_found" || code == "already_exists") {
            return Ok(None);
        }
        let detail: String = msg.chars().filter(|letter| !letter.is_control()).take(300).collect();
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        let (registry, status) = (self.host(), status.to_string());
        Err(ImageError::Status { registry, method: "POST", url: name, status, detail })
    }
}

impl<'a> Asked<'a> {
    fn of(key: &'a str) -> Self {
        static VERSION: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| Digest::of(MARK).hex().to_string());
        Self { key, version: &VERSION, restore_keys: None, size_bytes: None }
    }
}

/// A signed URL; it is told to nobody.
fn parse(url: &str, cache: &ActionsCache) -> Result<Url, ImageError> {
    let reason = || "its URL for an entry is none".to_owned();
    Url::parse(url).map_err(|_| ImageError::Protocol { registry: cache.host(), reason: reason() })
}
