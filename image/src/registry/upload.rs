//! Sending blobs and manifests to a registry (OCI distribution specification v1.1, "Push").
//!
//! A blob goes in one request if it is small, else in one that sends and one that concludes. Where that breaks off,
//! the registry is asked how much it has, and sent the rest, from then on in parts that are not too large for
//! whatever stands in between. A registry that does not say how much it has is sent the blob anew.

use std::sync::Arc;
use std::time::Duration;

use kiln_solver::{Cancel, Digest};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::auth::Access;
use super::endpoint::{self, Endpoint};
use super::http::{Request, Response, may_pass};
use super::interruptible::pause;
use super::outgoing::{Body, Content, Part};
use super::{Registries, check, content_digest};
use crate::{ImageError, Reference};

/// A blob of at most so many bytes is sent in one request.
const SMALL: u64 = 4 << 20;
/// How much is sent at once after something broke off.
const CAUTIOUS: u64 = 16 << 20;
/// How often an upload is taken up again at most, however far each attempt got.
const MOST_RESUMPTIONS: u32 = 20;
const BYTES: &str = "application/octet-stream";

/// A blob to be sent.
pub(crate) struct Upload {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) content: Content,
    /// Told how much has been sent.
    pub(crate) told: Arc<dyn Fn(u64) + Send + Sync>,
}

/// What a registry says when it is asked for a blob before one is sent.
#[derive(Debug)]
pub(crate) enum Presence {
    /// It has it, now or all along.
    There,
    /// It has it not; what was begun when it said so.
    Absent(Option<Begun>),
}

/// An upload that a registry has begun, at this place.
#[derive(Debug)]
pub(crate) struct Begun(Url);

/// One upload.
struct Session<'a> {
    registries: &'a Registries,
    endpoint: Endpoint,
    target: &'a Reference,
    upload: &'a Upload,
    cancel: &'a Cancel,
    location: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// How much is sent at once.
    most: u64,
}

/// Why a request did not bring an upload further.
enum Setback {
    /// It never will.
    Final(Box<ImageError>),
    /// It may the next time, after a pause.
    Passing(Box<ImageError>, Duration),
}

impl From<ImageError> for Setback {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Unreachable { .. } => Self::Passing(Box::new(error), Duration::ZERO),
            error => Self::Final(Box::new(error)),
        }
    }
}

impl Registries {
    /// Whether a repository has a blob.
    pub(crate) fn has_blob(&self, target: &Reference, digest: &Digest, cancel: &Cancel) -> Result<bool, ImageError> {
        let (endpoint, _) = endpoint::endpoints(&self.configuration, &target.registry)?;
        let url = endpoint.url(&target.repository, "blobs", &digest.to_string())?;
        let request = Request::new(Method::HEAD, url);
        let response = self.ask(&endpoint, &Access::push(&target.repository), &request, cancel)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        check(response, &endpoint, target, "HEAD", || format!("blob {digest}"), cancel).map(|_| true)
    }

