//! What a command observes of the layers above its base image.
//!
//! The base image counts as a whole: a new one re-runs every command, as people expect of `apt-get upgrade`. What came
//! on top of it, of the build context and of earlier steps, is traced ([`crate::trace`]): if all that the command looked
//! at there is as it was, its result is right, whatever else changed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::{StoredLayer, View};
use kiln_solver::{Cancel, Change, Exec, Layer, Mismatch, Mount, MountKind, Observation, Origin, Security, StepError};
use serde::{Deserialize, Serialize};

use super::user::Account;
use super::{is_whole, lowers};
use crate::sandbox::{FileIndex, RunSpec, User};
use crate::trace::{self, Observations, Tracing, Union};
use crate::{Executor, ExecutorError};

/// The first byte of encoded facts.
const FORMAT: u8 = 1;

/// Facts that take more bytes are not kept: a command that looked at everything is seldom right for something else.
const LARGEST: usize = 4 << 20;

/// Whether commands are observed, and why one could not be.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    is_on: bool,
    refused: Mutex<Option<String>>,
    /// What the last command was observed over. The next one often is over the same layers, of which nothing has to be
    /// found out again then.
    last: Mutex<Option<Arc<Union>>>,
}

impl Watching {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, refused: Mutex::default(), last: Mutex::default() }
    }

    /// Why the first command that could not be observed could not.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, why: String) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// The same union, or the last one if that is of the same layers.
    fn share(&self, union: Union) -> Arc<Union> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if last.is_same(&union) => last.clone(),
            _ => last.insert(Arc::new(union)).clone(),
        }
    }
}

/// What decided the result of a command: all that is not in its definition and not in its base image.
#[derive(Serialize, Deserialize)]
struct Facts {
    /// Whom `USER` meant, which is looked up before the command runs.
    user: User,
    /// Where that user is at home.
    home: String,
    /// Mode, owner and group of the root, which no index has.
    root: (u32, u32, u32),
    /// What was traced.
    observations: Vec<u8>,
}

/// The input whose upper part is observed: the root, if the command sees that input nowhere else and leaves nothing but
/// a layer on top of it.
pub(crate) fn observed_input(executor: &Executor, exec: &Exec) -> Option<usize> {
    let [root, others @ ..] = &exec.mounts[..] else { return None };
    let MountKind::Bind { input: Some(input), selector } = &root.kind else { return None };
    let shows = |mount: &Mount| match &mount.kind {
        MountKind::Bind { input: other, .. } | MountKind::Cache { input: other, .. } => *other == Some(*input),
        MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => false,
    };
    let alone = root.output == Some(0) && !others.iter().any(|mount| mount.output.is_some() || shows(mount));
    let is_confined = exec.security == Security::Sandbox && !exec.untraced;
    (executor.watching().is_on && alone && is_confined && is_whole(selector)).then_some(*input)
}

/// The layers of the base image, and those above it.
pub(crate) fn split(layers: &[Layer]) -> (&[Layer], &[Layer]) {
    layers.split_at(trace::base_length(layers))
}

