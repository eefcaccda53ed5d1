//! Solving a graph: keys first, then, from the targets down, whatever the cache does not have.

use crate::{Cancel, Graph, Observer, Output, Records, StepError, StepId, Worker};

/// A step that kept its build from succeeding.
#[derive(Debug)]
pub struct SolveError {
    /// Which step.
    pub step: StepId,
    /// Why.
    pub error: StepError,
}

/// Brings about the outputs of these steps, running what the cache does not have, in parallel where nothing
/// stands in the way.
///
/// # Errors
/// The first step that failed; by then every other one has ended, too, and the finished ones are recorded.
pub fn solve(
    graph: &Graph,
    targets: &[StepId],
    worker: &dyn Worker,
    records: &dyn Records,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Vec<Vec<Output>>, SolveError> {
    let _ = (graph, targets, worker, records, observer, cancel);
    todo!("the scheduler")
}
