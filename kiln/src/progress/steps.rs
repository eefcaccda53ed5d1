//! Tells the display what the solver does with the steps of a graph.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_solver::{Graph, Hit, LogStream, Observer, Output, Reason, StepError, StepId};

use super::{End, Group, Progress, Title};
use crate::failure;

/// Watches the steps of a graph.
pub(crate) struct Steps<'a> {
    progress: &'a Progress,
    graph: &'a Graph,
    /// The text of the Dockerfile that the steps come from.
    text: &'a str,
    groups: Mutex<Vec<Option<Group>>>,
}

impl<'a> Steps<'a> {
    /// An observer of this graph's steps.
    pub(crate) fn new(progress: &'a Progress, graph: &'a Graph, text: &'a str) -> Self {
        Self { progress, graph, text, groups: Mutex::default() }
    }

    /// Forgets the steps so far: the build begins anew.
    pub(crate) fn forget(&self) {
        self.groups().clear();
    }

    /// The last lines that a step printed.
    pub(crate) fn tail(&self, id: StepId) -> Vec<String> {
        let group = self.groups().get(id.index()).copied().flatten();
        group.map(|group| self.progress.tail(group)).unwrap_or_default()
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Option<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a step, which begins now if it has not yet.
    fn group(&self, id: StepId) -> Group {
        let mut groups = self.groups();
        if groups.len() <= id.index() {
            groups.resize(id.index() + 1, None);
        }
        *groups[id.index()].get_or_insert_with(|| self.progress.start(&self.title(id)))
    }

    fn title(&self, id: StepId) -> Title {
        let step = self.graph.step(id);
        Title {
            name: step.metadata.name.clone(),
            digest: Some(self.graph.definition(id)),
            inputs: step.inputs.iter().map(|input| self.graph.definition(input.step)).collect(),
            line: step.metadata.span.map(|span| failure::line_of(self.text, span.start)),
        }
    }
}

impl Observer for Steps<'_> {
    fn started(&self, id: StepId) {
        self.group(id);
    }

    fn cached(&self, id: StepId, hit: Hit) {
        self.progress.end(self.group(id), &End::Cached(hit));
    }

    fn wants_hits_explained(&self) -> bool {
        self.progress.is_recorded()
    }

    fn explained(&self, id: StepId, reasons: &[Reason]) {
        if !reasons.is_empty() {
            self.progress.explain(self.group(id), reasons);
        }
    }

    fn produced(&self, id: StepId, outputs: &[Output]) {
        if let Some(Output::Layers(layers)) = outputs.first()
            && let Some(layer) = layers.last()
        {
            self.progress.made(self.group(id), layer.diff_id);
        }
    }

    fn log(&self, id: StepId, stream: LogStream, bytes: &[u8]) {
        self.progress.output(self.group(id), stream, bytes);
    }

    fn finished(&self, id: StepId) {
        self.progress.end(self.group(id), &End::Done);
    }

    fn failed(&self, id: StepId, error: &StepError) {
        let end = match error {
            StepError::Cancelled => End::Cancelled,
            error => End::Failed(failure::describe(self.graph.step(id), error)),
        };
        // A step that was stopped before it began has never been seen: there is nothing to say about it.
        let seen = self.groups().get(id.index()).is_some_and(Option::is_some);
        if seen || end != End::Cancelled {
            self.progress.end(self.group(id), &end);
        }
    }
}
