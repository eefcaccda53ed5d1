//! Solving a graph, in three passes: the keys of everything needed; a plan, from the targets down, of what the
//! cache does not have; and the carrying out of that plan, in parallel where nothing stands in the way.
//!
//! The first two passes run no step but those that bring in a local directory, so a build that is cached as a
//! whole costs one look-up for each target.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc;
use std::thread;

use crate::key::KeyPart;
use crate::{
    Cancel, Digest, Graph, Hit, Job, Key, Made, Mismatch, Observer, Operation, Output, Past, Reason, Record, Records,
    Source, Step, StepError, StepId, Taken, Worker, explain,
};

/// A step that kept its build from succeeding.
#[derive(Debug)]
pub struct SolveError {
    /// Which step.
    pub step: StepId,
    /// Why.
    pub error: StepError,
}

impl std::fmt::Display for SolveError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for SolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Brings about the outputs of these steps, in the order asked for.
///
/// # Errors
/// The first step that failed, or was stopped because `cancel` was requested. A failure requests `cancel`
/// itself, to stop the rest; by the time it is returned every other step has ended, too, and what finished is
/// recorded.
pub fn solve(
    graph: &Graph,
    targets: &[StepId],
    worker: &dyn Worker,
    records: &dyn Records,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Vec<Vec<Output>>, SolveError> {
    let solver = Solver { graph, worker, records, observer, cancel };
    let needed = graph.needed(targets);
    let keys = solver.find_keys(&needed)?;
    let plan = solver.plan(&needed, targets, &keys)?;
    let outputs = solver.carry_out(plan, &keys)?;
    let made = |target: &StepId| {
        let missing = || solver.fail(*target, StepError::other("the step was never reached"));
        outputs.get(target).cloned().ok_or_else(missing)
    };
    targets.iter().map(made).collect()
}

#[derive(Clone, Copy)]
struct Solver<'a> {
    graph: &'a Graph,
    worker: &'a dyn Worker,
    records: &'a dyn Records,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
}

/// What the first pass finds out.
#[derive(Default)]
struct Keys {
    /// The definition keys of the steps that have one: all but local directories.
    of: HashMap<StepId, Key>,
    /// Local directories, the only outputs known before the plan is made.
    local: HashMap<StepId, Vec<Output>>,
    /// The digests of what steps select of local directories, by step and position of the input.
    selected: HashMap<(StepId, usize), Digest>,
    /// Steps told to ignore the cache and all that build on them. The definition of the latter says nothing
    /// about what the former will produce this time.
    unsettled: HashSet<StepId>,
}

/// What the second pass decides.
struct Plan {
    /// What is known already.
    outputs: HashMap<StepId, Vec<Output>>,
    /// The steps to carry out, in a topological order.
    pending: Vec<StepId>,
}

enum Found {
    InCache(Hit, Vec<Output>),
    Made(Vec<Output>),
}

/// What a look-up by content and by observations comes to.
enum LookedUp {
    Hit(Hit, Vec<Output>),
    /// With the first fact of the last observation that does not hold, if there is one.
    Miss(Option<Mismatch>),
}

/// A step whose inputs are there: its keys.
struct InputKeys {
    /// What it takes in.
    taken: Vec<Taken>,
    definition: Option<Key>,
    content: Option<Key>,
    /// The key of its observations, if it is one that observes.
    observed: Option<Key>,
}

impl InputKeys {
    /// The keys that name a result by themselves.
    fn exact(&self) -> Vec<Key> {
        self.definition.into_iter().chain(self.content).collect()
    }
}

