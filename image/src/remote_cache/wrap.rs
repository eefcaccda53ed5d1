//! A cache in the documents that BuildKit writes: a manifest or an index, over the layers and a config of the type
//! `application/vnd.buildkit.cacheconfig.v0`. kiln's own ledger is one more blob, which BuildKit passes over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use kiln_cache::Compression;
use kiln_solver::{Cancel, Digest, Layer, Origin};

use super::Gathered;
use super::buildkit::{Config, ConfigLayer, ConfigRecord, LayerAnnotations, Record};
use super::gather::created;
use super::ledger::{LEDGER, Ledger};
use crate::export::{ImageOptions, MediaTypes, layer_blob};
use crate::push::{Parcel, ParcelBlob, Place};
use crate::registry::Content;
use crate::spec::{Descriptor, Extra, Index, Manifest, format_time};
use crate::{ImageError, Images, push};

/// The media type of BuildKit's cache config.
pub(super) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where containerd and BuildKit note the diffID of a layer.
pub(super) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Where BuildKit notes when a layer was made.
pub(super) const CREATED_AT: &str = "buildkit/createdat";

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

/// Puts what was gathered into documents; layers that are here are compressed for it.
pub(super) fn wrap(
    images: &Images,
    gathered: &Gathered,
    options: &ExportOptions,
    cancel: &Cancel,
) -> Result<Wrapped, ImageError> {
    let mut ledger = Ledger { layers: gathered.layers.clone(), steps: gathered.steps.clone() };
    let mut layers = Vec::with_capacity(ledger.layers.len());
    let mut add = |layer: Layer| {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        let described = Described::new(images, layer, options, cancel)?;
        let blob = described.blob.clone();
        layers.push(described);
        Ok(blob)
    };
    for made in &mut ledger.layers {
        made.blob = Some(add(Layer { diff_id: made.diff_id, origin: Origin::Built })?);
    }
    let mut known: HashSet<Digest> = ledger.layers.iter().map(|made| made.diff_id).collect();
    for layer in gathered.records.iter().filter_map(|record| record.result.as_ref()).flatten() {
        if known.insert(layer.diff_id) {
            add(*layer)?;
        }
    }
    let ledger_bytes = ledger.encode()?;
    let ledger_descriptor = Descriptor::of(LEDGER, &ledger_bytes);
    let config = Config { kiln: Some(ledger_descriptor.clone()), ..chains(&gathered.records, &layers) };
    let config = serde_json::to_vec(&config).unwrap_or_default();
    let config_descriptor = Descriptor::of(CACHE_CONFIG, &config);
    let layers: Vec<(Layer, Descriptor)> = layers.into_iter().map(Described::annotated).collect();
    let all = layers.iter().map(|(_, descriptor)| descriptor.clone()).chain([ledger_descriptor]).collect();
    let (root, root_bytes) = root(options, config_descriptor, all);
    Ok(Wrapped { root, root_bytes, config, ledger: ledger_bytes, layers })
}

/// A layer, and what it is sent as.
struct Described {
    layer: Layer,
    created: Option<SystemTime>,
    blob: Descriptor,
}

impl Described {
    fn new(images: &Images, layer: Layer, options: &ExportOptions, cancel: &Cancel) -> Result<Self, ImageError> {
        // Those of base images are sent as they are, which mostly is not at all: the registry has them.
        let force_compression = options.force_compression && layer.origin == Origin::Built;
        let image =
            ImageOptions { compression: Some(options.compression), force_compression, ..ImageOptions::default() };
        if force_compression {
            images.ensure_made(&[layer], cancel)?;
        }
        let form = match images.is_elsewhere(&layer)? {
            true => images.form_of(&layer)?,
            false => layer_blob(images.store(), &layer, &image)?,
        };
        let blob = Descriptor::new(options.media_types.layer(form.compression), form.digest, form.size);
        // When a base image came here makes no difference.
        let created = match layer.origin {
            Origin::Built => created(images, &layer.diff_id)?,
            Origin::Image => None,
        };
        Ok(Self { layer, created, blob })
    }

    /// With what BuildKit reads of it in a manifest.
    fn annotated(self) -> (Layer, Descriptor) {
        let mut annotations = BTreeMap::from([(UNCOMPRESSED.to_owned(), self.layer.diff_id.to_string())]);
        annotations.extend(self.created.map(|created| (CREATED_AT.to_owned(), format_time(created))));
        (self.layer, Descriptor { annotations, ..self.blob })
    }
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
fn chains(records: &[Record<Vec<Layer>>], described: &[Described]) -> Config {
    let mut config = Config::default();
    let known: HashMap<Digest, &Described> = described.iter().map(|one| (one.layer.diff_id, one)).collect();
    let mut numbers: HashMap<(i64, Digest), i64> = HashMap::new();
    for record in records {
        let mut top = -1;
        let mut made = None;
        for layer in record.result.iter().flatten() {
            let Some(Described { blob, created, .. }) = known.get(&layer.diff_id).copied() else { continue };
            let next = config.layers.len() as i64;
            made = created.or(made);
            top = *numbers.entry((top, layer.diff_id)).or_insert_with_key(|(parent, diff_id)| {
                let annotations = LayerAnnotations {
                    media_type: blob.media_type.clone(),
                    diff_id: *diff_id,
                    size: blob.size,
                    created_at: created.map(format_time).unwrap_or_default(),
                };
                let annotations = Some(annotations);
                config.layers.push(ConfigLayer { blob: blob.digest, parent: *parent, annotations });
                next
            });
        }
        let top = usize::try_from(top).ok();
        config.records.push(ConfigRecord::new(record, top.map(|top| (top, made.unwrap_or(SystemTime::UNIX_EPOCH)))));
    }
    config
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
