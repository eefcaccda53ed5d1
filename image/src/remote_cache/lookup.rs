//! Answers the solver from caches elsewhere where the store knows nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{Store, StoreError};
use kiln_solver::{Digest, Graph, Key, Observation, Output, Past, Record, Records, Step, StepError, StepId};

use super::Cache;
use super::buildkit::Vertices;
use super::foreign::{self, ForeignHit};
use super::ledger::LedgerStep;
use crate::Images;

/// What the store remembers, and behind it what caches elsewhere do.
pub struct CachedRecords {
    store: Arc<Store>,
    caches: Vec<Cache>,
    /// What BuildKit's caches have of the steps of this build.
    foreign: BTreeMap<StepId, ForeignHit>,
    seen: Mutex<Seen>,
}

/// What has happened so far.
#[derive(Default)]
struct Seen {
    /// The steps of caches that were hits, by the positions of both.
    used: BTreeSet<(usize, usize)>,
    /// The caches of BuildKit's that steps which did this were found in, by the positions of the caches.
    used_foreign: BTreeMap<Digest, usize>,
    /// What was not written down, for not all of its layers are here.
    unsaved: Vec<Unsaved>,
}

#[derive(Clone)]
struct Unsaved {
    own: Digest,
    name: String,
    keys: Vec<Key>,
    outputs: Vec<Output>,
}

/// The steps of one cache by what they are found by.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    keys: HashMap<Key, usize>,
    observed: HashMap<Key, Vec<(usize, usize)>>,
    own: HashMap<Digest, Vec<usize>>,
}

impl Lookups {
    pub(super) fn new(steps: &[LedgerStep]) -> Self {
        let mut lookups = Self::default();
        for (number, step) in steps.iter().enumerate() {
            lookups.own.entry(step.own).or_default().push(number);
            for key in &step.keys {
                lookups.keys.entry(*key).or_insert(number);
            }
            for (position, (key, _)) in step.observations.iter().enumerate() {
                lookups.observed.entry(*key).or_default().push((number, position));
            }
        }
        lookups
    }
}

impl Cache {
    fn find(&self, key: &Key) -> Option<(usize, &LedgerStep)> {
        let number = *self.lookups.keys.get(key)?;
        Some((number, self.steps.get(number)?))
    }

    fn observations<'a>(&'a self, key: &Key) -> impl Iterator<Item = &'a Observation> {
        let found = self.lookups.observed.get(key).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(|(number, position)| Some(&self.steps.get(*number)?.observations.get(*position)?.1))
    }

    /// The steps that did this.
    pub(super) fn steps_of(&self, own: &Digest) -> impl Iterator<Item = (usize, &LedgerStep)> {
        let found = self.lookups.own.get(own).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(|number| Some((*number, self.steps.get(*number)?)))
    }
}

/// Whether these outputs are what the changes of an observation make of something.
pub(super) fn ends_with(outputs: &[Output], observation: &Observation) -> bool {
    let fits = |(output, change): (&Output, &kiln_solver::Change)| match output {
        Output::Layers(layers) => layers.ends_with(&change.layers),
        Output::Local(_) => false,
    };
    outputs.len() == observation.changes.len() && outputs.iter().zip(&observation.changes).all(fits)
}

impl CachedRecords {
    /// Asks these caches in order.
    pub fn new(store: Arc<Store>, caches: Vec<Cache>) -> Self {
        Self { store, caches, foreign: BTreeMap::new(), seen: Mutex::default() }
    }

    /// Whether BuildKit wrote any of the caches: then [`CachedRecords::know`] is to be told.
    pub fn are_foreign(&self) -> bool {
        self.caches.iter().any(Cache::is_foreign)
    }

    /// Takes note of what BuildKit's caches have of the steps of a build, which have these keys there.
    pub fn know(&mut self, images: &Images, graph: &Graph, vertices: &Vertices) {
        for (number, cache) in self.caches.iter().enumerate() {
            for (id, outputs) in foreign::find(images, graph, vertices, cache) {
                let own = graph.own(id);
                let name = graph.step(id).metadata.name.clone();
                self.foreign.entry(id).or_insert(ForeignHit { cache: number, own, name, outputs });
            }
        }
    }

    /// Whether there are no caches elsewhere.
    pub fn is_alone(&self) -> bool {
        self.caches.is_empty()
    }

    /// The name of the cache elsewhere that a step which did this was found in, if it was.
    pub fn origins(&self) -> BTreeMap<Digest, String> {
        let seen = self.seen();
        let origin = |(cache, step): &(usize, usize)| {
            let cache = self.caches.get(*cache)?;
            Some((cache.steps.get(*step)?.own, cache.name.clone()))
        };
        let foreign =
            seen.used_foreign.iter().filter_map(|(own, cache)| Some((*own, self.caches.get(*cache)?.name.clone())));
        seen.used.iter().filter_map(origin).chain(foreign).collect()
    }

