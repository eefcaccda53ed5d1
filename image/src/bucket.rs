//! A bucket of an S3-compatible store: objects by name, with requests that are signed in their URLs.
//!
//! [`login`] knows who asks, [`parts`] sends what is large.

mod issued;
mod login;
mod parts;
mod profile;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_solver::Cancel;
use reqwest::header::{CONTENT_LENGTH, HeaderName, LAST_MODIFIED};
use reqwest::{Method, StatusCode, Url};
use rusty_s3::actions::{GetObject, HeadObject, PutObject};
use rusty_s3::{Bucket as Address, Credentials, S3Action, UrlStyle};

use crate::registry::{BlobReader, Body, Content, Http, Part, Patience, Request, Response, http_date};
use crate::spec::Descriptor;
use crate::{Configuration, ImageError};
use login::KeyRing;
pub use login::{AwsSurroundings, BucketLogin, Keys, WebIdentity};
use parts::Sizes;

/// For how long a request that was signed may be made again.
const SIGNED_FOR: Duration = Duration::from_secs(60 * 60);
/// How much of what the store says of an error is read.
const COMPLAINT_LIMIT: u64 = 64 << 10;

/// Where a bucket is, and who is asking.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// Its name.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The URL of the store; Amazon's own of the region where there is none.
    pub endpoint: Option<String>,
    /// Whether the name of the bucket stands in the path of a URL and not in the host.
    pub path_style: bool,
    /// Who is asking.
    pub login: BucketLogin,
    /// How often a request is made at most; as often as one to a registry where nothing is said.
    pub attempts: Option<u32>,
}

impl fmt::Debug for BucketSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{} ({})", self.bucket, self.region)
    }
}

/// A bucket. Connections are made when they are needed.
pub(crate) struct Bucket {
    address: Address,
    keys: KeyRing,
    http: Http,
    patience: Patience,
    sizes: Sizes,
}

impl Bucket {
    pub(crate) fn new(
        settings: &BucketSettings,
        configuration: &Configuration,
        patience: &Patience,
    ) -> Result<Self, ImageError> {
        let own = || format!("https://s3.{}.amazonaws.com", settings.region);
        let endpoint = settings.endpoint.clone().unwrap_or_else(own);
        let wrong = |reason: String| ImageError::RegistrySettings { registry: endpoint.clone(), reason };
        let url: Url = endpoint.parse().map_err(|_| wrong("it is not a URL".to_owned()))?;
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let address = Address::new(url, style, settings.bucket.clone(), settings.region.clone());
        let address = address.map_err(|error| wrong(error.to_string()))?;
        let keys = KeyRing::new(settings.login.clone(), configuration);
        let patience = Patience { attempts: settings.attempts.unwrap_or(patience.attempts), ..patience.clone() };
        let http = Http::new(configuration.clone(), patience.clone());
        Ok(Self { address, keys, http, patience, sizes: Sizes::default() })
    }

    /// What a request is signed with.
    fn credentials(&self, cancel: &Cancel) -> Result<Option<Credentials>, ImageError> {
        self.keys.credentials(cancel)
    }

