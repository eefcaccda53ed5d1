//! Reads a cache elsewhere: its manifest and its ledger, and none of its layers.
//!
//! All of it is data from the network. Documents have limits and are checked by their digests; a layer is, when it is
//! fetched, by the digest of its blob, by its diffID and by the digest of its content.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::Promise;
use kiln_solver::{Cancel, Digest};
use serde::Deserialize;

use super::buildkit::{Config, Foreign, ForeignLayer};
use super::gather::built;
use super::inline;
use super::ledger::{LEDGER, LEDGER_LIMIT, Ledger, LedgerStep};
use super::lookup::Lookups;
use super::wrap::{CACHE_CONFIG, CREATED_AT, UNCOMPRESSED};
use super::{Actions, Shelf};
use crate::actions::ActionsCache;
use crate::bucket::Bucket;
use crate::images::Source;
use crate::layout::Layout;
use crate::location::LayoutLocation;
use crate::registry::{CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::spec::{Descriptor, media_type, parse_time};
use crate::{ImageError, Images, Reference};

/// As many images of an index are asked for their caches.
const MOST_IMAGES: usize = 64;

/// Where a cache is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportPlace {
    /// An OCI layout directory.
    Local {
        /// The directory.
        directory: PathBuf,
        /// Its name there.
        tag: String,
        /// The digest of its manifest, which wins over the name.
        digest: Option<Digest>,
    },
    /// A registry.
    Registry(Reference),
    /// A bucket.
    Bucket(Box<Shelf>),
    /// The cache of GitHub Actions.
    Actions(Box<Actions>),
}

/// What a cache elsewhere knows.
#[derive(Debug)]
pub struct Cache {
    pub(super) name: String,
    pub(super) steps: Vec<LedgerStep>,
    pub(super) lookups: Lookups,
    /// What BuildKit wrote, where kiln wrote nothing.
    pub(super) foreign: Vec<Foreign>,
    /// Where its layers are to be had.
    pub(super) source: Source,
}

impl Cache {
    /// Where it was read from, as people write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether BuildKit wrote it.
    pub fn is_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }
}

/// A manifest or an index, as far as it matters here.
#[derive(Deserialize)]
struct Root {
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// Reads documents by their descriptors.
pub(super) struct Reader<'a> {
    images: &'a Images,
    name: String,
    source: Source,
    from: From<'a>,
}

