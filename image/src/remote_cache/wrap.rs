//! A cache in the documents that BuildKit writes: a manifest or an index, over the layers and a config of the type
//! `application/vnd.buildkit.cacheconfig.v0`. kiln's own ledger is one more blob, which BuildKit passes over.
//!
//! BuildKit's records go by the digests of its own operations, which kiln's do not have. So the records in the config
//! are well-formed and lead to the right layers, but neither engine ever finds the other's.

use std::collections::{BTreeMap, HashMap};

use kiln_cache::Compression;
use kiln_solver::{Cancel, Digest, Key, Layer, Origin};
use serde::{Deserialize, Serialize};

use super::Gathered;
use super::gather::built;
use super::ledger::{LEDGER, Ledger, LedgerLayer, LedgerStep};
use crate::export::{ImageOptions, MediaTypes, layer_blob};
use crate::push::{Parcel, ParcelBlob, Place};
use crate::registry::Content;
use crate::spec::{Descriptor, Extra, Index, Manifest, format_time};
use crate::{ImageError, Images, push};

/// The media type of BuildKit's cache config.
pub(super) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where containerd and BuildKit note the diffID of a layer.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Where BuildKit notes when a layer was made.
const CREATED_AT: &str = "buildkit/createdat";

/// How a cache is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// Whether the layers hang on an image manifest; else on an index, which registries like less.
    pub image_manifest: bool,
    /// Whose media types describe it.
    pub media_types: MediaTypes,
    /// How layers made here are compressed.
    pub compression: Compression,
    /// Whether layers that are here in another compression only are compressed anew.
    pub force_compression: bool,
}

/// A cache ready to be sent.
pub(super) struct Wrapped {
    /// The manifest or index.
    pub(super) root: Descriptor,
    pub(super) root_bytes: Vec<u8>,
    /// BuildKit's config.
    pub(super) config: Vec<u8>,
    pub(super) ledger: Vec<u8>,
    pub(super) layers: Vec<(Layer, Descriptor)>,
}

/// BuildKit's cache config.
#[derive(Default, Serialize)]
pub(super) struct Config {
    layers: Vec<ConfigLayer>,
    records: Vec<ConfigRecord>,
    /// Where kiln's ledger is.
    kiln: Option<Descriptor>,
}

#[derive(Serialize)]
struct ConfigLayer {
    blob: Digest,
    parent: i64,
    annotations: ConfigAnnotations,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigAnnotations {
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Digest,
    size: u64,
    created_at: String,
}

/// What a step came to, in BuildKit's words.
#[derive(Serialize)]
pub(super) struct ConfigRecord {
    layers: Vec<ConfigResult>,
    digest: Digest,
}

#[derive(Serialize)]
struct ConfigResult {
    layer: usize,
}

/// What is read of a config again.
#[derive(Deserialize)]
pub(super) struct ReadConfig {
    #[serde(default)]
    pub(super) kiln: Option<Descriptor>,
}

/// Puts what was gathered into documents; layers that are here are compressed for it.
pub(super) fn wrap(
    images: &Images,
    gathered: &Gathered,
    options: &ExportOptions,
    cancel: &Cancel,
) -> Result<Wrapped, ImageError> {
    let mut ledger = Ledger { layers: gathered.layers.clone(), steps: gathered.steps.clone() };
    let mut layers = Vec::with_capacity(ledger.layers.len());
    for made in &mut ledger.layers {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        let layer = Layer { diff_id: made.diff_id, origin: Origin::Built };
        let mut descriptor = describe(images, &layer, options, cancel)?;
        made.blob = Some(descriptor.clone());
        descriptor.annotations = BTreeMap::from([
            (UNCOMPRESSED.to_owned(), made.diff_id.to_string()),
            (CREATED_AT.to_owned(), format_time(made.created)),
        ]);
        layers.push((layer, descriptor));
    }
    let ledger_bytes = ledger.encode()?;
    let ledger_descriptor = Descriptor::of(LEDGER, &ledger_bytes);
    let config = Config { kiln: Some(ledger_descriptor.clone()), ..chains(&ledger.steps, &ledger.layers) };
    let config = serde_json::to_vec(&config).unwrap_or_default();
    let config_descriptor = Descriptor::of(CACHE_CONFIG, &config);
    let all = layers.iter().map(|(_, descriptor)| descriptor.clone()).chain([ledger_descriptor]).collect();
    let (root, root_bytes) = root(options, config_descriptor, all);
    Ok(Wrapped { root, root_bytes, config, ledger: ledger_bytes, layers })
}

/// What a layer is sent as.
fn describe(
    images: &Images,
    layer: &Layer,
    options: &ExportOptions,
    cancel: &Cancel,
) -> Result<Descriptor, ImageError> {
    let image = ImageOptions {
        compression: Some(options.compression),
        force_compression: options.force_compression,
        ..ImageOptions::default()
    };
    if options.force_compression {
        images.ensure_made(&[*layer], cancel)?;
    }
    let form = match images.is_elsewhere(layer)? {
        true => images.form_of(layer)?,
        false => layer_blob(images.store(), layer, &image)?,
    };
    Ok(Descriptor::new(options.media_types.layer(form.compression), form.digest, form.size))
}

fn root(options: &ExportOptions, config: Descriptor, mut layers: Vec<Descriptor>) -> (Descriptor, Vec<u8>) {
    let (media_type, bytes) = if options.image_manifest {
        let media_type = options.media_types.manifest();
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type.to_owned(),
            config,
            layers,
            annotations: BTreeMap::new(),
            extra: Extra::new(),
        };
        (media_type, serde_json::to_vec(&manifest))
    } else {
        let media_type = options.media_types.index();
        layers.push(config);
        (media_type, serde_json::to_vec(&Index { media_type: media_type.to_owned(), ..Index::of(layers) }))
    };
    let bytes = bytes.unwrap_or_default();
    (Descriptor::of(media_type, &bytes), bytes)
}

