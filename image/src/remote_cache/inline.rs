//! A cache inside the config of an image (`moby.buildkit.cache.v0`): BuildKit's records, over the layers of the image,
//! with kiln's ledger in the first of them, where BuildKit passes over it.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::{Digest, Layer};
use serde::{Deserialize, Serialize};

use super::Gathered;
use super::gather::built;
use super::import::malformed;
use super::ledger::{LEDGER_LIMIT, Ledger};
use super::wrap::{ConfigRecord, records_in_image};
use crate::ImageError;
use crate::spec::{Descriptor, Image};

/// Where BuildKit keeps it in a config.
const INLINE: &str = "moby.buildkit.cache.v0";

#[derive(Serialize)]
struct WrittenRecord {
    #[serde(flatten)]
    record: ConfigRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    kiln: Option<String>,
}

#[derive(Deserialize)]
struct ReadRecord {
    #[serde(default)]
    kiln: Option<String>,
}

#[derive(Deserialize)]
struct ReadImage {
    #[serde(default)]
    rootfs: ReadRootfs,
    #[serde(default, rename = "moby.buildkit.cache.v0")]
    cache: Option<String>,
}

#[derive(Default, Deserialize)]
struct ReadRootfs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// What was read of a config.
#[derive(Default)]
pub(super) struct Inline {
    pub(super) ledger: Ledger,
    /// Whether there was something, and nothing of kiln's.
    pub(super) is_foreign: bool,
}

/// Puts what was gathered into the config of an image of these layers, as far as it is about them.
///
/// # Errors
/// When it cannot be encoded.
pub fn inline(image: &mut Image, gathered: &Gathered, layers: &[Layer]) -> Result<(), ImageError> {
    let in_image: HashSet<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let mut ledger = Ledger { layers: gathered.layers.clone(), steps: gathered.steps.clone() };
    ledger.steps.retain(|step| built(&step.outputs).all(|layer| in_image.contains(&layer.diff_id)));
    if ledger.steps.is_empty() {
        return Ok(());
    }
    let kiln = STANDARD.encode(ledger.encode()?);
    let numbers: HashMap<Digest, usize> =
        layers.iter().enumerate().map(|(number, layer)| (layer.diff_id, number)).collect();
    let records = records_in_image(&ledger.steps, &numbers);
    let mut kiln = Some(kiln);
    let written = |record| WrittenRecord { record, kiln: kiln.take() };
    let records: Vec<WrittenRecord> = records.into_iter().map(written).collect();
    if records.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&records).unwrap_or_default();
    image.extra.insert(INLINE.to_owned(), STANDARD.encode(bytes).into());
    Ok(())
}

/// Takes out what a base image had: it says nothing about what is built on it.
pub fn remove_inline(image: &mut Image) {
    image.extra.remove(INLINE);
}

/// Reads the config of an image that nobody vouches for, with these layers.
pub(super) fn read(config: &[u8], layers: &[Descriptor], name: &str) -> Result<Inline, ImageError> {
    let image: ReadImage = serde_json::from_slice(config).map_err(|error| malformed(name, &error.to_string()))?;
    let Some(text) = image.cache else { return Ok(Inline::default()) };
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| malformed(name, &error.to_string()));
    let records: Vec<ReadRecord> =
        serde_json::from_slice(&decode(&text)?).map_err(|error| malformed(name, &error.to_string()))?;
    let Some(ledger) = records.into_iter().find_map(|record| record.kiln) else {
        return Ok(Inline { is_foreign: true, ..Inline::default() });
    };
    let ledger = decode(&ledger)?;
    if ledger.len() as u64 > LEDGER_LIMIT {
        return Err(ImageError::TooLarge { what: "cache", name: name.to_owned(), limit: LEDGER_LIMIT });
    }
    let mut ledger = Ledger::decode(&ledger, name)?;
    if layers.len() != image.rootfs.diff_ids.len() {
        return Err(malformed(name, "its config has not as many layers as its manifest"));
    }
    let blobs: HashMap<&Digest, &Descriptor> = image.rootfs.diff_ids.iter().zip(layers).collect();
    for layer in &mut ledger.layers {
        layer.blob = blobs.get(&layer.diff_id).map(|blob| Descriptor::clone(blob));
    }
    Ok(Inline { ledger, is_foreign: false })
}