impl<'a> Solver<'a> {
    fn find_keys(self, needed: &[StepId]) -> Result<Keys, SolveError> {
        let mut keys = Keys::default();
        for &id in needed {
            let step = self.graph.step(id);
            let fail = |error| self.fail(id, error);
            if step.metadata.ignore_cache || step.inputs.iter().any(|input| keys.unsettled.contains(&input.step)) {
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
                keys.of.insert(id, Key::of(&self.graph.own(id), &parts));
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

    fn plan(self, needed: &[StepId], targets: &[StepId], keys: &Keys) -> Result<Plan, SolveError> {
        let mut outputs = keys.local.clone();
        let mut hits = HashSet::new();
        let mut demanded = HashSet::new();
        let mut open: Vec<StepId> = targets.to_vec();
        while let Some(id) = open.pop() {
            if outputs.contains_key(&id) || !demanded.insert(id) {
                continue;
            }
            match self.look_up(id, keys).map_err(|error| self.fail(id, error))? {
                Some(found) => {
                    outputs.insert(id, found);
                    hits.insert(id);
                }
                None => open.extend(self.graph.step(id).inputs.iter().map(|input| input.step)),
            }
        }
        for &id in needed.iter().filter(|id| !keys.local.contains_key(id)) {
            if hits.contains(&id) {
                self.observer.cached(id, Hit::Definition);
            } else if !demanded.contains(&id) {
                self.observer.cached(id, Hit::Unneeded);
            }
        }
        let pending = |id: &StepId| demanded.contains(id) && !hits.contains(id);
        Ok(Plan { pending: needed.iter().copied().filter(pending).collect(), outputs })
    }

    fn look_up(self, id: StepId, keys: &Keys) -> Result<Option<Vec<Output>>, StepError> {
        if self.graph.step(id).operation.is_source() || keys.unsettled.contains(&id) {
            return Ok(None);
        }
        match keys.of.get(&id) {
            Some(key) => self.records.find(key),
            None => Ok(None),
        }
    }

    fn carry_out(self, plan: Plan, keys: &Keys) -> Result<HashMap<StepId, Vec<Output>>, SolveError> {
        let Plan { mut outputs, mut pending } = plan;
        let mut failure: Option<SolveError> = None;
        let mut running = 0_usize;
        let (sender, receiver) = mpsc::channel::<(StepId, Result<Vec<Output>, StepError>)>();
        thread::scope(|scope| {
            loop {
                if failure.is_none() {
                    let mut waiting = Vec::new();
                    for id in pending.drain(..) {
                        let Some(inputs) = self.inputs(id, &outputs) else {
                            waiting.push(id);
                            continue;
                        };
                        let sender = sender.clone();
                        let job = move || {
                            let result = inputs.and_then(|inputs| self.carry_out_step(id, &inputs, keys));
                            // The receiver outlives every job.
                            let _ = sender.send((id, result));
                        };
                        running += 1;
                        if let Err(error) = thread::Builder::new().spawn_scoped(scope, job) {
                            running -= 1;
                            failure.get_or_insert(self.fail(id, StepError::other(error)));
                        }
                    }
                    pending = waiting;
                }
                if running == 0 {
                    return;
                }
                let Ok((id, result)) = receiver.recv() else { return };
                running -= 1;
                match result {
                    Ok(made) => {
                        outputs.insert(id, made);
                    }
                    Err(error) => {
                        let error = self.fail(id, error);
                        failure.get_or_insert(error);
                    }
                }
            }
        });
        match failure {
            Some(failure) => Err(failure),
            None => Ok(outputs),
        }
    }

    /// What a step takes in, once all of it is there.
    fn inputs(self, id: StepId, outputs: &HashMap<StepId, Vec<Output>>) -> Option<Result<Vec<Output>, StepError>> {
        let inputs = &self.graph.step(id).inputs;
        let made: Option<Vec<_>> = inputs.iter().map(|input| Some((outputs.get(&input.step)?, input.output))).collect();
        Some(made?.into_iter().map(|(outputs, index)| output(outputs, index).cloned()).collect())
    }

    fn carry_out_step(self, id: StepId, inputs: &[Output], keys: &Keys) -> Result<Vec<Output>, StepError> {
        if self.cancel.is_requested() {
            return Err(StepError::Cancelled);
        }
        match self.find_or_make(id, inputs, keys)? {
            Found::InCache(hit, outputs) => {
                self.observer.cached(id, hit);
                Ok(outputs)
            }
            Found::Made(outputs) => {
                self.observer.finished(id);
                Ok(outputs)
            }
        }
    }

    fn find_or_make(self, id: StepId, inputs: &[Output], keys: &Keys) -> Result<Found, StepError> {
        let step = self.graph.step(id);
        if step.operation.is_source() {
            self.observer.started(id);
            return Ok(Found::Made(self.run(id, inputs)?.outputs));
        }
        let keys = self.input_keys(id, inputs, keys)?;
        let reason = if step.metadata.ignore_cache {
            Some(Reason::Ignored)
        } else {
            match self.look_up_inputs(step, inputs, &keys)? {
                LookedUp::Hit(hit, outputs) => {
                    self.explain_hit(id, &keys.taken, &outputs)?;
                    self.save(step, &keys, &outputs)?;
                    return Ok(Found::InCache(hit, outputs));
                }
                LookedUp::Miss(mismatch) => mismatch.map(Reason::Fact),
            }
        };
        self.observer.started(id);
        let made = self.run(id, inputs);
        let outputs = made.as_ref().map_or(&[][..], |made| &made.outputs[..]);
        self.explain_run(id, &keys.taken, reason, outputs)?;
        let Made { outputs, observation } = made?;
        if let (Some(key), Some(observation)) = (&keys.observed, &observation) {
            self.records.save_observation(key, step, observation)?;
        }
        self.save(step, &keys, &outputs)?;
        Ok(Found::Made(outputs))
    }

    fn save(self, step: &Step, keys: &InputKeys, outputs: &[Output]) -> Result<(), StepError> {
        self.records.save(&keys.exact(), &Record { step, inputs: &keys.taken, outputs })
    }

    /// Looks for a result by everything but the definition key.
    fn look_up_inputs(self, step: &Step, inputs: &[Output], keys: &InputKeys) -> Result<LookedUp, StepError> {
        if let Some(key) = keys.content
            && let Some(outputs) = self.records.find(&key)?
        {
            return Ok(LookedUp::Hit(Hit::Content, outputs));
        }
        let mut first = None;
        for observation in keys.observed.map_or(Ok(Vec::new()), |key| self.records.find_observations(&key))? {
            match self.worker.recheck(step, inputs, &observation.facts, self.cancel)? {
                None => {
                    let changes = observation.changes.iter();
                    let outputs = changes.map(|change| change.apply(inputs)).collect::<Result<_, _>>()?;
                    return Ok(LookedUp::Hit(Hit::Observed, outputs));
                }
                Some(mismatch) => first = first.or(Some(mismatch)),
            }
        }
        Ok(LookedUp::Miss(first))
    }

    /// Says why a step ran. `reason` is what is known already.
    fn explain_run(
        self,
        id: StepId,
        taken: &[Taken],
        reason: Option<Reason>,
        outputs: &[Output],
    ) -> Result<(), StepError> {
        let reasons = match (reason, self.records.nearest(self.graph.step(id))?) {
            (Some(reason), _) => vec![reason],
            (None, None) => vec![Reason::NeverBuilt],
            (None, Some(past)) => match self.compare(id, taken, &past, outputs) {
                none if none.is_empty() => vec![Reason::Lost],
                reasons => reasons,
            },
        };
        self.observer.explained(id, &reasons);
        Ok(())
    }

    /// Says what made no difference to a hit.
    fn explain_hit(self, id: StepId, taken: &[Taken], outputs: &[Output]) -> Result<(), StepError> {
        if self.observer.wants_hits_explained()
            && let Some(past) = self.records.nearest(self.graph.step(id))?
        {
            self.observer.explained(id, &self.compare(id, taken, &past, outputs));
        }
        Ok(())
    }

    fn compare(self, id: StepId, taken: &[Taken], past: &Past, outputs: &[Output]) -> Vec<Reason> {
        let step = self.graph.step(id);
        let copies = !matches!(step.operation, Operation::Exec(_));
        let differences = |was: &Output, is: &Output| match (was, past.outputs.first(), outputs.first()) {
            // What a directory held is not remembered; what was copied of it is.
            (Output::Local(_), Some(was), Some(is)) if copies => self.worker.differences(was, is),
            _ => self.worker.differences(was, is),
        };
        explain::compare(step, taken, past, &differences)
    }

    fn input_keys(self, id: StepId, inputs: &[Output], keys: &Keys) -> Result<InputKeys, StepError> {
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

    fn run(self, id: StepId, inputs: &[Output]) -> Result<Made, StepError> {
        let step: &Step = self.graph.step(id);
        self.worker.run(Job { id, step, inputs, cancel: self.cancel, observer: self.observer })
    }

    fn fail(self, step: StepId, error: StepError) -> SolveError {
        self.observer.failed(step, &error);
        self.cancel.request();
        SolveError { step, error }
    }
}

/// Adds a part to a key; a key that lacks a part is none.
fn add(parts: &mut Option<Vec<KeyPart>>, part: Option<KeyPart>) {
    match (parts.as_mut(), part) {
        (Some(parts), Some(part)) => parts.push(part),
        _ => *parts = None,
    }
}

fn output(outputs: &[Output], index: u32) -> Result<&Output, StepError> {
    let missing = || StepError::other(format!("a step has no output {index}"));
    outputs.get(index as usize).ok_or_else(missing)
}
