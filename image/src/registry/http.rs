//! One HTTP request: asked again when it fails for reasons that may pass, redirects followed with care.

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_solver::Cancel;
use reqwest::blocking::Client;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, StatusCode, Url};

use super::Patience;
use super::interruptible::{Meter, attended, pause};
use super::outgoing::Body;
use super::tls;
use crate::credentials::Secret;
use crate::{Configuration, ImageError};

const MOST_REDIRECTS: usize = 10;
/// A registry that cannot be connected to is tried less often than one that answers with errors.
const MOST_CONNECTION_ATTEMPTS: u32 = 3;
/// The time that a request may take in which something large is sent: its silence is what is watched.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes requests. Clients are made when they are needed, one for each kind of settings.
pub(crate) struct Http {
    configuration: Configuration,
    patience: Patience,
    clients: Mutex<HashMap<String, Client>>,
}

/// A request that can be made again.
#[derive(Clone)]
pub(crate) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    authorization: Option<Secret>,
    body: Body,
    /// Whether it is made again when it fails for reasons that may pass.
    again: bool,
}

/// The head of an answer, and its body still to come.
pub(crate) struct Response {
    /// The host that answered.
    host: String,
    /// How long its body may keep silent.
    silence: Duration,
    inner: reqwest::blocking::Response,
}

/// What came of one attempt: an answer, or why there is none.
type Attempt = Result<reqwest::blocking::Response, String>;

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self { method, url, headers, authorization: None, body: Body::None, again: true }
    }

    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST of an encoded form.
    pub(crate) fn post_form(url: Url, form: Secret) -> Self {
        let kind = "application/x-www-form-urlencoded";
        Self::new(Method::POST, url).header(CONTENT_TYPE, kind).carrying(Body::Form(form))
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn carrying(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// A request that is made once: who makes it has to find out first how far the last attempt got.
    pub(super) fn once(mut self) -> Self {
        self.again = false;
        self
    }

    pub(crate) fn starting_at(self, offset: u64) -> Self {
        self.header(RANGE, &format!("bytes={offset}-"))
    }

    /// Sends this `Authorization` along, to the host of the URL alone.
    pub(crate) fn authorized(mut self, authorization: Option<Secret>) -> Self {
        self.authorization = authorization;
        self
    }
}

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The body as a stream.
    pub(super) fn into_body(self) -> reqwest::blocking::Response {
        self.inner
    }

    /// The whole body; `None` where it is longer than `limit`.
    pub(crate) fn bytes(self, limit: u64, cancel: &Cancel) -> Result<Option<Vec<u8>>, ImageError> {
        let Self { host, silence, inner } = self;
        let meter = Meter::default();
        let mut body = meter.measure(inner).take(limit.saturating_add(1));
        let read = move || {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes).map(|_| bytes)
        };
        let read = attended(cancel, &meter, |_| silence, read)?;
        let read = read.map_or_else(|| Err(SILENT.to_owned()), |read| read.map_err(|error| reason(&error)));
        let bytes = read.map_err(|reason| ImageError::Unreachable { registry: host, reason })?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
    }
}

impl Http {
    pub(crate) fn new(configuration: Configuration, patience: Patience) -> Self {
        Self { configuration, patience, clients: Mutex::default() }
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Makes a request and follows where it is sent. Any status that is not a redirect is an answer, also 4xx
    /// and, after the last attempt, 429 and 5xx.
    pub(crate) fn send(&self, request: &Request, cancel: &Cancel) -> Result<Response, ImageError> {
        let mut request = request.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = self.send_patiently(&request, cancel)?;
            let Some(target) = redirect_target(&request, &response)? else {
                return Ok(response);
            };
            if target.origin() != request.url.origin() {
                request.authorization = None;
            }
            request.url = target;
        }
        Err(ImageError::Protocol {
            registry: host(&request.url),
            reason: format!("more than {MOST_REDIRECTS} redirects"),
        })
    }

    fn send_patiently(&self, request: &Request, cancel: &Cancel) -> Result<Response, ImageError> {
        let mut attempt = 0;
        loop {
            let outcome = self.send_once(request, cancel)?;
            let (most, headers) = match &outcome {
                Ok(response) if !may_pass(response.status()) => (0, None),
                Ok(response) => (self.patience.attempts, Some(response.headers())),
                Err(_) => (self.patience.attempts.min(MOST_CONNECTION_ATTEMPTS), None),
            };
            if attempt + 1 >= most || !request.again {
                let registry = host(&request.url);
                return match outcome {
                    Ok(inner) => Ok(Response { host: registry, silence: self.patience.silence, inner }),
                    Err(reason) => Err(ImageError::Unreachable { registry, reason }),
                };
            }
            let duration = self.patience.pause_after(attempt, headers);
            pause(cancel, duration)?;
            attempt += 1;
        }
    }

    fn send_once(&self, request: &Request, cancel: &Cancel) -> Result<Attempt, ImageError> {
        let client = self.client(&request.url)?;
        let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(authorization) = &request.authorization
            && let Ok(mut value) = HeaderValue::from_str(authorization.reveal())
        {
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        let meter = Meter::default();
        if request.body.size_of_part().is_some() {
            // The client counts the time of the whole request, but sending may take as long as it moves.
            builder = builder.timeout(A_DAY);
        }
        let silence = |sent| match request.body.size_of_part() {
            None => A_DAY,
            Some(size) if sent < size => self.patience.silence,
            Some(_) => self.patience.commit,
        };
        builder = request.body.attach(builder, &meter)?;
        let send = move || builder.send().map_err(|error| reason(&error));
        Ok(attended(cancel, &meter, silence, send)?.unwrap_or_else(|| Err(SILENT.to_owned())))
    }

    fn client(&self, url: &Url) -> Result<Client, ImageError> {
        let (host, tls) = (host(url), url.scheme() == "https");
        let settings = self.settings(&host);
        // Hosts without settings of their own share a client and its connections.
        let loopback = super::endpoint::is_nearby(&host);
        let own = if settings.is_some() && tls { host.as_str() } else { "" };
        let key = format!("{}|{own}|{loopback}", url.scheme());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = tls::client(&host, tls, settings, &self.patience)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn settings(&self, host: &str) -> Option<&crate::configuration::RegistrySettings> {
        let name = if host == "registry-1.docker.io" { "docker.io" } else { host };
        self.configuration.registry.get(name)
    }
}

/// Why there is no answer where nothing came for too long.
const SILENT: &str = "it kept silent for too long (timed out)";

/// Statuses that ask for another attempt.
pub(super) fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn redirect_target(request: &Request, response: &Response) -> Result<Option<Url>, ImageError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let broken = |reason: &str| ImageError::Protocol { registry: host(&request.url), reason: reason.to_owned() };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| broken("a redirect without a `Location`"))?;
    let target = request.url.join(location).map_err(|_| broken("a redirect to something that is not a URL"))?;
    if matches!(request.body, Body::Form(_)) {
        return Err(broken("a redirect of a request with credentials in it"));
    }
    match target.scheme() {
        "https" | "http" => Ok(Some(target)),
        _ => Err(broken("a redirect to something that is not HTTP")),
    }
}

/// Host and port of a URL, the port left out where it is the scheme's own.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The innermost cause of an error of the network stack, which is the one that means something to people.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.contains("InvalidContentType") {
        return format!("{text}; it may speak plain HTTP: set `http = true` for it in kiln.toml");
    }
    if text.contains("UnknownIssuer") {
        return format!("{text}; its certificate authority can be set with `ca` for it in kiln.toml");
    }
    text
}