/// The first fact of an earlier run that does not hold for these layers; facts that cannot be understood do not.
pub(crate) fn recheck(
    executor: &Executor,
    exec: &Exec,
    layers: &[Layer],
    facts: &[u8],
    cancel: &Cancel,
) -> Result<Option<Mismatch>, ExecutorError> {
    let mismatch = |subject: &str, was: &str, is: &str| {
        Ok(Some(Mismatch { subject: subject.to_owned(), was: was.to_owned(), is: is.to_owned() }))
    };
    let another_version = || mismatch("the record", "of this version of kiln", "of another");
    let Some(facts) = decode(facts) else { return another_version() };
    let Ok(observations) = Observations::decode(facts.observations) else { return another_version() };
    let stored = executor.stored(layers, cancel)?;
    match Account::find(&View::new(stored.clone()), &exec.user) {
        Ok(Account { user, home }) if (&user, &home) == (&facts.user, &facts.home) => {}
        Ok(Account { user, .. }) => {
            let ids = |user: &User| format!("{}:{} {:?}", user.uid, user.gid, user.groups);
            return mismatch(&format!("user {}", exec.user), &ids(&facts.user), &ids(&user));
        }
        Err(error) => return mismatch(&format!("user {}", exec.user), "known", &error.to_string()),
    }
    let root = root_of(&stored).map_err(ExecutorError::Root)?;
    if root != facts.root {
        let show = |(mode, uid, gid): (u32, u32, u32)| format!("mode {mode:04o}, owner {uid}:{gid}");
        return mismatch("/", &show(facts.root), &show(root));
    }
    let found = observations.check(&union(&stored, layers));
    Ok(found.map(|found| Mismatch::from(&found)))
}

fn decode(bytes: &[u8]) -> Option<Facts> {
    let (format, facts) = bytes.split_first()?;
    (*format == FORMAT).then(|| postcard::from_bytes(facts).ok())?
}

/// The metadata of the root that a stack shows.
fn root_of(stored: &[StoredLayer]) -> io::Result<(u32, u32, u32)> {
    let Some(top) = stored.iter().rev().find(|layer| !layer.index().is_empty()) else { return Ok((0o755, 0, 0)) };
    let stat = rustix::fs::stat(top.mount_source())?;
    Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
}

/// What is observed of a stack.
fn union(stored: &[StoredLayer], layers: &[Layer]) -> Union {
    Union::new(stored.get(split(layers).0.len()..).unwrap_or_default())
}

/// A command that is observed while it runs.
pub(super) struct Watch {
    union: Arc<Union>,
    tracing: Tracing,
    user: User,
    home: String,
    root: (u32, u32, u32),
}

impl Watch {
    /// Begins to observe a command that is about to run over these layers; nothing where there is nothing to observe, or
    /// no way to.
    pub(super) fn begin(
        executor: &Executor,
        layers: &[Layer],
        stored: &[StoredLayer],
        account: &Account,
        spec: &mut RunSpec,
    ) -> Result<Option<Self>, StepError> {
        let union = union(stored, layers);
        if union.is_empty() {
            return Ok(None);
        }
        let union = executor.watching().share(union);
        let started = Tracing::start(union.clone()).map_err(|why| why.to_string());
        let started = started.and_then(|tracing| {
            let layer = tracing.layer().map_err(|error| error.to_string())?;
            Ok((tracing, layer))
        });
        let (tracing, layer) = match started {
            Ok(started) => started,
            Err(why) => {
                executor.watching().refuse(why);
                return Ok(None);
            }
        };
        let place = u32::try_from(spec.files.len()).map_err(StepError::other)?;
        spec.files.push(layer);
        spec.root.traced = Some(FileIndex(place));
        spec.root.lowers = lowers(&stored[..split(layers).0.len()]);
        let root = root_of(stored).map_err(StepError::other)?;
        let Account { user, home } = account.clone();
        Ok(Some(Self { union, tracing, user, home, root }))
    }

    /// What decided that the command, of which every process is dead, made this layer; nothing where it is too much to
    /// keep.
    pub(super) fn end(self, input: usize, layer: &StoredLayer) -> Result<Option<Observation>, StepError> {
        let Self { union, tracing, user, home, root } = self;
        let observations = tracing.finish().map_err(StepError::other)?.with_result(&union, layer.index());
        let facts = Facts { user, home, root, observations: observations.encode().to_vec() };
        let facts = postcard::to_extend(&facts, vec![FORMAT]).map_err(StepError::other)?;
        let layers = vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }];
        let observation = Observation { facts, changes: vec![Change { base: Some(input), layers }] };
        Ok((observation.facts.len() <= LARGEST).then_some(observation))
    }
}
