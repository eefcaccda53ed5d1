//! Tells the observer why steps ran, and what hits did not mind.

use super::Solver;
use crate::{Operation, Output, Past, Reason, StepError, StepId, Taken, explain};

impl Solver<'_> {
    /// Says why a step ran. `reason` is what is known already.
    pub(super) fn explain_run(
        self,
        id: StepId,
        taken: &[Taken],
        reason: Option<Reason>,
        outputs: &[Output],
    ) -> Result<(), StepError> {
        let reasons = match reason {
            Some(reason) => vec![reason],
            None => self.find_reasons(id, taken, outputs)?,
        };
        self.observer.explained(id, &reasons);
        Ok(())
    }

    fn find_reasons(self, id: StepId, taken: &[Taken], outputs: &[Output]) -> Result<Vec<Reason>, StepError> {
        let Some(past) = self.records.nearest(self.graph.step(id))? else { return Ok(vec![Reason::NeverBuilt]) };
        let reasons = self.compare(id, taken, &past, outputs);
        Ok(if reasons.is_empty() { vec![Reason::Lost] } else { reasons })
    }

    /// Says what made no difference to a hit.
    pub(super) fn explain_hit(self, id: StepId, taken: &[Taken], outputs: &[Output]) -> Result<(), StepError> {
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
            (Output::Local(_), Some(was), Some(is)) if copies => self.worker.differences(&topmost(was), &topmost(is)),
            _ => self.worker.differences(was, is),
        };
        explain::compare(step, taken, past, &differences)
    }
}

/// What a step put on top of what it took in.
fn topmost(output: &Output) -> Output {
    match output {
        Output::Layers(layers) => Output::Layers(layers.last().copied().into_iter().collect()),
        local => local.clone(),
    }
}
