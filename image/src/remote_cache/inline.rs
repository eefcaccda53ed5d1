//! A cache inside the config of an image (`moby.buildkit.cache.v0`): BuildKit's records, over the layers of the image,
//! with kiln's ledger in the first of them, where BuildKit passes over it.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::{Digest, Layer, Origin};
use serde::{Deserialize, Serialize};

use super::Gathered;
use super::buildkit::{ConfigRecord, Foreign, ForeignLayer, Record};
use super::gather::{built, created};
use super::import::malformed;
use super::ledger::{LEDGER_LIMIT, Ledger};
use crate::spec::{Descriptor, Image, parse_time};
use crate::{ImageError, Images};

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
    #[serde(flatten)]
    record: ConfigRecord,
    #[serde(default)]
    kiln: Option<String>,
}

#[derive(Deserialize)]
struct ReadImage {
    #[serde(default)]
    rootfs: ReadRootfs,
    #[serde(default)]
    history: Vec<ReadHistory>,
    #[serde(default, rename = "moby.buildkit.cache.v0")]
    cache: Option<String>,
}

#[derive(Default, Deserialize)]
struct ReadRootfs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct ReadHistory {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    empty_layer: bool,
}

/// What was read of a config.
#[derive(Default)]
pub(super) struct Inline {
    pub(super) ledger: Ledger,
    /// What there is of BuildKit's, where there is nothing of kiln's.
    pub(super) foreign: Option<Foreign>,
}

/// Puts what was gathered into the config of an image of these layers, as far as it is about them.
///
/// # Errors
/// When it cannot be encoded.
pub fn inline(images: &Images, image: &mut Image, gathered: &Gathered, layers: &[Layer]) -> Result<(), ImageError> {
    let in_image: HashSet<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let mut ledger = Ledger { layers: gathered.layers.clone(), steps: gathered.steps.clone() };
    ledger.steps.retain(|step| built(&step.outputs).all(|layer| in_image.contains(&layer.diff_id)));
    let mut kiln = match ledger.steps.is_empty() {
        true => None,
        false => Some(STANDARD.encode(ledger.encode()?)),
    };
    let mut written = Vec::with_capacity(gathered.records.len());
    for record in &gathered.records {
        let result = result_in_image(images, record, layers)?;
        written.push(WrittenRecord { record: ConfigRecord::new(record, result), kiln: kiln.take() });
    }
    if let Some(kiln) = kiln {
        written.push(WrittenRecord { record: ConfigRecord::nothing(), kiln: Some(kiln) });
    }
    if written.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&written).unwrap_or_default();
    image.extra.insert(INLINE.to_owned(), STANDARD.encode(bytes).into());
    Ok(())
}

/// The number of the layer of an image that a result ends with, and when it was made, if the image begins with it.
fn result_in_image(
    images: &Images,
    record: &Record<Vec<Layer>>,
    layers: &[Layer],
) -> Result<Option<(usize, SystemTime)>, ImageError> {
    let Some(result) = record.result.as_ref().filter(|result| layers.starts_with(result)) else { return Ok(None) };
    let Some(top) = result.last() else { return Ok(None) };
    let made = if top.origin == Origin::Built { created(images, &top.diff_id)? } else { None };
    Ok(Some((result.len() - 1, made.unwrap_or(SystemTime::UNIX_EPOCH))))
}

/// Takes out what a base image had: it says nothing about what is built on it.
pub fn remove_inline(image: &mut Image) {
    image.extra.remove(INLINE);
}

/// Reads the config of an image that nobody vouches for, with these layers.
pub(super) fn read(config: &[u8], layers: &[Descriptor], name: &str) -> Result<Inline, ImageError> {
    let image: ReadImage = serde_json::from_slice(config).map_err(|error| malformed(name, &error.to_string()))?;
    let Some(text) = &image.cache else { return Ok(Inline::default()) };
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| malformed(name, &error.to_string()));
    let records: Vec<ReadRecord> =
        serde_json::from_slice(&decode(text)?).map_err(|error| malformed(name, &error.to_string()))?;
    if layers.len() != image.rootfs.diff_ids.len() {
        return Err(malformed(name, "its config has not as many layers as its manifest"));
    }
    let Some(ledger) = records.iter().find_map(|record| record.kiln.as_ref()) else {
        let layers = foreign_layers(&image, layers);
        let records = records.into_iter().map(|record| record.record).collect();
        return Ok(Inline { foreign: Some(Foreign::of_image(records, layers)), ..Inline::default() });
    };
    let ledger = decode(ledger)?;
    if ledger.len() as u64 > LEDGER_LIMIT {
        return Err(ImageError::TooLarge { what: "cache", name: name.to_owned(), limit: LEDGER_LIMIT });
    }
    let mut ledger = Ledger::decode(&ledger, name)?;
    let blobs: HashMap<&Digest, &Descriptor> = image.rootfs.diff_ids.iter().zip(layers).collect();
    for layer in &mut ledger.layers {
        layer.blob = blobs.get(&layer.diff_id).map(|blob| Descriptor::clone(blob));
    }
    Ok(Inline { ledger, foreign: None })
}

/// The layers of an image, with the times that its history tells of.
fn foreign_layers(image: &ReadImage, blobs: &[Descriptor]) -> Vec<ForeignLayer> {
    let mut entries = image.history.iter().filter(|entry| !entry.empty_layer);
    let mut created = || entries.next()?.created.as_deref().and_then(parse_time);
    let layer = |(diff_id, blob): (&Digest, &Descriptor)| ForeignLayer {
        diff_id: *diff_id,
        created: created().unwrap_or(SystemTime::UNIX_EPOCH),
        blob: blob.clone(),
    };
    image.rootfs.diff_ids.iter().zip(blobs).map(layer).collect()
}
