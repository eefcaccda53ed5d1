//! What a command observes of its inputs, and whether it would observe the same today.
//!
//! A base image counts as a whole: a new one re-runs every command, as people expect of `apt-get upgrade`. What came
//! on top of it, of the build context and of earlier steps, is traced ([`crate::trace`]), and so is a build context
//! that is mounted: if all that the command looked at there is as it was, its result is right, whatever else changed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::{StoredLayer, View};
use kiln_solver::{Cancel, Digest, Exec, Mismatch, Mount, MountKind, Output, Security};
use serde::{Deserialize, Serialize};

use super::is_whole;
use super::mounts::{Shown, show};
use super::user::Account;
use crate::sandbox::User;
use crate::trace::{self, Observations, Union};
use crate::{Executor, ExecutorError, paths};

/// The first byte of encoded facts.
const FORMAT: u8 = 2;

/// A command with more mounts of trees is not observed: each takes a file descriptor and a thread.
const MOST_MOUNTS: usize = 32;

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

    pub(super) fn refuse(&self, why: String) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// The same union, or the last one if that is of the same layers.
    pub(super) fn share(&self, union: Union) -> Arc<Union> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if last.is_same(&union) => last.clone(),
            _ => last.insert(Arc::new(union)).clone(),
        }
    }
}

/// What decided the result of a command: all that is not in its definition and not in what counts as a whole.
#[derive(Serialize, Deserialize)]
pub(super) struct Facts {
    /// Whom `USER` meant, which is looked up before the command runs.
    pub(super) user: User,
    /// Where that user is at home.
    pub(super) home: String,
    /// Of each mount that is observed, in order.
    pub(super) mounts: Vec<MountFacts>,
}

/// What was observed of one mount.
#[derive(Serialize, Deserialize)]
pub(super) struct MountFacts {
    /// Which of the command's.
    pub(super) position: u64,
    /// Mode, owner and group of the tree's root, which no index has.
    pub(super) root: RootFacts,
    /// What was traced; nothing where there was nothing to trace.
    pub(super) observations: Option<Vec<u8>>,
}

/// Mode, owner and group.
pub(super) type RootFacts = (u32, u32, u32);

impl Facts {
    pub(super) fn encode(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(self, vec![FORMAT])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, facts) = bytes.split_first()?;
        (*format == FORMAT).then(|| postcard::from_bytes(facts).ok())?
    }
}

/// The mounts that show inputs which are observed, by position, each with its input. The root is one of them.
///
/// An input is observed if trees are all that the command sees of it, and if it leaves nothing but a layer on top of
/// its root: what it leaves in another tree is nothing that a fact could stand for.
fn observed_mounts(executor: &Executor, exec: &Exec) -> Vec<(usize, usize)> {
    let [root, others @ ..] = &exec.mounts[..] else { return Vec::new() };
    let makes_a_layer = root.output == Some(0) && others.iter().all(|mount| mount.output.is_none());
    let is_confined = exec.security == Security::Sandbox && !exec.untraced;
    if !(executor.watching().is_on && is_confined && makes_a_layer && shows_whole(root)) {
        return Vec::new();
    }
    let seeds = |wanted: usize| {
        others.iter().any(|mount| matches!(mount.kind, MountKind::Cache { input, .. } if input == Some(wanted)))
    };
    let shown = |(position, mount): (usize, &Mount)| match mount.kind {
        MountKind::Bind { input: Some(input), .. } if !seeds(input) => Some((position, input)),
        _ => None,
    };
    let mounts: Vec<_> = exec.mounts.iter().enumerate().filter_map(shown).collect();
    if mounts.len() > MOST_MOUNTS { Vec::new() } else { mounts }
}

fn shows_whole(root: &Mount) -> bool {
    matches!(&root.kind, MountKind::Bind { selector, .. } if is_whole(selector))
}

/// The mounts that are observed with these inputs: an image that nothing came on top of counts as a whole.
pub(super) fn traced_mounts(executor: &Executor, exec: &Exec, inputs: &[Output]) -> Vec<usize> {
    let is_traced = |input: usize| match inputs.get(input) {
        Some(Output::Layers(layers)) => trace::base_length(layers) < layers.len(),
        Some(Output::Local(_)) => true,
        None => false,
    };
    observed_mounts(executor, exec).into_iter().filter(|(_, input)| is_traced(*input)).map(|(mount, _)| mount).collect()
}

/// Of an input that is observed, what counts as a whole all the same: the base image. Nothing of one that is not.
pub(crate) fn unobserved(
    executor: &Executor,
    exec: &Exec,
    input: usize,
    output: &Output,
) -> Result<Option<Digest>, ExecutorError> {
    if !observed_mounts(executor, exec).iter().any(|(_, observed)| *observed == input) {
        return Ok(None);
    }
    match output {
        Output::Local(_) => Ok(Some(Digest::of(b"kiln.context.v1"))),
        Output::Layers(layers) => {
            let (base, above) = layers.split_at(trace::base_length(layers));
            if above.is_empty() { Ok(None) } else { executor.identity(base) }
        }
    }
}

