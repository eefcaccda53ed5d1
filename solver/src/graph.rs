//! The graph of steps, duplicates merged.

use std::collections::HashMap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::encode::Encoder;
use crate::{Digest, Step};

/// A step of one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(NodeIndex);

impl StepId {
    /// The position of the step in order of addition, from 0.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

struct Node {
    step: Step,
    own: Digest,
    definition: Digest,
}

/// Steps and what they take from each other. A step can only take from steps added before it, so there are
/// no cycles.
#[derive(Default)]
pub struct Graph {
    nodes: DiGraph<Node, ()>,
    by_definition: HashMap<Digest, StepId>,
}

impl Graph {
    /// A graph without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step, or finds the equal one that is there: two steps are equal when their definition digests
    /// are. Of the metadata the first one's stays, but `ignore_cache` holds if either asks for it.
    pub fn add(&mut self, step: Step) -> StepId {
        let own = step.own_digest();
        let mut encoder = Encoder::new("kiln.definition.v1");
        encoder.digest(&own).number(step.inputs.len() as u64);
        for input in &step.inputs {
            encoder.digest(&self.definition(input.step)).number(u64::from(input.output));
        }
        let definition = encoder.finish();
        if let Some(&known) = self.by_definition.get(&definition) {
            let ignore_cache = &mut self.nodes[known.0].step.metadata.ignore_cache;
            *ignore_cache = ignore_cache.or(step.metadata.ignore_cache);
            return known;
        }
        let sources = distinct_sources(&step);
        let id = StepId(self.nodes.add_node(Node { step, own, definition }));
        for source in sources {
            self.nodes.add_edge(source, id.0, ());
        }
        self.by_definition.insert(definition, id);
        id
    }

    /// The step.
    pub fn step(&self, id: StepId) -> &Step {
        &self.nodes[id.0].step
    }

    /// The digest of what the step does, without its inputs.
    pub fn own(&self, id: StepId) -> Digest {
        self.nodes[id.0].own
    }

    /// The digest of what the step does and of everything that it builds on: its definition digest.
    pub fn definition(&self, id: StepId) -> Digest {
        self.nodes[id.0].definition
    }

    /// Every step, in order of addition, which is a topological order.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.nodes.node_indices().map(|index| (StepId(index), &self.nodes[index].step))
    }

    /// The steps that any of these need, themselves included, in a topological order.
    pub fn needed(&self, targets: &[StepId]) -> Vec<StepId> {
        let mut needed = vec![false; self.nodes.node_count()];
        let mut pending: Vec<NodeIndex> = targets.iter().map(|target| target.0).collect();
        while let Some(index) = pending.pop() {
            if !std::mem::replace(&mut needed[index.index()], true) {
                pending.extend(self.nodes.neighbors_directed(index, Direction::Incoming));
            }
        }
        self.nodes.node_indices().filter(|index| needed[index.index()]).map(StepId).collect()
    }
}

/// The steps that a step takes from, each once. It is they that are compared, and not the edges that are there: a
/// build context has as many of those as there are steps that copy from it.
fn distinct_sources(step: &Step) -> Vec<NodeIndex> {
    let mut sources: Vec<NodeIndex> = step.inputs.iter().map(|input| input.step.0).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Input, Operation, Source};

    fn local(name: String) -> Step {
        Step::new(Operation::Source(Source::Local { name }), "source")
    }

    /// Were all the edges of a step looked at for each new one, this would take minutes.
    #[test]
    fn a_step_may_be_taken_from_by_very_many() {
        const USERS: usize = 300_000;
        let mut graph = Graph::new();
        let context = Input { step: graph.add(local("context".to_owned())), output: 0 };
        for number in 0..USERS {
            let inputs = vec![context, Input { output: 1, ..context }];
            graph.add(Step { inputs, ..local(number.to_string()) });
        }
        assert_eq!(graph.nodes.edge_count(), USERS, "two outputs of one step make one edge");
        assert_eq!(graph.needed(&[context.step]), [context.step]);
    }
}