    /// Has a repository take a blob from another one of the same registry.
    pub(crate) fn mount_blob(
        &self,
        target: &Reference,
        digest: &Digest,
        from: &str,
        cancel: &Cancel,
    ) -> Result<Presence, ImageError> {
        let (endpoint, _) = endpoint::endpoints(&self.configuration, &target.registry)?;
        let mut url = endpoint.uploads(&target.repository)?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let access = Access::push(&target.repository).mounting(from);
        let outcome = self.ask(&endpoint, &access, &Request::new(Method::POST, url.clone()), cancel);
        match outcome {
            Err(ImageError::Cancelled) => Err(ImageError::Cancelled),
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Presence::There),
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                Ok(Presence::Absent(place(&endpoint, &url, &response)?.map(Begun)))
            }
            // Who may not read the other repository may still write to this one.
            Ok(_) | Err(_) => Ok(Presence::Absent(None)),
        }
    }

    /// Sends a blob, from the beginning or into an upload that has begun.
    pub(crate) fn send_blob(
        &self,
        target: &Reference,
        upload: &Upload,
        begun: Option<Begun>,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let (endpoint, _) = endpoint::endpoints(&self.configuration, &target.registry)?;
        let location = match begun {
            Some(Begun(location)) => location,
            None => begin(self, &endpoint, target, upload, cancel)?,
        };
        let registries = self;
        Session { registries, endpoint, target, upload, cancel, location, offset: 0, most: u64::MAX }.run()
    }

    /// Puts a manifest or index under a tag, or under its digest.
    pub(crate) fn put_manifest(
        &self,
        target: &Reference,
        media_type: &str,
        bytes: &[u8],
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let (endpoint, _) = endpoint::endpoints(&self.configuration, &target.registry)?;
        let digest = Digest::of(bytes);
        let name = target.tag.clone().unwrap_or_else(|| digest.to_string());
        let url = endpoint.url(&target.repository, "manifests", &name)?;
        let request = Request::new(Method::PUT, url).header(CONTENT_TYPE, media_type);
        let request = request.carrying(Body::Bytes(bytes.into()));
        let response = self.ask(&endpoint, &Access::push(&target.repository), &request, cancel)?;
        let response = check(response, &endpoint, target, "PUT", || format!("manifest {name}"), cancel)?;
        match content_digest(response.headers()) {
            Some(found) if found != digest => {
                let source_name = endpoint.name;
                Err(ImageError::WrongDigest { what: "manifest", source_name, expected: digest, found })
            }
            _ => Ok(()),
        }
    }
}

/// Has the registry begin an upload, and tell where.
fn begin(
    registries: &Registries,
    endpoint: &Endpoint,
    target: &Reference,
    upload: &Upload,
    cancel: &Cancel,
) -> Result<Url, ImageError> {
    let url = endpoint.uploads(&target.repository)?;
    let request = Request::new(Method::POST, url.clone());
    let response = registries.ask(endpoint, &Access::push(&target.repository), &request, cancel)?;
    let response = check(response, endpoint, target, "POST", || format!("blob {}", upload.digest), cancel)?;
    place(endpoint, &url, &response)?.ok_or_else(|| broken(endpoint, "an upload that is nowhere: no `Location`"))
}

/// Where an upload goes on.
fn place(endpoint: &Endpoint, asked: &Url, response: &Response) -> Result<Option<Url>, ImageError> {
    let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let mut target = asked.join(location).map_err(|_| broken(endpoint, "an upload at something that is no URL"))?;
    let own = endpoint.top()?;
    if own.scheme() == "https" && target.scheme() == "http" {
        // Registries behind a proxy that speaks TLS for them often do not know it.
        let upgraded = target.host_str() == own.host_str()
            && target.set_scheme("https").is_ok()
            && target.set_port(own.port()).is_ok();
        if !upgraded {
            return Err(broken(endpoint, "it wants a blob to be sent without encryption"));
        }
    }
    match target.scheme() {
        "https" | "http" => Ok(Some(target)),
        _ => Err(broken(endpoint, "an upload at something that is not HTTP")),
    }
}