/// What a mount shows of these inputs.
fn shown(executor: &Executor, mount: &Mount, inputs: &[Output], cancel: &Cancel) -> Result<Shown, ExecutorError> {
    match &mount.kind {
        MountKind::Bind { input: Some(input), selector } => match inputs.get(*input) {
            Some(output) => show(executor, output, selector, cancel),
            None => Err(ExecutorError::Malformed("a mount refers to an input that the step does not have".to_owned())),
        },
        _ => Ok(Shown::default()),
    }
}

/// The first fact of an earlier run that does not hold for these inputs; facts that cannot be understood do not.
pub(crate) fn recheck(
    executor: &Executor,
    exec: &Exec,
    inputs: &[Output],
    facts: &[u8],
    cancel: &Cancel,
) -> Result<Option<Mismatch>, ExecutorError> {
    let another_version = || Ok(Some(mismatch("the record", "of this version of kiln", "of another")));
    let Some(facts) = Facts::decode(facts) else { return another_version() };
    let positions = facts.mounts.iter().map(|mount| mount.position);
    if !traced_mounts(executor, exec, inputs).into_iter().map(|position| position as u64).eq(positions) {
        return another_version();
    }
    let Some(root) = exec.mounts.first() else { return another_version() };
    let root = shown(executor, root, inputs, cancel)?;
    if let Some(found) = check_account(exec, &facts, &root) {
        return Ok(Some(found));
    }
    for was in facts.mounts {
        let Some(mount) = usize::try_from(was.position).ok().and_then(|position| exec.mounts.get(position)) else {
            return another_version();
        };
        let found = if was.position == 0 {
            check_mount(was, mount, &root)?
        } else {
            check_mount(was, mount, &shown(executor, mount, inputs, cancel)?)?
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn check_account(exec: &Exec, facts: &Facts, root: &Shown) -> Option<Mismatch> {
    let subject = format!("user {}", exec.user);
    match Account::find(&View::new(root.stored.clone()), &exec.user) {
        Ok(Account { user, home }) if (&user, &home) == (&facts.user, &facts.home) => None,
        Ok(Account { user, home }) if user == facts.user => {
            Some(mismatch(&format!("home of {subject}"), &facts.home, &home))
        }
        Ok(Account { user, .. }) => {
            let ids = |user: &User| format!("{}:{} {:?}", user.uid, user.gid, user.groups);
            Some(mismatch(&subject, &ids(&facts.user), &ids(&user)))
        }
        Err(error) => Some(mismatch(&subject, "known", &error.to_string())),
    }
}

fn check_mount(was: MountFacts, mount: &Mount, is: &Shown) -> Result<Option<Mismatch>, ExecutorError> {
    let root = is.root().map_err(ExecutorError::Root)?;
    if root != was.root {
        let show = |(mode, uid, gid): RootFacts| format!("mode {mode:04o}, owner {uid}:{gid}");
        return Ok(Some(mismatch(&mount.destination, &show(was.root), &show(root))));
    }
    let union = is.union();
    let Some(observations) = was.observations else {
        let now_full = || mismatch(&mount.destination, "nothing but its base image", "more");
        return Ok((!union.is_empty()).then(now_full));
    };
    let Ok(observations) = Observations::decode(observations) else {
        return Ok(Some(mismatch("the record", "of this version of kiln", "of another")));
    };
    Ok(observations.check(&union).map(|found| {
        let subject = place(mount, &found.path);
        Mismatch { subject, ..Mismatch::from(&found) }
    }))
}

/// Where the command finds a path of what a mount shows a part of.
fn place(mount: &Mount, path: &[u8]) -> String {
    let MountKind::Bind { selector, .. } = &mount.kind else { return paths::display(path) };
    let selector = paths::clean(selector.as_bytes());
    let below = if selector.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(&selector[..])
            .and_then(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") })
    };
    match below {
        Some(below) => paths::display(&paths::join(&paths::clean(mount.destination.as_bytes()), below)),
        None => format!("{} in what is mounted at {}", paths::display(path), mount.destination),
    }
}

fn mismatch(subject: &str, was: &str, is: &str) -> Mismatch {
    Mismatch { subject: subject.to_owned(), was: was.to_owned(), is: is.to_owned() }
}

impl Shown {
    /// The metadata of the root that the layers show.
    pub(super) fn root(&self) -> io::Result<RootFacts> {
        let Some(top) = self.stored.iter().rev().find(|layer| !layer.index().is_empty()) else {
            return Ok((0o755, 0, 0));
        };
        let stat = rustix::fs::stat(top.mount_source())?;
        Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
    }

    /// What is observed of the layers.
    pub(super) fn union(&self) -> Union {
        Union::new(self.split().1)
    }

    /// The layers that count as a whole.
    pub(super) fn base(&self) -> &[StoredLayer] {
        self.split().0
    }

    fn split(&self) -> (&[StoredLayer], &[StoredLayer]) {
        self.stored.split_at(trace::base_length(&self.layers).min(self.stored.len()))
    }
}
