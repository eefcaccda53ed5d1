//! What a cache of BuildKit's has of the steps of a build.

use std::collections::BTreeMap;

use kiln_cache::Promise;
use kiln_solver::{Digest, Graph, Layer, MountKind, Operation, Origin, Output, Source, StepId};

use super::Cache;
use super::buildkit::{self, Foreign, ForeignLayer, Vertices};
use crate::Images;

/// What a cache has of a step.
pub(super) struct ForeignHit {
    /// The position of the cache.
    pub(super) cache: usize,
    pub(super) own: Digest,
    pub(super) name: String,
    pub(super) outputs: Vec<Output>,
}

/// What a cache has of the steps that have these keys; the layers of it are promised to the store.
pub(super) fn find(
    images: &Images,
    graph: &Graph,
    vertices: &Vertices,
    cache: &Cache,
) -> BTreeMap<StepId, Vec<Output>> {
    let mut found = BTreeMap::new();
    for foreign in &cache.foreign {
        for (id, records) in buildkit::find(vertices, &foreign.records) {
            let Some(base) = base_layers(images, graph, id) else { continue };
            let mut results = records.iter().filter_map(|number| result(foreign, *number, &base));
            if let Some(layers) = results.next()
                && !graph.step(id).operation.is_source()
            {
                let outputs = vec![Output::Layers(promised(images, cache, &base, &layers))];
                found.entry(id).or_insert(outputs);
            }
        }
    }
    found
}

/// The layers of a record, if all can be had and they begin with those of the base image.
fn result<'a>(foreign: &'a Foreign, record: usize, base: &[Layer]) -> Option<Vec<&'a ForeignLayer>> {
    let trees = foreign.records.get(record)?.result.as_ref()?;
    let begins = |layers: &Vec<&ForeignLayer>| {
        layers.len() >= base.len() && base.iter().zip(layers).all(|(base, layer)| base.diff_id == layer.diff_id)
    };
    trees.iter().filter_map(|tree| foreign.layers_of(tree)).find(begins)
}

fn promised(images: &Images, cache: &Cache, base: &[Layer], layers: &[&ForeignLayer]) -> Vec<Layer> {
    let made = layers.iter().skip(base.len()).map(|layer| {
        let promise = Promise { content: None, created: layer.created };
        images.promise(layer.diff_id, promise, &cache.source, &layer.blob);
        Layer { diff_id: layer.diff_id, origin: Origin::Built }
    });
    base.iter().copied().chain(made).collect()
}

/// The layers of the image that a step builds on, through all the steps in between; no layers where that is none.
fn base_layers(images: &Images, graph: &Graph, id: StepId) -> Option<Vec<Layer>> {
    let mut next = Some(id);
    while let Some(id) = next {
        let step = graph.step(id);
        let base = match &step.operation {
            Operation::Source(Source::Image { digest, .. }) => return images.stack(digest).ok(),
            Operation::Source(_) => return None,
            Operation::Exec(exec) => exec.mounts.iter().find_map(|mount| match &mount.kind {
                MountKind::Bind { input, .. } if mount.destination == "/" => *input,
                _ => None,
            }),
            Operation::File(actions) => actions.first().and_then(|action| action.base),
        };
        next = base.and_then(|position| step.inputs.get(position)).map(|input| input.step);
    }
    Some(Vec::new())
}