    /// The bytes of an object of at most `limit` bytes.
    pub(crate) fn get(
        &self,
        object: &str,
        what: &'static str,
        limit: u64,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, ImageError> {
        let response = self.ask(object, 0, cancel)?;
        let too_large = || ImageError::TooLarge { what, name: self.name(object), limit };
        response.bytes(limit, cancel)?.ok_or_else(too_large)
    }

    /// Starts to fetch a blob.
    pub(crate) fn blob(
        self: &Arc<Self>,
        object: String,
        descriptor: &Descriptor,
        cancel: &Cancel,
    ) -> Result<BlobReader, ImageError> {
        let (bucket, stop) = (self.clone(), cancel.clone());
        let ask = move |offset| bucket.ask(&object, offset, &stop);
        BlobReader::start(self.host(), self.patience.clone(), descriptor, cancel, Box::new(ask))
    }

    /// When an object last changed and how many bytes it has, if it is there.
    pub(crate) fn changed(&self, object: &str, cancel: &Cancel) -> Result<Option<(SystemTime, u64)>, ImageError> {
        let credentials = self.credentials(cancel)?;
        let url = HeadObject::new(&self.address, credentials.as_ref(), object).sign(SIGNED_FOR);
        let response = self.http.send(&Request::new(Method::HEAD, url), cancel)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.check(response, "HEAD", object, cancel)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let changed = header(LAST_MODIFIED).and_then(http_date).unwrap_or(SystemTime::UNIX_EPOCH);
        let size = header(CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or_default();
        Ok(Some((changed, size)))
    }

    /// Writes an object of so many bytes. It is there when all of it is.
    pub(crate) fn put(&self, object: &str, content: Content, size: u64, cancel: &Cancel) -> Result<(), ImageError> {
        if size >= self.sizes.threshold {
            return parts::send(self, object, &content, size, cancel);
        }
        let credentials = self.credentials(cancel)?;
        let url = PutObject::new(&self.address, credentials.as_ref(), object).sign(SIGNED_FOR);
        let part = Part { content, offset: 0, length: size, told: Arc::new(|_| {}) };
        let request = Request::new(Method::PUT, url).carrying(Body::Part(part));
        self.check(self.http.send(&request, cancel)?, "PUT", object, cancel).map(drop)
    }

    /// Has an object of so many bytes count as written now.
    pub(crate) fn touch(&self, object: &str, size: u64, cancel: &Cancel) -> Result<(), ImageError> {
        if size > self.sizes.copy {
            return parts::copy(self, object, size, cancel);
        }
        let headers =
            [("x-amz-copy-source", self.copy_source(object)), ("x-amz-metadata-directive", "REPLACE".to_owned())];
        let credentials = self.credentials(cancel)?;
        let mut action = PutObject::new(&self.address, credentials.as_ref(), object);
        let request = signed_headers(&mut action, Method::PUT, &headers).carrying(Body::Bytes(Arc::from([])));
        self.check(self.http.send(&request, cancel)?, "PUT", object, cancel).map(drop)
    }

    fn ask(&self, object: &str, offset: u64, cancel: &Cancel) -> Result<Response, ImageError> {
        let credentials = self.credentials(cancel)?;
        let url = GetObject::new(&self.address, credentials.as_ref(), object).sign(SIGNED_FOR);
        let mut request = Request::get(url);
        if offset > 0 {
            request = request.starting_at(offset);
        }
        self.check(self.http.send(&request, cancel)?, "GET", object, cancel)
    }

    /// The name of an object as it stands in the header of a copy.
    fn copy_source(&self, object: &str) -> String {
        let (top, url) = (self.address.object_url(""), self.address.object_url(object));
        format!("/{}/{}", self.address.name(), url.path().strip_prefix(top.path()).unwrap_or_default())
    }

    /// Where an object is, without what the request is signed with.
    fn name(&self, object: &str) -> String {
        format!("s3://{}/{object}", self.address.name())
    }

    fn host(&self) -> String {
        let url = self.address.object_url("");
        url.host_str().unwrap_or_default().to_owned()
    }

    /// Turns an answer that is no success into an error.
    fn check(
        &self,
        response: Response,
        method: &'static str,
        object: &str,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (registry, url) = (self.host(), self.name(object));
        if status == StatusCode::NOT_FOUND {
            return Err(ImageError::NotFound { reference: url, registry, what: "object".to_owned() });
        }
        let bytes = response.bytes(COMPLAINT_LIMIT, cancel).ok().flatten().unwrap_or_default();
        let detail = complaint(&String::from_utf8_lossy(&bytes)).map(|code| format!(": {code}")).unwrap_or_default();
        Err(ImageError::Status { registry, method, url, status: status.to_string(), detail })
    }
}

/// A request with headers that are signed with it.
fn signed_headers<'a>(
    action: &mut impl S3Action<'a>,
    method: Method,
    headers: &'a [(&'static str, String)],
) -> Request {
    for (name, value) in headers {
        action.headers_mut().insert(*name, value);
    }
    let request = Request::new(method, action.sign(SIGNED_FOR));
    headers.iter().fold(request, |request, (name, value)| request.header(HeaderName::from_static(name), value))
}

/// The code of an error document, such as `NoSuchBucket`.
pub(crate) fn complaint(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_plain = code.len() < 100 && code.chars().all(|letter| letter.is_ascii_alphanumeric());
    is_plain.then(|| code.to_owned())
}
