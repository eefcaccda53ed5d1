//! Large objects: sent, or copied onto themselves, in parts, each tried again by itself.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_solver::Cancel;
use reqwest::Method;
use reqwest::header::ETAG;
use rusty_s3::S3Action;
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, CreateMultipartUploadResponse, UploadPart,
};

use super::{Bucket, SIGNED_FOR, signed_headers};
use crate::registry::{Body, Content, Part, Request};
use crate::{ImageError, parallel};

/// The most parts that an object may have.
const MOST_PARTS: u64 = 10_000;
/// How many parts of one object are on their way at a time.
const PARALLELISM: usize = 4;
/// The most of an answer that is read.
const LIMIT: u64 = 1 << 20;

/// How large objects and parts may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// From here on an object goes in parts.
    pub(super) threshold: u64,
    /// How large a part is, unless there were too many of them.
    pub(super) part: u64,
    /// The most that is copied at once.
    pub(super) copy: u64,
}

impl Default for Sizes {
    /// Those of Amazon's transfer manager, which BuildKit goes by.
    fn default() -> Self {
        Self { threshold: 16 << 20, part: 8 << 20, copy: 5 << 30 }
    }
}

/// Sends an object in parts.
pub(super) fn send(
    bucket: &Bucket,
    object: &str,
    content: &Content,
    size: u64,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let ranges = ranges(size, bucket.sizes.part.max(size.div_ceil(MOST_PARTS)));
    in_parts(bucket, object, &ranges, cancel, |number, range, upload, cancel| {
        let credentials = bucket.credentials(cancel)?;
        let url = UploadPart::new(&bucket.address, credentials.as_ref(), object, number, upload).sign(SIGNED_FOR);
        let length = range.end - range.start;
        let part = Part { content: content.clone(), offset: range.start, length, told: Arc::new(|_| {}) };
        let request = Request::new(Method::PUT, url).carrying(Body::Part(part));
        let response = bucket.check(bucket.http.send(&request, cancel)?, "PUT", object, cancel)?;
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        tag.ok_or_else(|| bucket.broken("a part without an `ETag`"))
    })
}

/// Copies an object of so many bytes onto itself in parts, so that it counts as written now.
pub(super) fn copy(bucket: &Bucket, object: &str, size: u64, cancel: &Cancel) -> Result<(), ImageError> {
    let ranges = ranges(size, bucket.sizes.copy);
    in_parts(bucket, object, &ranges, cancel, |number, range, upload, cancel| {
        let credentials = bucket.credentials(cancel)?;
        let headers = [
            ("x-amz-copy-source", bucket.copy_source(object)),
            ("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end - 1)),
        ];
        let mut action = UploadPart::new(&bucket.address, credentials.as_ref(), object, number, upload);
        let request = signed_headers(&mut action, Method::PUT, &headers).carrying(Body::Bytes(Arc::from([])));
        let response = bucket.check(bucket.http.send(&request, cancel)?, "PUT", object, cancel)?;
        let text = bucket.text(response, object, cancel)?;
        let tag = text.split_once("<ETag>").and_then(|(_, rest)| rest.split_once("</ETag>"));
        let tag = tag.map(|(tag, _)| tag.replace("&quot;", "\""));
        tag.ok_or_else(|| bucket.broken("the copy of a part without an `ETag`"))
    })
}

/// Makes an object of parts; what has been sent of one that cannot be made is thrown away.
fn in_parts(
    bucket: &Bucket,
    object: &str,
    ranges: &[Range<u64>],
    cancel: &Cancel,
    send: impl Fn(u16, &Range<u64>, &str, &Cancel) -> Result<String, ImageError> + Sync,
) -> Result<(), ImageError> {
    let upload = begin(bucket, object, cancel)?;
    let tags: Mutex<Vec<String>> = Mutex::new(vec![String::new(); ranges.len()]);
    let sent = parallel::for_each(ranges.iter().enumerate(), PARALLELISM, cancel, |(place, range), cancel| {
        let number = u16::try_from(place + 1).map_err(|_| bucket.broken("more parts than there may be"))?;
        let tag = send(number, range, &upload, cancel)?;
        if let Some(known) = tags.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            *known = tag;
        }
        Ok(())
    });
    let tags = tags.into_inner().unwrap_or_else(PoisonError::into_inner);
    sent.and_then(|()| complete(bucket, object, &upload, &tags, cancel)).inspect_err(|_| {
        // Parts cost money until somebody clears them away. The error counts, not whether this works.
        let _ = abort(bucket, object, &upload);
    })
}

