//! The actions of a file step, one after the other. Those that build on each other make one layer.

use std::time::SystemTime;

use kiln_cache::{Store, Timestamp, View};
use kiln_solver::{
    Cancel, Change, CopyAction, FileAction, FileActionKind, Job, Layer, Made, Mismatch, MkfileAction, Observation,
    Origin, Output,
};

use super::plan::Plan;
use super::{Facts, FileError, Tree, copy, owner, write};
use crate::paths;
use crate::{Executor, ExecutorError};

/// What an action has left behind.
enum Tip {
    /// A layer in the making.
    Open(Plan),
    /// Layers.
    Closed(Vec<Layer>),
}

/// Carries the actions of a step out and commits what they made.
pub(crate) fn run_actions(executor: &Executor, job: &Job<'_>, actions: &[FileAction]) -> Result<Made, ExecutorError> {
    let tips = Vec::with_capacity(actions.len());
    let mut run = Run { executor, job, actions, tips, facts: None, begun: 0 };
    for (position, action) in actions.iter().enumerate() {
        let tip = run.action(position, action)?;
        run.tips.push(tip);
    }
    let outputs = run.outputs()?;
    let observation = run.observation(&outputs);
    Ok(Made { outputs, observation })
}

/// The input that actions change, if there is one alone and they only ever look at what they change of it.
pub(crate) fn changed_input(actions: &[FileAction], inputs: usize) -> Option<usize> {
    let mut changed = actions.iter().filter_map(|action| action.base).filter(|base| *base < inputs);
    let input = changed.next()?;
    let alone = changed.all(|other| other == input) && actions.iter().all(|action| action.from != Some(input));
    alone.then_some(input)
}

/// The first fact of an earlier run that does not hold for these layers; facts that cannot be understood do not.
pub(crate) fn recheck(
    executor: &Executor,
    layers: &[Layer],
    facts: &[u8],
    cancel: &Cancel,
) -> Result<Option<Mismatch>, ExecutorError> {
    let Some(facts) = Facts::decode(facts) else {
        let (subject, was, is) = ("the record", "of this version of kiln", "of another");
        return Ok(Some(Mismatch { subject: subject.to_owned(), was: was.to_owned(), is: is.to_owned() }));
    };
    Ok(facts.recheck(View::new(executor.stored(layers, cancel)?)))
}

struct Run<'a> {
    executor: &'a Executor,
    job: &'a Job<'a>,
    actions: &'a [FileAction],
    tips: Vec<Tip>,
    /// Where all that was made is one layer above an input: what was asked of that.
    facts: Option<Facts>,
    /// How many layers were begun.
    begun: usize,
}

