//! Solving a graph, in three passes: the keys of everything needed; a plan, from the targets down, of what the
//! cache does not have; and the carrying out of that plan, in parallel where nothing stands in the way.
//!
//! The first two passes run no step but those that bring in a local directory, so a build that is cached as a
//! whole costs one look-up for each target.

mod carry_out;
mod keys;
mod plan;
mod reasons;

use crate::{Cancel, Graph, Job, Made, Observer, Output, Records, Step, StepError, StepId, Worker};

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

impl Solver<'_> {
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

fn output(outputs: &[Output], index: u32) -> Result<&Output, StepError> {
    let missing = || StepError::other(format!("a step has no output {index}"));
    outputs.get(index as usize).ok_or_else(missing)
}
