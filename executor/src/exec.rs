//! `RUN`: one command in the sandbox, over the layers of its inputs.

use kiln_solver::{Exec, Job, Output, StepError};

use crate::Executor;

/// Runs the command of an Exec step and commits what it wrote.
pub(crate) fn run_exec(executor: &Executor, job: &Job<'_>, exec: &Exec) -> Result<Vec<Output>, StepError> {
    let _ = (executor, job, exec);
    todo!()
}
