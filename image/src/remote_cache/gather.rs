//! Gathers what is to be told of a build.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use kiln_solver::{Digest, Graph, Key, Layer, Observation, Origin, Output, Records as _, StepError, StepId};

use super::CachedRecords;
use super::buildkit::{self, Record, Vertices};
use super::ledger::{LedgerLayer, LedgerStep};
use super::lookup::ends_with;
use crate::{ImageError, Images};

/// As many observations of one step are told.
const MOST_OBSERVATIONS: usize = 16;

/// Of which steps is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Of those whose layers are all in the image.
    #[default]
    Min,
    /// Of all.
    Max,
}

/// What is told of a build.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    pub(super) steps: Vec<LedgerStep>,
    /// The layers that the steps made, in the order in which they are named first.
    pub(super) layers: Vec<LedgerLayer>,
    /// The same for BuildKit, with the layers of base images.
    pub(super) records: Vec<Record<Vec<Layer>>>,
}

/// Gathers what is known of the steps of a build by the time that it is done. `keys` are the definition keys of all
/// steps that it needed, `vertices` those that BuildKit would give them, `made` the layers of what it made.
///
/// The same store gives the same result, whether the build ran its steps or found them in the cache.
///
/// # Errors
/// When the store cannot be read.
pub fn gather(
    images: &Images,
    records: &CachedRecords,
    graph: &Graph,
    keys: &BTreeMap<StepId, Key>,
    vertices: &Vertices,
    mode: Mode,
    made: &[Vec<Layer>],
) -> Result<Gathered, ImageError> {
    let in_image: HashSet<Digest> = made.iter().flatten().map(|layer| layer.diff_id).collect();
    let mut gathered = Gathered::default();
    let mut results = BTreeMap::new();
    for (id, step) in graph.steps().filter(|(_, step)| !step.operation.is_source()) {
        let Some(key) = keys.get(&id) else { continue };
        let Some(outputs) = records.find(key).map_err(store_error)? else { continue };
        let is_in_image = built(&outputs).all(|layer| in_image.contains(&layer.diff_id));
        if mode == Mode::Min && !is_in_image {
            continue;
        }
        if let [Output::Layers(layers)] = &outputs[..]
            && !layers.is_empty()
        {
            results.insert(id, layers.clone());
        }
        let own = graph.own(id);
        let mut known = records.keys_of(&own, &outputs)?;
        known.push(*key);
        known.sort();
        known.dedup();
        let observations = observations(records, &own, &outputs)?;
        let step = LedgerStep { own, name: step.metadata.name.clone(), keys: known, outputs, observations };
        gathered.add(images, step)?;
    }
    gathered.records = buildkit::records(vertices, &results);
    Ok(gathered)
}

fn store_error(error: StepError) -> ImageError {
    match error {
        StepError::Other(error) => match error.downcast::<kiln_cache::StoreError>() {
            Ok(error) => ImageError::Store(*error),
            Err(_) => ImageError::Thread("read the cache"),
        },
        _ => ImageError::Cancelled,
    }
}

/// The observations that led to these outputs.
fn observations(
    records: &CachedRecords,
    own: &Digest,
    outputs: &[Output],
) -> Result<Vec<(Key, Observation)>, ImageError> {
    let mut observations = records.observations_of(own)?;
    observations.retain(|(_, observation)| ends_with(outputs, observation));
    observations.sort_by(|(a, seen_a), (b, seen_b)| (a, &seen_a.facts).cmp(&(b, &seen_b.facts)));
    observations.dedup();
    observations.truncate(MOST_OBSERVATIONS);
    Ok(observations)
}

/// The layers of outputs that steps made.
pub(super) fn built(outputs: &[Output]) -> impl Iterator<Item = &Layer> {
    let trees = outputs.iter().filter_map(|output| match output {
        Output::Layers(layers) => Some(layers),
        Output::Local(_) => None,
    });
    trees.flatten().filter(|layer| layer.origin == Origin::Built)
}

impl Gathered {
    /// Adds a step, unless something is not known of its layers that kiln would have to know: those of BuildKit's which
    /// nobody needed.
    fn add(&mut self, images: &Images, step: LedgerStep) -> Result<(), ImageError> {
        if self.steps.contains(&step) {
            return Ok(());
        }
        let mut layers: Vec<LedgerLayer> = Vec::new();
        for &Layer { diff_id, .. } in built(&step.outputs) {
            if self.layers.iter().chain(&layers).any(|known| known.diff_id == diff_id) {
                continue;
            }
            let created = created(images, &diff_id)?.ok_or(ImageError::LostLayer(diff_id))?;
            let Some(content) = images.store().layer_content(&diff_id)? else { return Ok(()) };
            layers.push(LedgerLayer { diff_id, content, created, blob: None });
        }
        self.layers.extend(layers);
        self.steps.push(step);
        Ok(())
    }
}

/// When a layer was made; none of one of an image that is not here.
pub(super) fn created(images: &Images, diff_id: &Digest) -> Result<Option<SystemTime>, ImageError> {
    let here = images.store().layer_created(diff_id)?;
    Ok(here.or_else(|| Some(images.store().promise(diff_id)?.created)))
}
