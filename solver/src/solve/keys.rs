//! The first pass, which finds the keys that need no step to run; and the keys of a step whose inputs are there.

use std::collections::{HashMap, HashSet};

use super::{SolveError, Solver, output};
use crate::key::KeyPart;
use crate::{Digest, Key, Operation, Output, Source, Step, StepError, StepId, Taken};

/// What the first pass finds out.
#[derive(Default)]
pub(super) struct Keys {
    /// The definition keys of the steps that have one: all but local directories.
    pub(super) of: HashMap<StepId, Key>,
    /// Local directories, the only outputs known before the plan is made.
    pub(super) local: HashMap<StepId, Vec<Output>>,
    /// The digests of what steps select of local directories, by step and position of the input.
    pub(super) selected: HashMap<(StepId, usize), Digest>,
    /// Steps told to ignore the cache and all that build on them. The definition of the latter says nothing
    /// about what the former will produce this time.
    pub(super) unsettled: HashSet<StepId>,
}

/// A step whose inputs are there: its keys.
pub(super) struct InputKeys {
    /// What it takes in.
    pub(super) taken: Vec<Taken>,
    pub(super) definition: Option<Key>,
    pub(super) content: Option<Key>,
    /// The key of its observations, if it is one that observes.
    pub(super) observed: Option<Key>,
}

impl InputKeys {
    /// The keys that name a result by themselves.
    pub(super) fn exact(&self) -> Vec<Key> {
        self.definition.into_iter().chain(self.content).collect()
    }
}

impl Solver<'_> {
    pub(super) fn find_keys(self, needed: &[StepId]) -> Result<Keys, SolveError> {
        let mut keys = Keys::default();
        for &id in needed {
            let step = self.graph.step(id);
            let fail = |error| self.fail(id, error);
            let builds_on_unsettled = step.inputs.iter().any(|input| keys.unsettled.contains(&input.step));
            if step.metadata.ignore_cache.is_some() || builds_on_unsettled {
                keys.unsettled.insert(id);
            }
            if !step.operation.has_identity() {
                self.observer.started(id);
                let outputs = self.run(id, &[]).map_err(fail)?.outputs;
                self.observer.finished(id);
                keys.local.insert(id, outputs);
                continue;
            }
            let mut parts = Vec::with_capacity(step.inputs.len());
            for (position, input) in step.inputs.iter().enumerate() {
                let part = match keys.of.get(&input.step) {
                    Some(key) => Some(KeyPart::Key(*key, input.output)),
                    None => self.select(id, position, &mut keys).map_err(fail)?.map(KeyPart::Content),
                };
                parts.extend(part);
            }
            if parts.len() == step.inputs.len() {
                let key = Key::of(&self.graph.own(id), &parts);
                self.observer.keyed(id, &key);
                keys.of.insert(id, key);
            }
        }
        Ok(keys)
    }

    /// The digest of what a step selects of a local directory; none of anything else that has no key.
    fn select(self, id: StepId, position: usize, keys: &mut Keys) -> Result<Option<Digest>, StepError> {
        let step = self.graph.step(id);
        let input = step.inputs[position];
        let Some(outputs) = keys.local.get(&input.step) else { return Ok(None) };
        let digest = self.worker.content(step, position, output(outputs, input.output)?, self.cancel)?;
        if let Some(digest) = digest {
            keys.selected.insert((id, position), digest);
        }
        Ok(digest)
    }

    pub(super) fn input_keys(self, id: StepId, inputs: &[Output], keys: &Keys) -> Result<InputKeys, StepError> {
        let step = self.graph.step(id);
        let own = self.graph.own(id);
        let mut content = Some(Vec::with_capacity(inputs.len()));
        let mut observed = Some(Vec::with_capacity(inputs.len()));
        let mut observes = false;
        let mut taken = Vec::with_capacity(inputs.len());
        for (position, input) in inputs.iter().enumerate() {
            let digest = match keys.selected.get(&(id, position)) {
                Some(digest) => Some(*digest),
                None => self.worker.content(step, position, input, self.cancel)?,
            };
            let unobserved = self.worker.unobserved(step, position, input)?;
            observes |= unobserved.is_some();
            taken.push(self.taken(step, position, input, digest));
            add(&mut content, digest.map(KeyPart::Content));
            add(&mut observed, unobserved.map(KeyPart::Unobserved).or(digest.map(KeyPart::Content)));
        }
        let definition = keys.of.get(&id).copied();
        Ok(InputKeys {
            taken,
            definition,
            // Over local directories alone both are the same.
            content: content.map(|parts| Key::of(&own, &parts)).filter(|key| Some(*key) != definition),
            observed: observed.filter(|_| observes).map(|parts| Key::of(&own, &parts)),
        })
    }

    fn taken(self, step: &Step, position: usize, output: &Output, content: Option<Digest>) -> Taken {
        let from = self.graph.step(step.inputs[position].step);
        let identity = match &from.operation {
            Operation::Source(Source::Image { digest, .. }) => digest.to_string(),
            _ => String::new(),
        };
        Taken { name: from.metadata.name.clone(), identity, content, output: output.clone() }
    }
}

/// Adds a part to a key; a key that lacks a part is none.
fn add(parts: &mut Option<Vec<KeyPart>>, part: Option<KeyPart>) {
    match (parts.as_mut(), part) {
        (Some(parts), Some(part)) => parts.push(part),
        _ => *parts = None,
    }
}
