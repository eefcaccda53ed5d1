//! The mounts of a command (`RUN --mount`): from the words of the step graph to what the sandbox is told to mount.
//!
//! | file | |
//! |---|---|
//! | `cache.rs` | directories that outlive steps and builds |
//! | `agent.rs` | the sockets of ssh agents |
//! | `error.rs` | what can go wrong |

mod agent;
mod cache;
mod error;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{LayerDraft, StoredLayer};
use kiln_solver::{
    Cancel, Credential, Digest, Exec, Job, Layer, LogStream, Mount, MountKind, Origin, Output, SecretEnv, Sharing,
};

use crate::files::{Tree, copy_of_path, layer_of, must_exist, seen_at, write_copy};
use crate::sandbox::{self, MountSource, Root, RunSpec};
use crate::{Executor, ExecutorError, paths};

use super::lowers;
use agent::Forwarding;
use cache::{Taken, Wanted};

pub(crate) use error::MountError;

/// What the mounts of a command need for as long as it runs, and what is left of them afterwards.
#[derive(Default)]
pub(super) struct Mounted {
    /// What mounts make of their inputs, by output.
    outputs: BTreeMap<u32, Written>,
    /// What is written to other mounts and thrown away.
    scratch: Vec<LayerDraft>,
    /// Sockets of agents.
    agents: Vec<Forwarding>,
    /// What mounts show of trees, by their positions.
    shown: BTreeMap<usize, Shown>,
    /// Where the sandbox has the mounts of these positions, in its own order.
    places: Vec<usize>,
}

/// Layers that a mount shows something of, the lowest first.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) layers: Vec<Layer>,
    pub(super) stored: Vec<StoredLayer>,
}

/// What a mount of an input shows. Of a build context it is made a layer: what a step sees must stay as it is while it
/// runs, and be root's.
pub(super) fn show(
    executor: &Executor,
    output: &Output,
    selector: &str,
    cancel: &Cancel,
) -> Result<Shown, ExecutorError> {
    match output {
        Output::Layers(layers) => Ok(Shown { layers: layers.clone(), stored: executor.stored(layers, cancel)? }),
        Output::Local(_) => {
            let selector = paths::display(&paths::clean(selector.as_bytes()));
            let layer = layer_of(executor, &executor.tree(output, cancel)?, &selector, cancel)?;
            let layers = vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }];
            Ok(Shown { layers, stored: vec![layer] })
        }
    }
}

/// What a mount makes of its input.
struct Written {
    base: Vec<Layer>,
    /// What is written to it, if it can be written to.
    draft: Option<LayerDraft>,
}

impl Mounted {
    /// What the mount of this position shows, if that is layers.
    pub(super) fn shown(&self, position: usize) -> Option<&Shown> {
        self.shown.get(&position)
    }

    /// The layers of this position as the sandbox is told of them.
    pub(super) fn tree_mut<'s>(&self, position: usize, spec: &'s mut RunSpec) -> Option<&'s mut Root> {
        let place = self.places.iter().position(|other| *other == position)?;
        match &mut spec.mounts.get_mut(place)?.source {
            MountSource::Layers { tree, .. } => Some(tree),
            _ => None,
        }
    }

    /// Commits what was written: layers by output.
    pub(super) fn commit(self, executor: &Executor) -> Result<BTreeMap<u32, Output>, MountError> {
        let mut outputs = BTreeMap::new();
        for (output, Written { base: mut layers, draft }) in self.outputs {
            if let Some(draft) = draft {
                let layer = draft.commit(executor.created())?;
                layers.push(Layer { diff_id: *layer.diff_id(), origin: Origin::Built });
            }
            outputs.insert(output, Output::Layers(layers));
        }
        Ok(outputs)
    }
}

/// The selectors of the mounts that show parts of this input, if the step sees no more of it than those. The root
/// counts as a whole, and so does what an output is made of.
pub(crate) fn selectors_of(exec: &Exec, input: usize) -> Option<Vec<(&str, &str)>> {
    let mut selectors = Vec::new();
    for (position, mount) in exec.mounts.iter().enumerate() {
        let (of, selector) = match &mount.kind {
            MountKind::Bind { input, selector } | MountKind::Cache { input, selector, .. } => (*input, selector),
            MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => continue,
        };
        if of != Some(input) {
            continue;
        }
        if position == 0 || mount.output.is_some() {
            return None;
        }
        selectors.push((selector.as_str(), mount.destination.as_str()));
    }
    Some(selectors)
}

/// The digest of what a step sees of an input through mounts, by selector and destination.
pub(crate) fn seen(tree: &Tree, mounts: &[(&str, &str)], cancel: &Cancel) -> Result<Digest, MountError> {
    let mut bytes = b"kiln.mounted.v1".to_vec();
    for (selector, destination) in mounts {
        let seen = seen_at(tree, &[selector], cancel).map_err(|error| MountError::at(destination, error))?;
        bytes.extend_from_slice(seen.as_bytes());
    }
    Ok(Digest::of(&bytes))
}

