//! The third pass: the plan carried out, in parallel where nothing stands in the way.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use super::keys::{InputKeys, Keys};
use super::plan::Plan;
use super::{SolveError, Solver, output};
use crate::{Hit, Made, Mismatch, Operation, Output, Reason, Record, Step, StepError, StepId};

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

impl Solver<'_> {
    pub(super) fn carry_out(self, plan: Plan, keys: &Keys) -> Result<HashMap<StepId, Vec<Output>>, SolveError> {
        let Plan { mut outputs, mut pending } = plan;
        self.check(&pending)?;
        self.expect(&pending);
        let mut failure: Option<SolveError> = None;
        let mut running = 0_usize;
        let (sender, receiver) = mpsc::channel::<(StepId, Result<Vec<Output>, StepError>)>();
        thread::scope(|scope| {
            loop {
                if failure.is_none() {
                    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
                    for id in pending.drain(..) {
                        match self.inputs(id, &outputs) {
                            Some(inputs) => ready.push((id, inputs)),
                            None => waiting.push(id),
                        }
                    }
                    // While a step runs that has no others beside it, none can become ready.
                    let is_alone = running == 0 && ready.len() == 1;
                    for (id, inputs) in ready {
                        let sender = sender.clone();
                        let job = move || {
                            let result = inputs.and_then(|inputs| self.carry_out_step(id, &inputs, keys));
                            // The receiver outlives every job.
                            let _ = sender.send((id, result));
                        };
                        running += 1;
                        if is_alone {
                            job();
                        } else if let Err(error) = thread::Builder::new().spawn_scoped(scope, job) {
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

    /// Fails if there is a step that cannot be run and has to be. What was done before it would be for nothing.
    fn check(self, pending: &[StepId]) -> Result<(), SolveError> {
        for &id in pending {
            if let Err(error) = self.worker.check(self.graph.step(id))
                && self.is_new(self.graph.step(id))
            {
                return Err(self.fail(id, error));
            }
        }
        Ok(())
    }

    /// Whether a step will be run in any case: one that was never run has left no record.
    fn is_new(self, step: &Step) -> bool {
        // Where the records cannot be read, others will say so.
        step.metadata.ignore_cache.is_some() || !self.records.may_know(step).unwrap_or(true)
    }

    /// Tells the worker of the first command, if that cannot be found.
    fn expect(self, pending: &[StepId]) {
        let mut steps = pending.iter().map(|id| self.graph.step(*id));
        let Some(step) = steps.find(|step| matches!(step.operation, Operation::Exec(_))) else { return };
        if self.is_new(step) {
            self.worker.expect(step);
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
                self.observer.produced(id, &outputs);
                self.observer.cached(id, hit);
                Ok(outputs)
            }
            Found::Made(outputs) => {
                self.observer.produced(id, &outputs);
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
        let reason = match step.metadata.ignore_cache {
            Some(why) => Some(Reason::Ignored(why)),
            None => match self.look_up_inputs(step, inputs, &keys)? {
                LookedUp::Hit(hit, outputs) => {
                    self.explain_hit(id, &keys.taken, &outputs)?;
                    self.save(step, &keys, &outputs)?;
                    return Ok(Found::InCache(hit, outputs));
                }
                LookedUp::Miss(mismatch) => mismatch.map(Reason::Fact),
            },
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
}
