//! The second pass: from the targets down, what the cache does not have.

use std::collections::{HashMap, HashSet};

use super::keys::Keys;
use super::{SolveError, Solver};
use crate::{Hit, Output, StepError, StepId};

/// What the second pass decides.
pub(super) struct Plan {
    /// What is known already.
    pub(super) outputs: HashMap<StepId, Vec<Output>>,
    /// The steps to carry out, in a topological order.
    pub(super) pending: Vec<StepId>,
}

impl Solver<'_> {
    pub(super) fn plan(self, needed: &[StepId], targets: &[StepId], keys: &Keys) -> Result<Plan, SolveError> {
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
                self.observer.produced(id, outputs.get(&id).map_or(&[][..], |found| found));
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
        let Some(key) = keys.of.get(&id) else { return Ok(None) };
        match self.records.find(key)? {
            None => self.records.find_step(id, key),
            found => Ok(found),
        }
    }
}
