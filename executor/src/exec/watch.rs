//! A command that is observed while it runs: what it mounts is traced, and comes to facts when it has ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use kiln_cache::StoredLayer;
use kiln_solver::{Change, Exec, Layer, Observation, Origin, Output, StepError};

use super::mounts::Shown;
use super::observed::{Facts, MountFacts, RootFacts, traced_mounts};
use super::user::Account;
use super::{Prepared, lowers};
use crate::Executor;
use crate::sandbox::{FileIndex, Root};
use crate::trace::{Observations, TraceError, Tracing, Union};

/// Facts that take more bytes are not kept: a command that looked at everything is seldom right for something else.
const LARGEST: usize = 4 << 20;

/// A command that is observed while it runs.
pub(super) struct Watch {
    account: Account,
    mounts: Vec<Watched>,
}

/// A mount that is observed.
struct Watched {
    position: usize,
    root: RootFacts,
    union: Arc<Union>,
    /// What lies beneath it.
    base: Vec<StoredLayer>,
    /// Nothing where there is nothing to trace.
    tracing: Option<Tracing>,
}

impl Watch {
    /// Begins to observe a command that is about to run; nothing where there is nothing to observe, or no way to.
    pub(super) fn begin(
        executor: &Executor,
        exec: &Exec,
        inputs: &[Output],
        prepared: &mut Prepared,
    ) -> Result<Option<Self>, StepError> {
        let positions = traced_mounts(executor, exec, inputs);
        let mut mounts = Vec::with_capacity(positions.len());
        for position in positions {
            let Some(shown) = prepared.shown(position) else { return Ok(None) };
            let root = shown.root().map_err(StepError::other)?;
            let union = shown.union();
            // It is roots that many commands have in common.
            let union = if position == 0 { executor.watching().share(union) } else { Arc::new(union) };
            mounts.push(Watched { position, root, union, base: shown.base().to_vec(), tracing: None });
        }
        if mounts.iter().all(|mount| mount.union.is_empty()) {
            return Ok(None);
        }
        let mut layers = Vec::with_capacity(mounts.len());
        for mount in mounts.iter_mut().filter(|mount| !mount.union.is_empty()) {
            match mount.start() {
                Ok(layer) => layers.push((mount.position, layer)),
                // What is observed in part alone is worth nothing.
                Err(why) => {
                    executor.watching().refuse(why);
                    return Ok(None);
                }
            }
        }
        for (position, layer) in layers {
            prepared.show_traced(position, layer)?;
        }
        Ok(Some(Self { account: prepared.account.clone(), mounts }))
    }

    /// What decided that the command, of which every process is dead, made this layer on top of an input; nothing where
    /// it is too much to keep.
    pub(super) fn end(self, base: Option<usize>, layer: &StoredLayer) -> Result<Option<Observation>, StepError> {
        let Account { user, home } = self.account;
        let mounts = self.mounts.into_iter().map(|mount| mount.end(layer)).collect::<Result<_, _>>();
        let facts = Facts { user, home, mounts: mounts.map_err(StepError::other)? };
        let facts = facts.encode().map_err(StepError::other)?;
        let layers = vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }];
        let observation = Observation { facts, changes: vec![Change { base, layers }] };
        Ok((observation.facts.len() <= LARGEST).then_some(observation))
    }
}

impl Watched {
    /// Begins to trace it; gives the mount to trace it by.
    fn start(&mut self) -> Result<Arc<OwnedFd>, String> {
        let tracing = Tracing::start_over(self.union.clone(), &self.base).map_err(|why| why.to_string())?;
        let layer = tracing.layer().map_err(|error| error.to_string())?;
        self.tracing = Some(tracing);
        Ok(layer)
    }

    /// What was seen. The new layer lies over the root alone: what is written to another mount is thrown away, so that
    /// nothing counts of that but what the command itself saw.
    fn end(self, layer: &StoredLayer) -> Result<MountFacts, TraceError> {
        let traced = self.tracing.map(Tracing::finish).transpose()?;
        let observations = match (traced, self.position) {
            (Some(traced), 0) => Some(traced.with_result(&self.union, layer.index())),
            (traced, _) => traced,
        };
        let observations = observations.as_ref().map(Observations::encode).map(<[u8]>::to_vec);
        Ok(MountFacts { position: self.position as u64, root: self.root, observations })
    }
}

impl Prepared {
    /// What a mount shows.
    fn shown(&self, position: usize) -> Option<&Shown> {
        if position == 0 { Some(&self.root) } else { self.mounted.shown(position) }
    }

    /// Has the layers that are observed seen through this mount of them.
    fn show_traced(&mut self, position: usize, layer: Arc<OwnedFd>) -> Result<(), StepError> {
        let lost = || StepError::other("a mount that is observed got lost");
        let lowers = lowers(self.shown(position).ok_or_else(lost)?.base());
        let file = FileIndex(u32::try_from(self.spec.files.len()).map_err(StepError::other)?);
        self.spec.files.push(layer);
        let tree: &mut Root = match position {
            0 => &mut self.spec.root,
            _ => self.mounted.tree_mut(position, &mut self.spec).ok_or_else(lost)?,
        };
        tree.traced = Some(file);
        tree.lowers = lowers;
        Ok(())
    }
}
