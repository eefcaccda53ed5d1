//! Where the layers of images can be fetched from.
//!
//! An image may be built and tagged without a single byte of its base's layers, and be the base of another
//! build next week. So where each layer is to be had is kept in the store too: as a small blob of JSON,
//! remembered under a name that no image can have.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kiln_cache::Store;
use kiln_solver::{Digest, Layer};
use serde::{Deserialize, Serialize};

use crate::spec::{Descriptor, Manifest};
use crate::{ActionsSettings, BucketSettings, ImageError};

const LONGEST: u64 = 1 << 20;

/// A place that has images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Source {
    /// A repository, with its registry.
    Repository(String),
    /// An OCI layout directory, absolute.
    Layout(PathBuf),
    /// A bucket, with what the names of blobs in it begin with; nothing that is kept, for secrets belong to it.
    #[serde(skip)]
    Bucket {
        /// The bucket.
        settings: BucketSettings,
        /// The beginning of names.
        blobs: String,
    },
    /// The cache of GitHub Actions; nothing that is kept, either.
    #[serde(skip)]
    Actions(ActionsSettings),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) => formatter.write_str(name),
            Self::Bucket { settings, .. } => write!(formatter, "s3://{}", settings.bucket),
            Self::Actions(settings) => formatter.write_str(&settings.url),
            Self::Layout(directory) => write!(formatter, "oci-layout://{}", directory.display()),
        }
    }
}

/// Where a layer is to be had, and as which blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerSource {
    pub(super) source: Source,
    pub(super) blob: Descriptor,
}

/// The sources of layers met so far.
#[derive(Default)]
pub(super) struct Sources {
    known: Mutex<HashMap<Digest, LayerSource>>,
}

impl Sources {
    /// Notes where the layers of an image are to be had, for this process.
    pub(super) fn note(&self, source: &Source, manifest: &Manifest, layers: &[Layer]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (layer, blob) in layers.iter().zip(&manifest.layers) {
            known.insert(layer.diff_id, LayerSource { source: source.clone(), blob: blob.clone() });
        }
    }

    /// Notes where one layer is to be had, for this process, where that is not known.
    pub(super) fn add(&self, diff_id: Digest, source: &Source, blob: &Descriptor) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(diff_id).or_insert_with(|| LayerSource { source: source.clone(), blob: blob.clone() });
    }

    /// Notes it for later processes as well.
    pub(super) fn keep(&self, store: &Store, layers: &[Layer]) -> Result<(), ImageError> {
        for layer in layers {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.diff_id).cloned();
            // A layout whose path is not UTF-8 cannot be written down; it is known to this process alone.
            if let Some(bytes) = known.and_then(|source| serde_json::to_vec(&source).ok()) {
                store.remember_origin(&layer.diff_id, &bytes)?;
            }
        }
        Ok(())
    }

    /// Where a layer is to be had.
    pub(super) fn find(&self, store: &Store, layer: &Layer) -> Result<Option<LayerSource>, ImageError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.diff_id).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let bytes = store.origin(&layer.diff_id, LONGEST)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}
