//! One file over http or https.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use kiln_cache::StoredLayer;
use kiln_solver::{Cancel, Digest, Hasher, Http};
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{StatusCode, Url};

use super::client::{self, Body, Broken};
use super::memory::Memory;
use super::{SourceError, Sources, shown};

/// How often a file is asked for at most, when that fails for reasons that may pass.
const ATTEMPTS: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is known of a URL from an earlier build.
struct Known {
    layer: StoredLayer,
    body: Digest,
    etag: String,
    modified: String,
}

/// Why an attempt failed.
enum Failure {
    /// Another may do better.
    Passing(SourceError),
    Final(SourceError),
}

impl<E: Into<SourceError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

pub(super) fn fetch(sources: &Sources<'_>, http: &Http, cancel: &Cancel) -> Result<StoredLayer, SourceError> {
    let url = parse(&http.url)?;
    check_name(http)?;
    let memory = Memory::new(sources.store, "http", &name(http))?;
    let known = memory.recall()?.and_then(|(layer, lines)| Known::new(layer, &lines));
    if let Some(known) = &known
        && http.checksum == Some(known.body)
    {
        return Ok(known.layer.clone());
    }
    let client = client::client(sources.remote, url.scheme() == "https")
        .map_err(|reason| SourceError::Unreachable { url: shown(&http.url), reason })?;
    let fetch = Fetch { sources, http, url, client, memory, known, cancel };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match fetch.attempt() {
            Ok(layer) => return Ok(layer),
            Err(Failure::Passing(_)) if attempt < ATTEMPTS => {
                client::pause(cancel, sources.remote.pause.saturating_mul(1 << (attempt - 1)).min(LONGEST_PAUSE))?;
            }
            Err(Failure::Passing(error) | Failure::Final(error)) => return Err(error),
        }
    }
}

fn parse(written: &str) -> Result<Url, SourceError> {
    let bad = |reason: &str| SourceError::BadUrl { url: shown(written), reason: reason.to_owned() };
    let mut url = Url::parse(written).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it is neither http nor https"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The file lies alone in a root of its own, under exactly this name.
fn check_name(http: &Http) -> Result<(), SourceError> {
    let name = &http.filename;
    let bad = matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) || name.len() > 255;
    if bad { Err(SourceError::BadName { url: shown(&http.url), name: name.clone() }) } else { Ok(()) }
}

/// A name for the memory. Nobody can tell the URL, and secrets in it, from it.
fn name(http: &Http) -> Digest {
    Digest::of(format!("kiln.http.v1\0{}\0{}", http.url, http.filename).as_bytes())
}

impl Known {
    fn new(layer: StoredLayer, lines: &[String]) -> Option<Self> {
        let [body, etag, modified, ..] = lines else { return None };
        Some(Self { layer, body: body.parse().ok()?, etag: etag.clone(), modified: modified.clone() })
    }
}

struct Fetch<'a> {
    sources: &'a Sources<'a>,
    http: &'a Http,
    url: Url,
    client: Client,
    memory: Memory<'a>,
    known: Option<Known>,
    cancel: &'a Cancel,
}

impl Fetch<'_> {
    fn attempt(&self) -> Result<StoredLayer, Failure> {
        let request = self.client.get(self.url.clone()).headers(self.headers());
        let response = client::send(request, self.cancel)?.map_err(|error| self.broken(client::reason(&error)))?;
        let status = response.status();
        match (&self.known, status) {
            (Some(known), StatusCode::NOT_MODIFIED) => {
                self.check(known.body)?;
                Ok(known.layer.clone())
            }
            _ if status.is_success() => self.take(response),
            _ => Err(self.refused(status)),
        }
    }

    /// Asks for the file only if it is another than the known one.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        if let Some(known) = &self.known {
            for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.modified)] {
                match HeaderValue::from_str(value) {
                    Ok(value) if !value.is_empty() => drop(headers.insert(name, value)),
                    _ => {}
                }
            }
        }
        headers
    }

    /// Makes a layer of the body.
    fn take(&self, response: Response) -> Result<StoredLayer, Failure> {
        let etag = text(response.headers(), &ETAG);
        let modified = text(response.headers(), &LAST_MODIFIED);
        let draft = self.sources.store.begin_layer().map_err(SourceError::from)?;
        let path = draft.files().join(&self.http.filename);
        let failed = |source| SourceError::Local { action: "write", path: path.clone(), source };
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let body = Body::new(response, self.cancel)?;
        loop {
            match body.next(self.cancel) {
                Ok(Some(chunk)) => {
                    hasher.update(&chunk);
                    file.write_all(&chunk).map_err(failed)?;
                }
                Ok(None) => break,
                Err(Broken::Cancelled) => return Err(SourceError::Cancelled.into()),
                Err(Broken::Connection(reason)) => return Err(self.broken(reason)),
            }
        }
        let digest = hasher.finish();
        self.check(digest)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        file.set_modified(parse_date(&modified).unwrap_or(SystemTime::UNIX_EPOCH)).map_err(failed)?;
        let layer = draft.commit(self.sources.created).map_err(SourceError::from)?;
        self.memory.remember(&layer, &[&digest.to_string(), &etag, &modified])?;
        Ok(layer)
    }

    fn check(&self, found: Digest) -> Result<(), SourceError> {
        match self.http.checksum {
            Some(expected) if expected != found => {
                Err(SourceError::Checksum { url: shown(&self.http.url), expected, found })
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, reason: String) -> Failure {
        Failure::Passing(SourceError::Unreachable { url: shown(&self.http.url), reason })
    }

    fn refused(&self, status: StatusCode) -> Failure {
        let error =
            SourceError::Status { url: shown(&self.http.url), status: status.to_string(), code: status.as_u16() };
        match status.as_u16() {
            408 | 429 | 500..=599 => Failure::Passing(error),
            _ => Failure::Final(error),
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// A date of HTTP, `Wed, 21 Oct 2015 07:28:00 GMT`.
fn parse_date(text: &str) -> Option<SystemTime> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(parsed.as_second()).ok().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