fn begin(bucket: &Bucket, object: &str, cancel: &Cancel) -> Result<String, ImageError> {
    let credentials = bucket.credentials(cancel)?;
    let url = CreateMultipartUpload::new(&bucket.address, credentials.as_ref(), object).sign(SIGNED_FOR);
    let request = Request::new(Method::POST, url).carrying(Body::Bytes(Arc::from([])));
    let response = bucket.check(bucket.http.send(&request, cancel)?, "POST", object, cancel)?;
    let text = bucket.text(response, object, cancel)?;
    let begun = CreateMultipartUpload::parse_response(&text);
    let id = begun.as_ref().map(CreateMultipartUploadResponse::upload_id).unwrap_or_default();
    if id.is_empty() { Err(bucket.broken("an upload without an id")) } else { Ok(id.to_owned()) }
}

fn complete(bucket: &Bucket, object: &str, upload: &str, tags: &[String], cancel: &Cancel) -> Result<(), ImageError> {
    let credentials = bucket.credentials(cancel)?;
    let tags = tags.iter().map(String::as_str);
    let action = CompleteMultipartUpload::new(&bucket.address, credentials.as_ref(), object, upload, tags);
    let url = action.clone().sign(SIGNED_FOR);
    let request = Request::new(Method::POST, url).carrying(Body::Bytes(action.body().into_bytes().into()));
    let response = bucket.check(bucket.http.send(&request, cancel)?, "POST", object, cancel)?;
    // The store may begin its answer before it knows how this ends.
    let text = bucket.text(response, object, cancel)?;
    match super::complaint(&text) {
        Some(code) => Err(bucket.broken(&format!("an object that is not put together: {code}"))),
        None => Ok(()),
    }
}

fn abort(bucket: &Bucket, object: &str, upload: &str) -> Result<(), ImageError> {
    let cancel = Cancel::new();
    let credentials = bucket.credentials(&cancel)?;
    let url = AbortMultipartUpload::new(&bucket.address, credentials.as_ref(), object, upload).sign(SIGNED_FOR);
    bucket.http.send(&Request::new(Method::DELETE, url), &cancel).map(drop)
}

fn ranges(size: u64, part: u64) -> Vec<Range<u64>> {
    let starts = (0..size.div_ceil(part)).map(|number| number * part);
    starts.map(|start| start..size.min(start + part)).collect()
}

impl Bucket {
    /// The whole of an answer, which is a short document.
    fn text(&self, response: crate::registry::Response, object: &str, cancel: &Cancel) -> Result<String, ImageError> {
        let too_large = || ImageError::TooLarge { what: "answer", name: self.name(object), limit: LIMIT };
        let bytes = response.bytes(LIMIT, cancel)?.ok_or_else(too_large)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn broken(&self, reason: &str) -> ImageError {
        ImageError::Protocol { registry: self.host(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object() {
        assert_eq!(ranges(20, 8), [0..8, 8..16, 16..20]);
        assert_eq!(ranges(16, 8), [0..8, 8..16]);
        let terabytes = 5 << 40;
        let parts = ranges(terabytes, Sizes::default().part.max(u64::div_ceil(terabytes, MOST_PARTS)));
        assert!(parts.len() as u64 <= MOST_PARTS && parts.last().is_some_and(|last| last.end == terabytes));
    }
}
