//! Blobs of Azure's storage: one request for a small one, and blocks that are put together for a large one (Put Blob,
//! Put Block, Put Block List of its REST interface).

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::Cancel;
use reqwest::Method;

use crate::registry::{Body, Content, Http, Part, Request, Response};
use crate::{ImageError, parallel};

/// How large a block is, and the largest blob that goes in one request; 50,000 of them make a blob.
const BLOCK: u64 = 32 << 20;
/// How many blocks are on their way at a time.
const PARALLELISM: usize = 4;
/// How much of what the service says of an error is read.
const COMPLAINT_LIMIT: u64 = 64 << 10;

/// A header by its name in lower case.
pub(crate) type Header = (&'static str, String);

/// Something that makes requests for one blob which the service takes: with this query beside that of the signature,
/// these headers and a body of so many bytes.
pub(crate) type MakeRequest<'a> =
    &'a (dyn Fn(Method, &[(&str, &str)], &[Header], u64) -> Result<Request, ImageError> + Sync);

/// Where a blob goes.
pub(crate) struct Target<'a> {
    pub(crate) http: &'a Http,
    pub(crate) request: MakeRequest<'a>,
    /// The service.
    pub(crate) host: String,
    /// The blob, for people; never a URL with a signature in it.
    pub(crate) name: String,
}

impl Target<'_> {
    /// Writes the blob. It is there when all of it is.
    pub(crate) fn put(&self, content: &Content, size: u64, cancel: &Cancel) -> Result<(), ImageError> {
        if size <= BLOCK {
            let headers = [("x-ms-blob-type", "BlockBlob".to_owned())];
            return self.send(&[], &headers, part(content, 0..size), size, cancel);
        }
        let blocks: Vec<(String, Range<u64>)> = (0..size.div_ceil(BLOCK))
            .map(|number| (block_id(number), number * BLOCK..size.min((number + 1) * BLOCK)))
            .collect();
        parallel::for_each(&blocks, PARALLELISM, cancel, |(id, range), cancel| {
            let length = range.end - range.start;
            self.send(&[("comp", "block"), ("blockid", id)], &[], part(content, range.clone()), length, cancel)
        })?;
        let list: String = blocks.iter().map(|(id, _)| format!("<Latest>{id}</Latest>")).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let (length, body) = (list.len() as u64, Body::Bytes(list.into_bytes().into()));
        self.send(&[("comp", "blocklist")], &[("content-type", "application/xml".to_owned())], body, length, cancel)
    }

    fn send(
        &self,
        query: &[(&str, &str)],
        headers: &[Header],
        body: Body,
        length: u64,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let request = (self.request)(Method::PUT, query, headers, length)?.carrying(body);
        self.check(self.http.send(&request, cancel)?, "PUT", cancel).map(drop)
    }

    /// Turns an answer that is no success into an error.
    pub(crate) fn check(
        &self,
        response: Response,
        method: &'static str,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (registry, url) = (self.host.clone(), self.name.clone());
        if status == reqwest::StatusCode::NOT_FOUND {
            return Err(ImageError::NotFound { reference: url, registry, what: "object".to_owned() });
        }
        let told = response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes(COMPLAINT_LIMIT, cancel).ok().flatten().unwrap_or_default();
        let code = told.or_else(|| crate::bucket::complaint(&String::from_utf8_lossy(&bytes)));
        let detail = code.map(|code| format!(": {code}")).unwrap_or_default();
        Err(ImageError::Status { registry, method, url, status: status.to_string(), detail })
    }
}

fn part(content: &Content, range: Range<u64>) -> Body {
    let length = range.end - range.start;
    Body::Part(Part { content: content.clone(), offset: range.start, length, told: Arc::new(|_| {}) })
}

/// All ids of a blob have to be of one length.
fn block_id(number: u64) -> String {
    STANDARD.encode(format!("{number:08}"))
}
