//! The client of registries (OCI distribution specification v1.1, Docker registry HTTP API V2).
//!
//! From the inside out: [`http`] makes one request, with patience, redirects and TLS as configured; `auth`
//! answers what a registry asks of its users; [`endpoint`] knows the mirrors; [`Registries`] asks for manifests
//! and blobs; [`body`] is a blob on its way here, [`upload`] one on its way there, both taken up again where they
//! broke off.

mod auth;
mod body;
mod endpoint;
mod http;
mod interruptible;
mod outgoing;
mod patience;
mod tls;
mod upload;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kiln_solver::{Cancel, Digest};
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

pub(crate) use body::{BlobReader, Failure};
pub(crate) use endpoint::{is_loopback, is_nearby};
pub(crate) use http::{Http, Request, Response, host, reason};
pub(crate) use interruptible::{Meter, attended};
pub(crate) use outgoing::{Body, Content, Part};
pub use patience::Patience;
pub(crate) use patience::http_date;
pub(crate) use tls::{configure as configure_tls, provide as provide_tls};
pub(crate) use upload::{Presence, Upload};

use crate::credentials::Credential;
use crate::spec::{Descriptor, media_type};
use crate::{Configuration, Credentials, ImageError, Login, Reference};
use auth::{Access, Authenticator};
use endpoint::Endpoint;

/// The largest manifest or index taken, as the distribution specification advises.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest image config taken.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// How much of what a registry says about an error is read.
const COMPLAINT_LIMIT: u64 = 64 << 10;

/// All registries. Connections are made when they are needed.
pub(crate) struct Registries {
    configuration: Configuration,
    http: Http,
    authenticator: Authenticator,
}

/// A manifest or index as a registry sent it, its digest verified.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    /// What the registry says that it is; empty where it says nothing of use.
    pub(crate) media_type: String,
}

impl Registries {
    pub(crate) fn new(configuration: Configuration, credentials: Credentials, patience: Patience) -> Self {
        Self {
            http: Http::new(configuration.clone(), patience),
            authenticator: Authenticator::new(credentials),
            configuration,
        }
    }

    pub(crate) fn patience(&self) -> &Patience {
        self.http.patience()
    }

    /// The manifest or index that a reference means.
    pub(crate) fn manifest(&self, reference: &Reference, cancel: &Cancel) -> Result<Fetched, ImageError> {
        self.at_each_endpoint(reference, |endpoint| {
            let response = self.ask_for_manifest(Method::GET, endpoint, reference, cancel)?;
            let (header, media_type) = (content_digest(response.headers()), content_type(response.headers()));
            let bytes = response.bytes(MANIFEST_LIMIT, cancel)?.ok_or_else(|| ImageError::TooLarge {
                what: "manifest",
                name: reference.to_string(),
                limit: MANIFEST_LIMIT,
            })?;
            let digest = Digest::of(&bytes);
            for expected in [reference.digest, header].into_iter().flatten() {
                if expected != digest {
                    let source_name = endpoint.name.clone();
                    return Err(ImageError::WrongDigest { what: "manifest", source_name, expected, found: digest });
                }
            }
            Ok(Fetched { bytes, media_type })
        })
    }

    /// The digest of the manifest or index that a reference means, without its bytes; `None` where the registry
    /// does not tell.
    pub(crate) fn manifest_digest(&self, reference: &Reference, cancel: &Cancel) -> Result<Option<Digest>, ImageError> {
        self.at_each_endpoint(reference, |endpoint| {
            let response = self.ask_for_manifest(Method::HEAD, endpoint, reference, cancel)?;
            Ok(content_digest(response.headers()))
        })
    }

    /// Starts to fetch a blob.
    pub(crate) fn blob(
        self: &Arc<Self>,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &Cancel,
    ) -> Result<BlobReader, ImageError> {
        self.at_each_endpoint(reference, |endpoint| {
            BlobReader::open(self.clone(), endpoint.clone(), reference, descriptor, cancel)
        })
    }

    /// Asks for a blob from this byte on.
    fn ask_for_blob(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        digest: &Digest,
        offset: u64,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let url = endpoint.url(&reference.repository, "blobs", &digest.to_string())?;
        let mut request = Request::get(url);
        if offset > 0 {
            request = request.starting_at(offset);
        }
        let response = self.ask(endpoint, &Access::pull(&reference.repository), &request, cancel)?;
        check(response, endpoint, reference, "GET", || format!("blob {digest}"), cancel)
    }

