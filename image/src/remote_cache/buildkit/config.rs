//! The document that BuildKit's records are in (`cache/remotecache/v1/spec.go`), as anybody may have written it.

use std::collections::HashMap;
use std::time::SystemTime;

use kiln_solver::Digest;
use serde::{Deserialize, Serialize};

use super::records::Record;
use crate::spec::{Descriptor, format_time, parse_time};

/// As many records and layers are taken of one document.
const MOST: usize = 1 << 17;
/// As many layers as one tree may have: no more can be mounted.
const MOST_LAYERS: usize = 999;

/// BuildKit's cache config.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::remote_cache) struct Config {
    #[serde(default)]
    pub(in crate::remote_cache) layers: Vec<ConfigLayer>,
    #[serde(default)]
    pub(in crate::remote_cache) records: Vec<ConfigRecord>,
    /// Where kiln's ledger is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::remote_cache) kiln: Option<Descriptor>,
}

/// A layer, with the one below it.
#[derive(Serialize, Deserialize)]
pub(in crate::remote_cache) struct ConfigLayer {
    pub(in crate::remote_cache) blob: Digest,
    /// Its number; -1 where there is none, and 0 where nothing is said.
    #[serde(default)]
    pub(in crate::remote_cache) parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::remote_cache) annotations: Option<LayerAnnotations>,
}

/// What a bucket has no manifest for to say it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::remote_cache) struct LayerAnnotations {
    pub(in crate::remote_cache) media_type: String,
    #[serde(rename = "diffID")]
    pub(in crate::remote_cache) diff_id: Digest,
    pub(in crate::remote_cache) size: u64,
    /// Empty where it is not known: BuildKit takes no time that is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in crate::remote_cache) created_at: String,
}

/// What something that goes by a key came to.
#[derive(Serialize, Deserialize)]
pub(in crate::remote_cache) struct ConfigRecord {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<ConfigResult>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chains: Vec<ConfigChain>,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<ConfigInput>>,
}

/// The layer on top of a result.
#[derive(Serialize, Deserialize)]
struct ConfigResult {
    #[serde(default)]
    layer: usize,
    #[serde(default, rename = "createdAt", skip_serializing_if = "Option::is_none")]
    created: Option<String>,
}

/// A result of layers that are one upon the other whatever their parents are.
#[derive(Serialize, Deserialize)]
struct ConfigChain {
    #[serde(default)]
    layers: Vec<usize>,
}

/// What a record hangs on.
#[derive(Serialize, Deserialize)]
struct ConfigInput {
    /// The digest of what is selected; empty for all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    selector: String,
    #[serde(default)]
    link: usize,
}

/// A layer that a cache of BuildKit's has.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::remote_cache) struct ForeignLayer {
    pub(in crate::remote_cache) diff_id: Digest,
    pub(in crate::remote_cache) created: SystemTime,
    pub(in crate::remote_cache) blob: Descriptor,
}

/// What was read of a cache of BuildKit's.
#[derive(Debug, Default)]
pub(in crate::remote_cache) struct Foreign {
    layers: Vec<(Option<usize>, Option<ForeignLayer>)>,
    pub(in crate::remote_cache) records: Vec<Record<Vec<Tree>>>,
}

/// A result by the numbers of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remote_cache) enum Tree {
    /// This one upon those below it.
    Top(usize),
    /// These, the lowest first.
    Chain(Vec<usize>),
}

impl ConfigRecord {
    /// One that nothing goes by.
    pub(in crate::remote_cache) fn nothing() -> Self {
        Self::new(&Record::<()> { digest: Digest::of(b""), inputs: Vec::new(), result: None }, None)
    }

    /// A record whose result has this layer on top, made then.
    pub(in crate::remote_cache) fn new<R>(record: &Record<R>, result: Option<(usize, SystemTime)>) -> Self {
        let input = |(link, selector): &(usize, Option<Digest>)| ConfigInput {
            selector: selector.map(|selector| selector.to_string()).unwrap_or_default(),
            link: *link,
        };
        let result = result.map(|(layer, created)| ConfigResult { layer, created: Some(format_time(created)) });
        Self {
            layers: result.into_iter().collect(),
            chains: Vec::new(),
            digest: record.digest,
            inputs: record.inputs.iter().map(|links| links.iter().map(input).collect()).collect(),
        }
    }
}

impl Foreign {
    /// What a config says. `blobs` are the layers of its manifest by the digests of their blobs; those that it does not
    /// name must be described by the config itself.
    pub(in crate::remote_cache) fn of_config(config: Config, blobs: &HashMap<Digest, ForeignLayer>) -> Self {
        let layer = |layer: ConfigLayer| {
            let parent = usize::try_from(layer.parent).ok();
            let described = || Some(annotated(layer.blob, layer.annotations.as_ref()?));
            (parent, blobs.get(&layer.blob).cloned().or_else(described))
        };
        let layers = config.layers.into_iter().take(MOST).map(layer).collect();
        Self { layers, records: records(config.records) }
    }

    /// What the config of an image of these layers says.
    pub(in crate::remote_cache) fn of_image(records_of: Vec<ConfigRecord>, layers: Vec<ForeignLayer>) -> Self {
        let layers = layers.into_iter().enumerate().map(|(number, layer)| (number.checked_sub(1), Some(layer)));
        Self { layers: layers.collect(), records: records(records_of) }
    }

    /// The layers of a result, the lowest first, if all of them can be had.
    pub(in crate::remote_cache) fn layers_of(&self, tree: &Tree) -> Option<Vec<&ForeignLayer>> {
        let layer = |number: usize| self.layers.get(number)?.1.as_ref();
        match tree {
            Tree::Chain(numbers) if numbers.len() > MOST_LAYERS => None,
            Tree::Chain(numbers) => numbers.iter().map(|number| layer(*number)).collect(),
            Tree::Top(top) => {
                let mut layers = Vec::new();
                let mut next = Some(*top);
                while let Some(number) = next {
                    layers.push(layer(number)?);
                    if layers.len() > MOST_LAYERS {
                        return None;
                    }
                    next = self.layers.get(number)?.0;
                }
                layers.reverse();
                Some(layers)
            }
        }
    }
}

fn annotated(blob: Digest, annotations: &LayerAnnotations) -> ForeignLayer {
    let LayerAnnotations { media_type, diff_id, size, created_at } = annotations;
    let created = parse_time(created_at).unwrap_or(SystemTime::UNIX_EPOCH);
    ForeignLayer { diff_id: *diff_id, created, blob: Descriptor::new(media_type, blob, *size) }
}

fn records(records: Vec<ConfigRecord>) -> Vec<Record<Vec<Tree>>> {
    let record = |record: ConfigRecord| {
        let results = record.layers.into_iter().map(|result| Tree::Top(result.layer));
        let chains = record.chains.into_iter().map(|chain| Tree::Chain(chain.layers));
        let trees: Vec<Tree> = results.chain(chains).collect();
        let inputs = record.inputs.into_iter().map(|links| links.into_iter().filter_map(link).collect());
        Record { digest: record.digest, inputs: inputs.collect(), result: (!trees.is_empty()).then_some(trees) }
    };
    records.into_iter().take(MOST).map(record).collect()
}

/// A link whose selector is no digest is one that nothing of kiln's has.
fn link(input: ConfigInput) -> Option<(usize, Option<Digest>)> {
    let selector = (!input.selector.is_empty()).then(|| input.selector.parse()).transpose().ok()?;
    Some((input.link, selector))
}