/// Makes everything ready but the root, and tells `spec` of it. Outer mounts come first.
pub(super) fn prepare(
    executor: &Executor,
    job: &Job<'_>,
    exec: &Exec,
    spec: &mut RunSpec,
) -> Result<Mounted, MountError> {
    for secret in &exec.secret_env {
        set_variable(executor, secret, &mut spec.env)?;
    }
    let mut preparing =
        Preparing { executor, job, caches: take_caches(executor, job, exec)?, mounted: Mounted::default() };
    let mut ready = Vec::with_capacity(exec.mounts.len().saturating_sub(1));
    for (position, mount) in exec.mounts.iter().enumerate().skip(1) {
        let destination = paths::clean(mount.destination.as_bytes());
        if destination.is_empty() {
            return Err(MountError::Malformed("only the first mount of a command can be at `/`"));
        }
        let Some(source) = preparing.source(position, mount)? else { continue };
        let depth = paths::ancestors(&destination).count();
        let destination = paths::display(&destination);
        ready.push((depth, position, sandbox::Mount { destination, readonly: mount.readonly, source }));
    }
    ready.sort_by_key(|(depth, ..)| *depth);
    let mut mounted = preparing.mounted;
    mounted.places = ready.iter().map(|(_, position, _)| *position).collect();
    spec.mounts = ready.into_iter().map(|(.., mount)| mount).collect();
    spec.files.extend(preparing.caches.locks);
    Ok(mounted)
}

struct Preparing<'a> {
    executor: &'a Executor,
    job: &'a Job<'a>,
    caches: Caches,
    mounted: Mounted,
}

impl Preparing<'_> {
    /// What a mount shows; nothing where it may be left out.
    fn source(&mut self, position: usize, mount: &Mount) -> Result<Option<MountSource>, MountError> {
        let credentials = self.executor.credentials();
        match &mount.kind {
            MountKind::Bind { input, selector } => self.bind(position, mount, *input, selector).map(Some),
            MountKind::Cache { .. } => Ok(self.caches.shown.get(&position).cloned().map(MountSource::Directory)),
            MountKind::Tmpfs { size } => Ok(Some(MountSource::Tmpfs { size: *size })),
            MountKind::Secret(Credential { id, required, uid, gid, mode }) => match credentials.secrets.get(id) {
                Some(content) => {
                    let content = content.clone();
                    Ok(Some(MountSource::Secret { content, uid: *uid, gid: *gid, mode: *mode }))
                }
                None if *required => {
                    Err(MountError::NoSecret { id: id.clone(), place: format!("at `{}`", mount.destination) })
                }
                None => Ok(None),
            },
            MountKind::Ssh(wanted) => match credentials.agents.get(&wanted.id) {
                Some(agent) => {
                    let forwarding = Forwarding::start(self.executor.store(), wanted, agent)?;
                    let path = forwarding.path();
                    self.mounted.agents.push(forwarding);
                    Ok(Some(MountSource::Socket(path)))
                }
                None if wanted.required => {
                    Err(MountError::NoAgent { id: wanted.id.clone(), destination: mount.destination.clone() })
                }
                None => Ok(None),
            },
        }
    }

    fn bind(
        &mut self,
        position: usize,
        mount: &Mount,
        input: Option<usize>,
        selector: &str,
    ) -> Result<MountSource, MountError> {
        let at = |error: ExecutorError| MountError::at(&mount.destination, error);
        let selector = paths::display(&paths::clean(selector.as_bytes()));
        // What an output is made of is all of it.
        let part = if mount.output.is_some() { "/" } else { selector.as_str() };
        let shown = match input.map(|input| self.job.inputs.get(input)) {
            None => Shown::default(),
            Some(None) => return Err(MountError::Malformed("a mount refers to an input that the step does not have")),
            Some(Some(output)) => show(self.executor, output, part, self.job.cancel).map_err(at)?,
        };
        let lowers = lowers(&shown.stored);
        if lowers.is_empty() && selector != "/" {
            return Err(MountError::Empty { destination: mount.destination.clone(), selector });
        }
        find(shown.stored.clone(), &selector).map_err(at)?;
        let draft = self.executor.store().begin_layer()?;
        let tree = Root { lowers, traced: None, upper: draft.files().to_owned(), work: draft.work().to_owned() };
        match mount.output {
            Some(output) if mount.readonly => {
                self.mounted.scratch.push(draft);
                self.mounted.outputs.insert(output, Written { base: shown.layers.clone(), draft: None });
            }
            Some(output) => {
                let base = shown.layers.clone();
                self.mounted.outputs.insert(output, Written { base, draft: Some(draft) });
            }
            None => self.mounted.scratch.push(draft),
        }
        self.mounted.shown.insert(position, shown);
        Ok(MountSource::Layers { tree, selector })
    }
}

/// Sees to it that a path is there.
fn find(stored: Vec<StoredLayer>, selector: &str) -> Result<(), ExecutorError> {
    let tree = Tree::Layers(kiln_cache::View::new(stored));
    Ok(must_exist(&tree, selector)?)
}