impl Run<'_> {
    fn action(&mut self, position: usize, action: &FileAction) -> Result<Tip, ExecutorError> {
        let cancel = self.job.cancel;
        if cancel.is_requested() {
            return Err(ExecutorError::Cancelled);
        }
        let from = action.from.map(|from| self.tree(from)).transpose()?;
        let mut plan = self.base(position, action)?;
        match &action.kind {
            FileActionKind::Copy(copy_action) => {
                // `COPY --from=scratch`: nothing is there to be copied.
                let tree = match from {
                    Some(tree) => tree,
                    None => self.executor.tree(&Output::Layers(Vec::new()), cancel)?,
                };
                copy::copy(&mut plan, &tree, copy_action, self.executor.store(), cancel)?;
            }
            FileActionKind::Mkdir(mkdir) => {
                let owner = mkdir.owner.as_ref().map(|owner| owner::look_up(&plan, owner)).transpose()?;
                let path = plan.resolve(&paths::clean(mkdir.path.as_bytes()))?;
                plan.make_directories(&path, mkdir.mode & 0o777, owner.unwrap_or_default())?;
            }
            FileActionKind::Mkfile(mkfile) => make_file(&mut plan, mkfile, self.executor.store())?,
        }
        Ok(Tip::Open(plan))
    }

    /// The plan that an action goes on with, or a new one above what it builds on.
    fn base(&mut self, position: usize, action: &FileAction) -> Result<Plan, ExecutorError> {
        let Some(base) = action.base else { return self.plan(Vec::new(), true) };
        let is_seen = !matches!(&action.kind, FileActionKind::Copy(CopyAction { linked: true, .. }));
        let Some(result) = base.checked_sub(self.job.inputs.len()) else {
            return match &self.job.inputs[base] {
                Output::Layers(layers) => self.plan(layers.clone(), is_seen),
                Output::Local(name) => Err(malformed(format!("the context `{name}` cannot be changed"))),
            };
        };
        let others = self
            .actions
            .iter()
            .enumerate()
            .any(|(other, action)| other != position && (action.base == Some(base) || action.from == Some(base)));
        let wanted = self.actions.get(result).is_some_and(|made| made.output.is_some());
        match self.tips.get_mut(result) {
            Some(tip @ Tip::Open(_)) if !others && !wanted && action.from != Some(base) => {
                match std::mem::replace(tip, Tip::Closed(Vec::new())) {
                    Tip::Open(plan) => Ok(plan),
                    Tip::Closed(layers) => self.plan(layers, is_seen),
                }
            }
            _ => {
                let layers = self.close(result)?;
                self.plan(layers, is_seen)
            }
        }
    }

    /// A layer to be above others, of which it sees what is there or nothing.
    fn plan(&mut self, layers: Vec<Layer>, is_seen: bool) -> Result<Plan, ExecutorError> {
        self.begun += 1;
        let seen = if is_seen { self.executor.stored(&layers, self.job.cancel)? } else { Vec::new() };
        let view = View::new(seen);
        Ok(Plan::new(layers, view, timestamp(self.executor.created())))
    }

    /// What an action copies from.
    fn tree(&mut self, from: usize) -> Result<Tree, ExecutorError> {
        match from.checked_sub(self.job.inputs.len()) {
            None => self.executor.tree(&self.job.inputs[from], self.job.cancel),
            Some(result) => {
                let layers = self.close(result)?;
                self.executor.tree(&Output::Layers(layers), self.job.cancel)
            }
        }
    }

    /// Sees to it that the result of an action is committed.
    fn close(&mut self, result: usize) -> Result<Vec<Layer>, ExecutorError> {
        let tip = self.tips.get_mut(result).ok_or_else(|| malformed("an action refers to a later one"))?;
        let layers = match std::mem::replace(tip, Tip::Closed(Vec::new())) {
            Tip::Closed(layers) => layers,
            Tip::Open(plan) => {
                let store = self.executor.store();
                let (layers, facts) = commit(store, plan, self.executor.created(), self.job.cancel)?;
                self.facts = facts;
                layers
            }
        };
        self.tips[result] = Tip::Closed(layers.clone());
        Ok(layers)
    }

    fn outputs(&mut self) -> Result<Vec<Output>, ExecutorError> {
        let mut outputs: Vec<Option<Output>> = Vec::new();
        for (position, action) in self.actions.iter().enumerate() {
            let Some(output) = action.output.and_then(|output| usize::try_from(output).ok()) else { continue };
            if output >= self.actions.len() {
                return Err(malformed("there are more outputs than actions"));
            }
            if outputs.len() <= output {
                outputs.resize(output + 1, None);
            }
            outputs[output] = Some(Output::Layers(self.close(position)?));
        }
        outputs.into_iter().collect::<Option<_>>().ok_or_else(|| malformed("an output is made by no action"))
    }
}

impl Run<'_> {
    /// What decided these outputs, where they are one change of one input.
    fn observation(&self, outputs: &[Output]) -> Option<Observation> {
        let input = changed_input(self.actions, self.job.inputs.len()).filter(|_| self.begun == 1)?;
        let Output::Layers(base) = &self.job.inputs[input] else { return None };
        let change = |output: &Output| {
            let Output::Layers(layers) = output else { return None };
            Some(Change { base: Some(input), layers: layers.strip_prefix(&base[..])?.to_vec() })
        };
        let changes = outputs.iter().map(change).collect::<Option<_>>()?;
        Some(Observation { facts: self.facts.as_ref()?.encode()?, changes })
    }
}

/// Plans a file of known content: in the place of another, but not of a directory. Links are followed.
pub(super) fn make_file(plan: &mut Plan, action: &MkfileAction, store: &Store) -> Result<(), FileError> {
    let owner = action.owner.as_ref().map(|owner| owner::look_up(plan, owner)).transpose()?.unwrap_or_default();
    let path = plan.resolve(&paths::clean(action.path.as_bytes()))?;
    plan.make_directories(paths::parent(&path), copy::NEW_DIRECTORY, owner)?;
    plan.make_file(path, action.content.as_bytes(), action.mode & 0o7777, owner, store)
}

/// Writes a plan and makes a layer of it: the layers with the new one on top, and what was asked of the others.
pub(super) fn commit(
    store: &Store,
    plan: Plan,
    created: SystemTime,
    cancel: &Cancel,
) -> Result<(Vec<Layer>, Option<Facts>), FileError> {
    let mut layers = plan.layers.clone();
    let draft = store.begin_layer()?;
    let facts = write::write(plan, &draft, store.whiteouts(), cancel)?;
    if cancel.is_requested() {
        return Err(FileError::Cancelled);
    }
    let layer = draft.commit(created)?;
    layers.push(Layer { diff_id: *layer.diff_id(), origin: Origin::Built });
    Ok((layers, facts))
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => {
            Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
        }
        Err(_) => Timestamp::default(),
    }
}

fn malformed(reason: impl Into<String>) -> ExecutorError {
    ExecutorError::Malformed(reason.into())
}

impl From<FileError> for ExecutorError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Cancelled | FileError::Context(crate::ContextError::Cancelled) => Self::Cancelled,
            other => Self::Files(other),
        }
    }
}