    /// Writes down what was found elsewhere and is here by now, so that the next build finds it here.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn settle(&self) -> Result<(), StoreError> {
        let (used, unsaved) = {
            let seen = self.seen();
            (seen.used.clone(), seen.unsaved.clone())
        };
        for Unsaved { own, name, keys, outputs } in &unsaved {
            self.learn(own, name, keys, outputs)?;
        }
        for (cache, number) in used {
            let Some(step) = self.caches.get(cache).and_then(|cache| cache.steps.get(number)) else { continue };
            self.learn(&step.own, &step.name, &step.keys, &step.outputs)?;
            for (key, observation) in &step.observations {
                let known = self.store.find_observations(key).unwrap_or_default();
                let layers = observation.changes.iter().map(|change| Output::Layers(change.layers.clone()));
                if !known.contains(observation) && self.store.has_outputs(&layers.collect::<Vec<_>>())? {
                    self.store.learn_observation(key, &step.own, &step.name, observation)?;
                }
            }
        }
        Ok(())
    }

    fn learn(&self, own: &Digest, name: &str, keys: &[Key], outputs: &[Output]) -> Result<(), StoreError> {
        if !self.store.has_outputs(outputs)? {
            return Ok(());
        }
        let is_new = |key: &&Key| !matches!(self.store.find(key), Ok(Some(known)) if known == outputs);
        let keys: Vec<Key> = keys.iter().filter(is_new).copied().collect();
        if keys.is_empty() { Ok(()) } else { self.store.learn_record(&keys, own, name, outputs) }
    }

    /// The keys under which somebody knows that steps which did this came to this.
    pub(super) fn keys_of(&self, own: &Digest, outputs: &[Output]) -> Result<Vec<Key>, StoreError> {
        let mut keys = self.store.keys_of(own, outputs)?;
        let steps = self.caches.iter().flat_map(|cache| cache.steps_of(own));
        keys.extend(steps.filter(|(_, step)| step.outputs == outputs).flat_map(|(_, step)| &step.keys));
        let unsaved = &self.seen().unsaved;
        let same = unsaved.iter().filter(|unsaved| unsaved.own == *own && unsaved.outputs == outputs);
        keys.extend(same.flat_map(|unsaved| &unsaved.keys));
        Ok(keys)
    }

    /// What somebody knows that steps which did this observed.
    pub(super) fn observations_of(&self, own: &Digest) -> Result<Vec<(Key, Observation)>, StoreError> {
        let mut observations = self.store.observations_of(own)?;
        let steps = self.caches.iter().flat_map(|cache| cache.steps_of(own));
        observations.extend(steps.flat_map(|(_, step)| step.observations.iter().cloned()));
        Ok(observations)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which steps of caches led to a hit that is being written down.
    fn note_observed(&self, own: &Digest, outputs: &[Output]) {
        for (number, cache) in self.caches.iter().enumerate() {
            let led = |step: &LedgerStep| step.observations.iter().any(|(_, seen)| ends_with(outputs, seen));
            let steps: Vec<usize> =
                cache.steps_of(own).filter(|(_, step)| led(step)).map(|(position, _)| position).collect();
            self.seen().used.extend(steps.into_iter().map(|step| (number, step)));
        }
    }
}

impl Records for CachedRecords {
    fn find(&self, key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        if let Some(outputs) = self.store.find(key)? {
            return Ok(Some(outputs));
        }
        for (number, cache) in self.caches.iter().enumerate() {
            if let Some((step, found)) = cache.find(key) {
                self.seen().used.insert((number, step));
                return Ok(Some(found.outputs.clone()));
            }
        }
        let unsaved = &self.seen().unsaved;
        Ok(unsaved.iter().find(|unsaved| unsaved.keys.contains(key)).map(|unsaved| unsaved.outputs.clone()))
    }

    fn find_step(&self, id: StepId, key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        let Some(ForeignHit { cache, own, name, outputs }) = self.foreign.get(&id) else { return Ok(None) };
        let mut seen = self.seen();
        seen.used_foreign.insert(*own, *cache);
        let (own, name, outputs) = (*own, name.clone(), outputs.clone());
        seen.unsaved.push(Unsaved { own, name, keys: vec![*key], outputs: outputs.clone() });
        Ok(Some(outputs))
    }

    fn save(&self, keys: &[Key], record: &Record<'_>) -> Result<(), StepError> {
        let own = record.step.own_digest();
        self.note_observed(&own, record.outputs);
        if self.store.has_outputs(record.outputs).map_err(StepError::other)? {
            return self.store.save(keys, record);
        }
        let (name, outputs) = (record.step.metadata.name.clone(), record.outputs.to_vec());
        self.seen().unsaved.push(Unsaved { own, name, keys: keys.to_vec(), outputs });
        Ok(())
    }

    fn nearest(&self, step: &Step) -> Result<Option<Past>, StepError> {
        self.store.nearest(step)
    }

    fn may_know(&self, step: &Step) -> Result<bool, StepError> {
        let own = step.own_digest();
        let is_elsewhere = self.caches.iter().any(|cache| cache.steps_of(&own).next().is_some())
            || self.foreign.values().any(|hit| hit.own == own);
        Ok(is_elsewhere || self.store.may_know(step)?)
    }

    fn find_observations(&self, key: &Key) -> Result<Vec<Observation>, StepError> {
        let mut observations = self.store.find_observations(key)?;
        for observation in self.caches.iter().flat_map(|cache| cache.observations(key)) {
            if !observations.contains(observation) {
                observations.push(observation.clone());
            }
        }
        Ok(observations)
    }

    fn save_observation(&self, key: &Key, step: &Step, observation: &Observation) -> Result<(), StepError> {
        self.store.save_observation(key, step, observation)
    }
}
