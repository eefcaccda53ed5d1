//! Observations: what a step saw of its inputs, and so under what conditions its result is right for other inputs.

use std::fmt;

use crate::{Layer, Output, StepError};

/// What a step observed of its inputs, and what it made of them. Where all of the facts hold for other inputs, the
/// same changes are right for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The facts, in an encoding of the worker's own.
    pub facts: Vec<u8>,
    /// What became of each output.
    pub changes: Vec<Change>,
}

/// An output as a change of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The position of the input that was changed; the empty tree where there is none.
    pub base: Option<usize>,
    /// The layers that came on top of it, the lowest first.
    pub layers: Vec<Layer>,
}

impl Change {
    /// The output that the change makes of these inputs.
    ///
    /// # Errors
    /// When there is no such input, or it is no tree of layers.
    pub fn apply(&self, inputs: &[Output]) -> Result<Output, StepError> {
        let mut layers = match self.base.map(|base| inputs.get(base)) {
            None => Vec::new(),
            Some(Some(Output::Layers(layers))) => layers.clone(),
            Some(_) => return Err(StepError::other("a change is recorded of an input that is no tree of layers")),
        };
        layers.extend_from_slice(&self.layers);
        Ok(Output::Layers(layers))
    }
}

/// What carrying a step out has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The outputs.
    pub outputs: Vec<Output>,
    /// What decided them, where that was observed.
    pub observation: Option<Observation>,
}

impl From<Vec<Output>> for Made {
    fn from(outputs: Vec<Output>) -> Self {
        Self { outputs, observation: None }
    }
}

/// A fact that no longer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the fact is about, such as `/etc/passwd`.
    pub subject: String,
    /// What it was when the step ran.
    pub was: String,
    /// What it is now.
    pub is: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {} → {}", self.subject, self.was, self.is)
    }
}