/// A secret in the environment, in the place of what is there under its name.
fn set_variable(executor: &Executor, secret: &SecretEnv, env: &mut Vec<String>) -> Result<(), MountError> {
    let SecretEnv { id, name, required } = secret;
    let Some(content) = executor.credentials().secrets.get(id) else {
        let place = format!("in the variable `{name}`");
        return if *required { Err(MountError::NoSecret { id: id.clone(), place }) } else { Ok(()) };
    };
    let unfit = |reason| MountError::NoText { id: id.clone(), name: name.clone(), reason };
    let value = std::str::from_utf8(content.expose()).map_err(|_| unfit("it is not UTF-8"))?;
    if value.contains('\0') {
        return Err(unfit("it has a NUL character"));
    }
    env.retain(|variable| super::name_of(variable) != name);
    env.push(format!("{name}={value}"));
    Ok(())
}

/// The caches of a step.
#[derive(Default)]
struct Caches {
    /// What cache mounts show, by the position of the mount.
    shown: BTreeMap<usize, PathBuf>,
    locks: Vec<Arc<OwnedFd>>,
}

/// What a step wants of one cache.
struct CacheUse<'a> {
    id: &'a str,
    sharing: Sharing,
    seed: Option<(Tree, &'a str)>,
    /// Of the first mount that wants it.
    destination: &'a str,
    positions: Vec<usize>,
}

/// Takes the caches of a step, each once, in the order of their names: so that two steps never wait for each other.
fn take_caches(executor: &Executor, job: &Job<'_>, exec: &Exec) -> Result<Caches, MountError> {
    let mut uses: BTreeMap<Digest, CacheUse<'_>> = BTreeMap::new();
    for (position, mount) in exec.mounts.iter().enumerate().skip(1) {
        let MountKind::Cache { id, sharing, input, selector } = &mount.kind else { continue };
        let seed = seed(executor, job, *input, selector, &mount.destination)?;
        let digest = match &seed {
            Some((tree, selector)) => Some(seen(tree, &[(selector, &mount.destination)], job.cancel)?),
            None => None,
        };
        let wanted = uses.entry(cache::name(id, digest.as_ref())).or_insert_with(|| CacheUse {
            id,
            sharing: *sharing,
            seed,
            destination: &mount.destination,
            positions: Vec::new(),
        });
        wanted.positions.push(position);
        wanted.sharing = strictest(wanted.sharing, *sharing);
    }
    let mut caches = Caches::default();
    for (name, wanted) in uses {
        let Taken { data, lock } = wanted.take(executor, job, name)?;
        caches.shown.extend(wanted.positions.into_iter().map(|position| (position, data.clone())));
        caches.locks.push(lock);
    }
    Ok(caches)
}

/// What a cache begins with, if that is not nothing.
fn seed<'a>(
    executor: &Executor,
    job: &Job<'_>,
    input: Option<usize>,
    selector: &'a str,
    destination: &str,
) -> Result<Option<(Tree, &'a str)>, MountError> {
    let is_whole = paths::clean(selector.as_bytes()).is_empty();
    let empty = || MountError::Empty { destination: destination.to_owned(), selector: selector.to_owned() };
    let Some(input) = input else { return if is_whole { Ok(None) } else { Err(empty()) } };
    match job.inputs.get(input) {
        None => Err(MountError::Malformed("a mount refers to an input that the step does not have")),
        Some(Output::Layers(layers)) if layers.is_empty() => {
            if is_whole {
                Ok(None)
            } else {
                Err(empty())
            }
        }
        Some(output) => {
            let tree = executor.tree(output, job.cancel).map_err(|error| MountError::at(destination, error))?;
            Ok(Some((tree, selector)))
        }
    }
}

fn strictest(one: Sharing, other: Sharing) -> Sharing {
    match (one, other) {
        (Sharing::Locked, _) | (_, Sharing::Locked) => Sharing::Locked,
        (Sharing::Private, _) | (_, Sharing::Private) => Sharing::Private,
        (Sharing::Shared, Sharing::Shared) => Sharing::Shared,
    }
}

impl CacheUse<'_> {
    fn take(&self, executor: &Executor, job: &Job<'_>, name: Digest) -> Result<Taken, MountError> {
        let fill = |draft: &LayerDraft| match &self.seed {
            Some((tree, selector)) => {
                let copy = copy_of_path(selector, "/data");
                write_copy(executor, tree, &copy, draft, job.cancel)
                    .map_err(|error| MountError::at(self.destination, error))
            }
            None => {
                let data = draft.files().join("data");
                let made = std::fs::create_dir(&data);
                let made = made.and_then(|()| Ok(rustix::fs::chmod(&data, rustix::fs::Mode::from_raw_mode(0o755))?));
                let id = self.id.to_owned();
                made.map_err(|source| MountError::Cache { action: "make", path: data, id, source })
            }
        };
        let on_wait = || {
            let line = format!("waiting for the cache mount `{}`, which another step has for itself\n", self.id);
            job.observer.log(job.id, LogStream::Stderr, line.as_bytes());
        };
        let (store, cancel) = (executor.store(), job.cancel);
        Wanted { store, id: self.id, name, sharing: self.sharing, fill: &fill, on_wait: &on_wait, cancel }.take()
    }
}
