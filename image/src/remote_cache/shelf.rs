//! Caches in a bucket, laid out as BuildKit's are: configs under `manifests/`, blobs by their digests under `blobs/`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_solver::{Cancel, Digest, Layer};

use super::place::blob;
use super::wrap::Wrapped;
use crate::bucket::Bucket;
use crate::registry::Content;
use crate::spec::Descriptor;
use crate::{BucketSettings, ImageError, Images, parallel};

/// Where in a bucket a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The bucket.
    pub bucket: BucketSettings,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// What comes behind it for a blob, `blobs/` by default.
    pub blobs_prefix: String,
    /// What comes behind it for a config, `manifests/` by default.
    pub manifests_prefix: String,
    /// What the cache is called. It is written under all of these names, and read under the first.
    pub names: Vec<String>,
}

/// How a cache is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfOptions {
    /// How many blobs are sent at a time.
    pub parallelism: usize,
    /// Blobs that are there and older than this are made to count as new, so that nobody clears them away.
    pub touch_refresh: Duration,
}

impl fmt::Display for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket.bucket, self.manifest(self.first_name()))
    }
}

impl Shelf {
    pub(super) fn first_name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    pub(super) fn manifest(&self, name: &str) -> String {
        format!("{}{}{name}", self.prefix, self.manifests_prefix)
    }

    /// What the names of blobs begin with.
    pub(super) fn blobs(&self) -> String {
        format!("{}{}", self.prefix, self.blobs_prefix)
    }

    pub(super) fn blob(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.blobs())
    }

    /// Sends the blobs that the bucket lacks, and then the config that makes a cache of them.
    pub(super) fn write(
        &self,
        images: &Images,
        wrapped: &Wrapped,
        options: &ShelfOptions,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let bucket = images.bucket(&self.bucket)?;
        parallel::for_each(&wrapped.layers, options.parallelism, cancel, |(layer, descriptor), cancel| {
            self.send(images, &bucket, layer, descriptor, options, cancel)
        })?;
        let put = |object: String, bytes: &[u8]| bucket.put(&object, Content::of(bytes), bytes.len() as u64, cancel);
        put(self.blob(&Digest::of(&wrapped.ledger)), &wrapped.ledger)?;
        self.names.iter().try_for_each(|name| put(self.manifest(name), &wrapped.config))
    }

    fn send(
        &self,
        images: &Images,
        bucket: &Arc<Bucket>,
        layer: &Layer,
        descriptor: &Descriptor,
        options: &ShelfOptions,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let object = self.blob(&descriptor.digest);
        match bucket.changed(&object, cancel)? {
            Some((changed, size)) => {
                let age = SystemTime::now().duration_since(changed).unwrap_or_default();
                if age > options.touch_refresh { bucket.touch(&object, size, cancel) } else { Ok(()) }
            }
            None => {
                let blob = blob(images, layer, &descriptor.digest, cancel)?;
                bucket.put(&object, Content::File(blob.path), blob.size, cancel)
            }
        }
    }
}
