//! What steps produced.

use kiln_solver::{Key, Output, Records, Step, StepError};

use crate::Store;

impl Records for Store {
    fn find(&self, key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        todo!()
    }

    fn save(&self, keys: &[Key], step: &Step, outputs: &[Output]) -> Result<(), StepError> {
        todo!()
    }
}