enum From<'a> {
    Layout(Layout),
    Registry(&'a Reference),
    Bucket(Arc<Bucket>, &'a Shelf),
    Actions(Arc<ActionsCache>),
}

/// Reads a cache and promises its layers to the store.
///
/// # Errors
/// When it is not there, cannot be read, or is no cache and no image.
pub fn import(images: &Images, place: &ImportPlace, cancel: &Cancel) -> Result<Cache, ImageError> {
    let (reader, root) = match place {
        ImportPlace::Local { directory, tag, digest } => {
            let layout = Layout::open(directory)?;
            let location = LayoutLocation { directory: directory.clone(), tag: Some(tag.clone()), digest: *digest };
            let found = layout.find(&location)?;
            let absolute = std::fs::canonicalize(directory).map_err(ImageError::io("resolve", directory))?;
            let name = directory.display().to_string();
            let root = match found.first() {
                Some(root) => layout.read(root, "manifest", MANIFEST_LIMIT)?,
                None => return Err(malformed(&name, "it has no manifest")),
            };
            (Reader { images, name, source: Source::Layout(absolute), from: From::Layout(layout) }, root)
        }
        ImportPlace::Registry(reference) => {
            let root = images.registries().manifest(reference, cancel)?.bytes;
            let source = Source::Repository(reference.name());
            (Reader { images, name: reference.familiar(), source, from: From::Registry(reference) }, root)
        }
        ImportPlace::Bucket(shelf) => {
            let bucket = images.bucket(&shelf.bucket)?;
            let root = bucket.get(&shelf.manifest(shelf.first_name()), "cache", CONFIG_LIMIT, cancel)?;
            let source = Source::Bucket { settings: shelf.bucket.clone(), blobs: shelf.blobs() };
            (Reader { images, name: shelf.to_string(), source, from: From::Bucket(bucket, shelf) }, root)
        }
        ImportPlace::Actions(actions) => {
            let (cache, source) = (images.actions(&actions.settings)?, Source::Actions(actions.settings.clone()));
            let configs = actions.configs(&cache, cancel)?;
            let reader = Reader { images, name: actions.to_string(), source, from: From::Actions(cache) };
            return reader.cache_of_configs(&configs);
        }
    };
    match reader.from {
        From::Bucket(..) | From::Actions(_) => reader.cache_of_configs(&[root]),
        From::Layout(_) | From::Registry(_) => reader.cache(&root),
    }
}

pub(super) fn malformed(name: &str, reason: &str) -> ImageError {
    ImageError::Malformed { what: "cache", name: name.to_owned(), reason: reason.to_owned() }
}

impl Reader<'_> {
    fn cache(&self, bytes: &[u8]) -> Result<Cache, ImageError> {
        let root = self.root(bytes)?;
        let parts = || root.layers.iter().chain(&root.manifests).flatten();
        if let Some(descriptor) = parts().find(|part| part.media_type == LEDGER) {
            let ledger = self.read(descriptor, "cache", LEDGER_LIMIT)?;
            return Ok(self.promise(Ledger::decode(&ledger, &self.name)?, Vec::new()));
        }
        if let Some(config) = parts().chain(&root.config).find(|part| part.media_type == CACHE_CONFIG) {
            let config = self.config(&self.read(config, "cache", CONFIG_LIMIT)?)?;
            let layers = parts().filter_map(|part| Some((part.digest, foreign_layer(part)?))).collect();
            return Ok(self.promise(Ledger::default(), vec![Foreign::of_config(config, &layers)]));
        }
        let mut ledger = Ledger::default();
        let mut foreign = Vec::new();
        for (manifest, config) in self.images_of(root)? {
            let inline = inline::read(&self.read(&config, "config", CONFIG_LIMIT)?, &manifest, &self.name)?;
            ledger.layers.extend(inline.ledger.layers);
            ledger.steps.extend(inline.ledger.steps);
            foreign.extend(inline.foreign);
        }
        Ok(self.promise(ledger, foreign))
    }

    /// In a bucket there is no manifest: BuildKit's config is where everything begins. Of several, all are one cache.
    fn cache_of_configs(&self, configs: &[Vec<u8>]) -> Result<Cache, ImageError> {
        let (mut all, mut foreign, mut missing) = (Ledger::default(), Vec::new(), None);
        for bytes in configs {
            let config = self.config(bytes)?;
            let Some(descriptor) = &config.kiln else {
                foreign.push(Foreign::of_config(config, &HashMap::new()));
                continue;
            };
            match self.read(descriptor, "cache", LEDGER_LIMIT) {
                Ok(ledger) => {
                    let Ledger { layers, steps } = Ledger::decode(&ledger, &self.name)?;
                    all.layers.extend(layers);
                    all.steps.extend(steps);
                }
                // Of a cache that throws out what is old, others may have what one has lost.
                Err(error @ ImageError::NotFound { .. }) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if all.steps.is_empty() && foreign.is_empty() => Err(error),
            _ => Ok(self.promise(all, foreign)),
        }
    }

    fn config(&self, bytes: &[u8]) -> Result<Config, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| malformed(&self.name, &error.to_string()))
    }

    fn root(&self, bytes: &[u8]) -> Result<Root, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| malformed(&self.name, &error.to_string()))
    }

    /// The layers and the config of each image that a root stands for.
    fn images_of(&self, root: Root) -> Result<Vec<(Vec<Descriptor>, Descriptor)>, ImageError> {
        let Root { config, layers, manifests } = root;
        if let Some(config) = config {
            return Ok(vec![(layers.unwrap_or_default(), config)]);
        }
        let mut images = Vec::new();
        let manifests = manifests.unwrap_or_default();
        let is_image = |part: &&Descriptor| {
            let runs = part.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
            runs && media_type::is_manifest(&part.media_type)
        };
        for descriptor in manifests.iter().filter(is_image).take(MOST_IMAGES) {
            let manifest = self.root(&self.manifest(descriptor)?)?;
            images.extend(manifest.config.map(|config| (manifest.layers.unwrap_or_default(), config)));
        }
        Ok(images)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        match &self.from {
            From::Layout(layout) => layout.read(descriptor, "manifest", MANIFEST_LIMIT),
            From::Registry(reference) => {
                let reference = reference.with_digest(descriptor.digest);
                Ok(self.images.registries().manifest(&reference, self.images.cancel())?.bytes)
            }
            From::Bucket(..) | From::Actions(_) => self.read(descriptor, "manifest", MANIFEST_LIMIT),
        }
    }

    fn read(&self, descriptor: &Descriptor, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
        match &self.from {
            From::Layout(layout) => layout.read(descriptor, what, limit),
            From::Registry(reference) => self.images.small_blob(reference, descriptor, what, limit),
            From::Bucket(bucket, shelf) => {
                let bytes = bucket.get(&shelf.blob(&descriptor.digest), what, limit, self.images.cancel())?;
                self.verify(descriptor, what, bytes)
            }
            From::Actions(cache) => {
                let bytes = cache.get(&Actions::blob(&descriptor.digest), what, limit, self.images.cancel())?;
                self.verify(descriptor, what, bytes)
            }
        }
    }

    fn verify(&self, descriptor: &Descriptor, what: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, ImageError> {
        let (expected, found) = (descriptor.digest, Digest::of(&bytes));
        if found != expected {
            return Err(ImageError::WrongDigest { what, source_name: self.name.clone(), expected, found });
        }
        Ok(bytes)
    }

    /// The cache of a ledger, as far as the layers in it can be had.
    fn promise(&self, ledger: Ledger, foreign: Vec<Foreign>) -> Cache {
        let mut can_be_had = HashSet::new();
        for layer in &ledger.layers {
            let promise = Promise { content: Some(layer.content), created: layer.created };
            if let Some(blob) = &layer.blob {
                self.images.promise(layer.diff_id, promise, &self.source, blob);
                can_be_had.insert(layer.diff_id);
            }
        }
        let mut steps = ledger.steps;
        for step in &mut steps {
            step.observations.retain(|(_, seen)| {
                seen.changes.iter().flat_map(|change| &change.layers).all(|layer| can_be_had.contains(&layer.diff_id))
            });
        }
        steps.retain(|step| built(&step.outputs).all(|layer| can_be_had.contains(&layer.diff_id)));
        let source = self.source.clone();
        Cache { name: self.name.clone(), lookups: Lookups::new(&steps), steps, foreign, source }
    }
}

/// A layer as BuildKit describes it in a manifest.
fn foreign_layer(blob: &Descriptor) -> Option<ForeignLayer> {
    let annotation = |name: &str| blob.annotations.get(name);
    let created = annotation(CREATED_AT).and_then(|text| parse_time(text)).unwrap_or(SystemTime::UNIX_EPOCH);
    Some(ForeignLayer { diff_id: annotation(UNCOMPRESSED)?.parse().ok()?, created, blob: blob.clone() })
}