fn broken(endpoint: &Endpoint, reason: &str) -> ImageError {
    ImageError::Protocol { registry: endpoint.name.clone(), reason: reason.to_owned() }
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), ImageError> {
        let patience = self.registries.patience().clone();
        let (mut in_a_row, mut all) = (0, 0);
        loop {
            let before = self.offset;
            match self.advance() {
                Ok(true) => return Ok(()),
                Ok(false) => in_a_row = 0,
                Err(Setback::Final(error)) => return Err(*error),
                Err(Setback::Passing(error, asked)) => {
                    in_a_row += 1;
                    all += 1;
                    if in_a_row >= patience.attempts || all > MOST_RESUMPTIONS {
                        return Err(*error);
                    }
                    pause(self.cancel, asked.max(patience.pause_after(in_a_row - 1, None)))?;
                    self.most = CAUTIOUS;
                    if self.find_out()? {
                        return Ok(());
                    }
                    if self.offset > before {
                        in_a_row = 0;
                    }
                }
            }
        }
    }

    /// Sends what is next; `true` once the registry has it all.
    fn advance(&mut self) -> Result<bool, Setback> {
        let rest = self.upload.size.saturating_sub(self.offset);
        let whole = self.offset == 0 && rest <= SMALL;
        if rest == 0 || whole {
            return self.conclude(rest).map(|()| true);
        }
        let length = rest.min(self.most);
        let range = format!("{}-{}", self.offset, self.offset + length - 1);
        let request = Request::new(Method::PATCH, self.location.clone()).header(CONTENT_RANGE, &range);
        let response = self.send(request, length)?;
        let response = self.accept(response, "PATCH")?;
        let taken = taken(&response).unwrap_or(self.offset + length);
        if taken <= self.offset || taken > self.offset + length {
            let reason = format!("it has {taken} bytes of a blob of which it was sent {}", self.offset + length);
            return Err(broken(&self.endpoint, &reason).into());
        }
        self.offset = taken;
        self.follow(&response)?;
        Ok(false)
    }

    fn conclude(&mut self, rest: u64) -> Result<(), Setback> {
        let mut location = self.location.clone();
        location.query_pairs_mut().append_pair("digest", &self.upload.digest.to_string());
        let response = self.send(Request::new(Method::PUT, location), rest)?;
        let response = self.accept(response, "PUT")?;
        match content_digest(response.headers()) {
            Some(found) if found != self.upload.digest => {
                let (source_name, expected) = (self.endpoint.name.clone(), self.upload.digest);
                Err(ImageError::WrongDigest { what: "blob", source_name, expected, found }.into())
            }
            _ => Ok(()),
        }
    }

    fn send(&self, request: Request, length: u64) -> Result<Response, ImageError> {
        let told = self.upload.told.clone();
        let part = Part { content: self.upload.content.clone(), offset: self.offset, length, told };
        self.ask(request.header(CONTENT_TYPE, BYTES).carrying(Body::Part(part)).once())
    }

    /// Asks where the upload is: with credentials only if that is the registry itself.
    fn ask(&self, request: Request) -> Result<Response, ImageError> {
        let registries = self.registries;
        if self.location.origin() != self.endpoint.top()?.origin() {
            return registries.http.send(&request, self.cancel);
        }
        registries.ask(&self.endpoint, &Access::push(&self.target.repository), &request, self.cancel)
    }

    /// Tells a setback from an answer.
    fn accept(&self, response: Response, method: &'static str) -> Result<Response, Setback> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let asked = self.registries.patience().pause_after(0, Some(response.headers()));
        // An upload that is lost or not where it should be is begun anew; what is too large is sent in parts.
        let passes = may_pass(status) || matches!(status.as_u16(), 404 | 413 | 416);
        let what = || format!("blob {}", self.upload.digest);
        match check(response, &self.endpoint, self.target, method, what, self.cancel) {
            Ok(response) => Ok(response),
            Err(error) if passes => Err(Setback::Passing(Box::new(error), asked)),
            Err(error) => Err(Setback::Final(Box::new(error))),
        }
    }

    fn follow(&mut self, response: &Response) -> Result<(), ImageError> {
        if let Some(location) = place(&self.endpoint, &self.location, response)? {
            self.location = location;
        }
        Ok(())
    }

    /// Finds out how much the registry has after something broke off; `true` if that is all of it.
    fn find_out(&mut self) -> Result<bool, ImageError> {
        match self.ask(Request::get(self.location.clone())) {
            Ok(response)
                if response.status().is_success() && taken(&response).is_some_and(|t| t <= self.upload.size) =>
            {
                self.offset = taken(&response).unwrap_or_default();
                self.follow(&response)?;
                (self.upload.told)(self.offset);
                return Ok(false);
            }
            Err(ImageError::Cancelled) => return Err(ImageError::Cancelled),
            Ok(_) | Err(_) => {}
        }
        // The answer to the last request may be all that was lost.
        if self.registries.has_blob(self.target, &self.upload.digest, self.cancel)? {
            return Ok(true);
        }
        self.location = begin(self.registries, &self.endpoint, self.target, self.upload, self.cancel)?;
        self.offset = 0;
        (self.upload.told)(0);
        Ok(false)
    }
}

/// How many bytes a registry says that it has: `Range: 0-99` for a hundred, and `0-0` for none.
fn taken(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let (start, end) = range.trim_start_matches("bytes=").split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0").then_some(if end == 0 { 0 } else { end + 1 })
}

#[cfg(test)]
mod tests;
