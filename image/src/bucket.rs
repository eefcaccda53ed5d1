//! A bucket of an S3-compatible store: objects by name, with requests that are signed in their URLs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_solver::Cancel;
use reqwest::header::LAST_MODIFIED;
use reqwest::{Method, StatusCode, Url};
use rusty_s3::actions::{GetObject, HeadObject, PutObject};
use rusty_s3::{Bucket as Address, Credentials, S3Action, UrlStyle};

use crate::credentials::Secret;
use crate::registry::{BlobReader, Body, Content, Http, Part, Patience, Request, Response, http_date};
use crate::spec::Descriptor;
use crate::{Configuration, ImageError};

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
    /// Who is asking; anybody where there is none.
    pub login: Option<BucketLogin>,
}

/// What proves to a store who is asking.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketLogin {
    id: String,
    key: Secret,
    token: Option<Secret>,
}

impl BucketLogin {
    /// An access key by its id, and the token of a session where it is one's.
    pub fn new(id: String, key: String, token: Option<String>) -> Self {
        Self { id, key: Secret::new(key), token: token.map(Secret::new) }
    }
}

impl fmt::Debug for BucketLogin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BucketLogin")
    }
}

impl fmt::Debug for BucketSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{} ({})", self.bucket, self.region)
    }
}

/// A bucket. Connections are made when they are needed.
pub(crate) struct Bucket {
    address: Address,
    credentials: Option<Credentials>,
    http: Http,
    patience: Patience,
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
        let credentials = settings.login.as_ref().map(|login| match &login.token {
            Some(token) => Credentials::new_with_token(&login.id, login.key.reveal(), token.reveal()),
            None => Credentials::new(&login.id, login.key.reveal()),
        });
        let http = Http::new(configuration.clone(), patience.clone());
        Ok(Self { address, credentials, http, patience: patience.clone() })
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

    /// When an object last changed, if it is there.
    pub(crate) fn changed(&self, object: &str, cancel: &Cancel) -> Result<Option<SystemTime>, ImageError> {
        let url = HeadObject::new(&self.address, self.credentials.as_ref(), object).sign(SIGNED_FOR);
        let response = self.http.send(&Request::new(Method::HEAD, url), cancel)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.check(response, "HEAD", object, cancel)?;
        let changed = response.headers().get(LAST_MODIFIED).and_then(|date| http_date(date.to_str().ok()?));
        Ok(Some(changed.unwrap_or(SystemTime::UNIX_EPOCH)))
    }

    /// Writes an object of so many bytes.
    pub(crate) fn put(&self, object: &str, content: Content, size: u64, cancel: &Cancel) -> Result<(), ImageError> {
        let url = PutObject::new(&self.address, self.credentials.as_ref(), object).sign(SIGNED_FOR);
        let part = Part { content, offset: 0, length: size, told: Arc::new(|_| {}) };
        let request = Request::new(Method::PUT, url).carrying(Body::Part(part));
        self.check(self.http.send(&request, cancel)?, "PUT", object, cancel).map(drop)
    }

    /// Has an object count as written now.
    pub(crate) fn touch(&self, object: &str, cancel: &Cancel) -> Result<(), ImageError> {
        let headers = [
            ("x-amz-copy-source", format!("/{}/{}", self.address.name(), self.encoded(object))),
            ("x-amz-metadata-directive", "REPLACE".to_owned()),
        ];
        let mut action = PutObject::new(&self.address, self.credentials.as_ref(), object);
        for (name, value) in &headers {
            action.headers_mut().insert(*name, value);
        }
        let mut request = Request::new(Method::PUT, action.sign(SIGNED_FOR)).carrying(Body::Bytes(Arc::from([])));
        for (name, value) in &headers {
            request = request.header(reqwest::header::HeaderName::from_static(name), value);
        }
        self.check(self.http.send(&request, cancel)?, "PUT", object, cancel).map(drop)
    }

    fn ask(&self, object: &str, offset: u64, cancel: &Cancel) -> Result<Response, ImageError> {
        let url = GetObject::new(&self.address, self.credentials.as_ref(), object).sign(SIGNED_FOR);
        let mut request = Request::get(url);
        if offset > 0 {
            request = request.starting_at(offset);
        }
        self.check(self.http.send(&request, cancel)?, "GET", object, cancel)
    }

    /// The name of an object as it stands in a URL.
    fn encoded(&self, object: &str) -> String {
        let (top, url) = (self.address.object_url(""), self.address.object_url(object));
        url.path().strip_prefix(top.path()).unwrap_or_default().to_owned()
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

/// The code of an error document, such as `NoSuchBucket`.
fn complaint(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_plain = code.len() < 100 && code.chars().all(|letter| letter.is_ascii_alphanumeric());
    is_plain.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        let text = "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>none</Message></Error>";
        assert_eq!(complaint(text).as_deref(), Some("NoSuchBucket"));
        for text in ["", "<Code>", "<Code>a b</Code>", "<Code>\u{1b}[1m</Code>"] {
            assert_eq!(complaint(text), None);
        }
    }

    #[test]
    fn settings_do_not_tell_secrets() {
        let login = BucketLogin::new("id".to_owned(), "hidden".to_owned(), Some("hidden".to_owned()));
        let settings = BucketSettings {
            bucket: "b".to_owned(),
            region: "r".to_owned(),
            endpoint: None,
            path_style: false,
            login: Some(login),
        };
        assert_eq!(format!("{settings:?} {:?}", settings.login), "s3://b (r) Some(BucketLogin)");
    }
}