    fn ask_for_manifest(
        &self,
        method: Method,
        endpoint: &Endpoint,
        reference: &Reference,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let (what, name) = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => ("manifest", digest.to_string()),
            (None, tag) => ("tag", tag.clone().unwrap_or_default()),
        };
        let url = endpoint.url(&reference.repository, "manifests", &name)?;
        let verb = if method == Method::HEAD { "HEAD" } else { "GET" };
        let request = Request::new(method, url).header(ACCEPT, &media_type::READABLE_MANIFESTS.join(", "));
        let response = self.ask(endpoint, &Access::pull(&reference.repository), &request, cancel)?;
        check(response, endpoint, reference, verb, || format!("{what} {name}"), cancel)
    }

    fn ask(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        self.authenticator.send(&self.http, endpoint, access, request, cancel)
    }

    /// Whether a registry takes these credentials: an error where it does not, or cannot be asked.
    pub(crate) fn verify(&self, registry: &str, credential: &Credential, cancel: &Cancel) -> Result<(), ImageError> {
        let (endpoint, _) = endpoint::endpoints(&self.configuration, registry)?;
        Authenticator::verify(&self.http, &endpoint, credential, cancel)
    }

    /// Asks the mirrors in order and then the registry itself, whose error counts if all fail.
    fn at_each_endpoint<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Endpoint) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let endpoints = endpoint::endpoints(&self.configuration, &reference.registry)?;
        let (registry, mirrors) = endpoints;
        for mirror in &mirrors {
            match ask(mirror) {
                Err(ImageError::Cancelled) => return Err(ImageError::Cancelled),
                Err(_) => {}
                Ok(answer) => return Ok(answer),
            }
        }
        ask(&registry)
    }
}

/// Asks a registry whether it takes a login.
///
/// # Errors
/// [`ImageError::Login`] where it does not; others where it cannot be asked.
pub fn verify(configuration: &Configuration, login: &Login, cancel: &Cancel) -> Result<(), ImageError> {
    let registries = Registries::new(configuration.clone(), Credentials::none(), Patience::default());
    registries.verify(login.registry(), &login.credential(), cancel)
}

/// Asks a registry whether it takes the credentials that are kept for it; `false` where there are none.
///
/// # Errors
/// [`ImageError::Login`] where it does not; others where it cannot be asked.
pub fn verify_kept(
    configuration: &Configuration,
    credentials: &Credentials,
    registry: &str,
    cancel: &Cancel,
) -> Result<bool, ImageError> {
    let Some(credential) = credentials.find(registry, "", cancel)? else { return Ok(false) };
    let registries = Registries::new(configuration.clone(), Credentials::none(), Patience::default());
    registries.verify(registry, &credential, cancel).map(|()| true)
}

/// Turns an answer that is no success into an error.
fn check(
    response: Response,
    endpoint: &Endpoint,
    reference: &Reference,
    method: &'static str,
    what: impl Fn() -> String,
    cancel: &Cancel,
) -> Result<Response, ImageError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let registry = endpoint.name.clone();
    let detail = complaint(response, cancel);
    match status {
        StatusCode::NOT_FOUND => Err(ImageError::NotFound { reference: reference.to_string(), registry, what: what() }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ImageError::Denied {
            hint: auth::hint(&registry, status, detail.as_deref()),
            registry,
            repository: reference.repository.clone(),
            status: status.as_u16(),
        }),
        _ => Err(ImageError::Status {
            url: endpoint.describe(&reference.repository, &what()),
            registry,
            method,
            status: status.to_string(),
            detail: detail.map(|detail| format!(": {detail}")).unwrap_or_default(),
        }),
    }
}

/// Whether a registry answered well to whether it is one.
fn check_top(response: Response, endpoint: &Endpoint, cancel: &Cancel) -> Result<(), ImageError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let registry = endpoint.name.clone();
    let detail = complaint(response, cancel);
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Err(ImageError::Login { registry, status: status.as_u16() });
    }
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let (url, status) = (format!("{}/v2/", endpoint.base()), status.to_string());
    Err(ImageError::Status { registry, method: "GET", url, status, detail })
}

/// The first error of a registry's error document, or of a web server's plain text, in one line.
fn complaint(response: Response, cancel: &Cancel) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Complaints {
        errors: Vec<Complaint>,
    }
    #[derive(serde::Deserialize)]
    struct Complaint {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let plain = content_type(response.headers()) == "text/plain";
    let bytes = response.bytes(COMPLAINT_LIMIT, cancel).ok()??;
    let text = match serde_json::from_slice::<Complaints>(&bytes).ok().and_then(|list| list.errors.into_iter().next()) {
        Some(first) if first.message.is_empty() => first.code,
        Some(first) => first.message,
        None if plain => String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let printable: String = text.chars().filter(|character| !character.is_control()).take(300).collect();
    if printable.contains("HTTP request to an HTTPS server") {
        return Some(format!("{printable} Set `http = false` for it in kiln.toml"));
    }
    Some(printable).filter(|text| !text.is_empty())
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