/// BuildKit's layers, each with the one below it, and its records.
pub(super) fn chains(steps: &[LedgerStep], layers: &[LedgerLayer]) -> Config {
    let mut config = Config::default();
    let known: HashMap<Digest, &LedgerLayer> = layers.iter().map(|layer| (layer.diff_id, layer)).collect();
    let mut numbers: HashMap<(i64, Digest), i64> = HashMap::new();
    for step in steps {
        let [output] = &step.outputs[..] else { continue };
        let mut top = -1;
        for layer in built(std::slice::from_ref(output)) {
            let Some((made, blob)) = known.get(&layer.diff_id).and_then(|made| Some((made, made.blob.as_ref()?)))
            else {
                continue;
            };
            let next = config.layers.len() as i64;
            top = *numbers.entry((top, layer.diff_id)).or_insert_with_key(|(parent, _)| {
                config.layers.push(ConfigLayer {
                    blob: blob.digest,
                    parent: *parent,
                    annotations: ConfigAnnotations {
                        media_type: blob.media_type.clone(),
                        diff_id: made.diff_id,
                        size: blob.size,
                        created_at: format_time(made.created),
                    },
                });
                next
            });
        }
        if let Ok(layer) = usize::try_from(top) {
            let record = |key: &Key| ConfigRecord { layers: vec![ConfigResult { layer }], digest: key.0 };
            config.records.extend(step.keys.iter().map(record));
        }
    }
    config
}

/// BuildKit's records over the layers of an image, which have these numbers in it.
pub(super) fn records_in_image(steps: &[LedgerStep], numbers: &HashMap<Digest, usize>) -> Vec<ConfigRecord> {
    let mut records = Vec::new();
    for step in steps {
        let [output] = &step.outputs[..] else { continue };
        let top = built(std::slice::from_ref(output)).last().and_then(|layer| numbers.get(&layer.diff_id));
        let Some(&layer) = top else { continue };
        let record = |key: &Key| ConfigRecord { layers: vec![ConfigResult { layer }], digest: key.0 };
        records.extend(step.keys.iter().map(record));
    }
    records
}

impl Wrapped {
    /// What is to be pushed.
    pub(super) fn parcel(&self) -> Parcel {
        let here =
            |descriptor: Descriptor, bytes: &[u8]| ParcelBlob { descriptor, at: Place::Here(Content::of(bytes)) };
        let layer = |(layer, descriptor): &(Layer, Descriptor)| ParcelBlob {
            descriptor: descriptor.clone(),
            at: Place::Layer(*layer),
        };
        let mut blobs: Vec<ParcelBlob> = self.layers.iter().map(layer).collect();
        blobs.push(here(Descriptor::of(LEDGER, &self.ledger), &self.ledger));
        blobs.push(here(Descriptor::of(CACHE_CONFIG, &self.config), &self.config));
        let root = push::Document { media_type: self.root.media_type.clone(), bytes: self.root_bytes.clone() };
        Parcel { documents: vec![root], blobs }
    }
}
