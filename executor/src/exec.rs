//! `RUN`: one command in the sandbox, over the layers of its input.

pub(crate) mod container;
pub(crate) mod limits;
mod mounts;
mod network;
pub(crate) mod observed;
pub(crate) mod user;
mod watch;

use std::collections::HashSet;
use std::path::PathBuf;

use kiln_cache::{LayerDraft, StoreError, StoredLayer, View};
use kiln_solver::{
    Cancel, Digest, Exec, Job, Layer, LogStream, Made, Mount, MountKind, Origin, Output, Platform, Security, Step,
    StepError,
};

use crate::cgroup::{CgroupError, MemoryKill};
use crate::emulation::Support;
use crate::sandbox::{ExitStatus, Limits, Network, Root, RunSpec, SandboxError};
use crate::{Executor, paths};

use limits::LimitError;
use mounts::{MountError, Mounted, Shown};
use user::{Account, UserError};
use watch::Watch;

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The step asks for what this version does not do.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The step makes no sense.
    #[error("malformed step: {0}")]
    Malformed(&'static str),
    /// `USER` does not name anybody.
    #[error(transparent)]
    User(#[from] UserError),
    /// Its limits make no sense.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// It could not get control groups of its own.
    #[error(transparent)]
    Groups(#[from] CgroupError),
    /// It is for a platform that this machine cannot run.
    #[error(
        "commands for `{platform}` cannot run here: this machine is `{}`, and knows no interpreter for them{}",
        Platform::host(),
        emulation_hint(platform)
    )]
    Foreign {
        /// That platform.
        platform: Box<Platform>,
    },
    /// What it mounts cannot be had.
    #[error(transparent)]
    Mounts(#[from] MountError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// The layer could not be made or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ExecError> for StepError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Sandbox(SandboxError::Cancelled) | ExecError::Mounts(MountError::Cancelled) => Self::Cancelled,
            ExecError::Sandbox(SandboxError::TimedOut(time)) => Self::TimedOut(time),
            other => Self::other(other),
        }
    }
}

/// Runs the command of an Exec step and commits what it wrote. A command that a shell reports as killed by a
/// signal ends with the shell's exit code, 128 and the number; [`StepError::Signal`] is for the command itself.
pub(crate) fn run_exec(executor: &Executor, job: &Job<'_>, exec: &Exec) -> Result<Made, StepError> {
    check_exec(executor, job.step)?;
    let mut prepared = prepare(executor, job, exec)?;
    let watch = Watch::begin(executor, exec, job.inputs, &mut prepared)?;
    if let Err(error) = run(executor, job, exec, &prepared.spec) {
        if is_of_command(&error) {
            executor.keep_failed(job.id, prepared);
        } else {
            prepared.network.discard();
        }
        return Err(error);
    }
    let Prepared { spec, draft, mounted, network, .. } = prepared;
    // Others may have the locks of cache mounts and the network now.
    drop((spec, network));
    let mut outputs = mounted.commit(executor).map_err(ExecError::Mounts)?;
    let mut observation = None;
    if let [Mount { kind: MountKind::Bind { input, .. }, output: Some(output), .. }, ..] = exec.mounts[..] {
        let layer = draft.commit(executor.created()).map_err(ExecError::Store)?;
        if let Some(watch) = watch {
            observation = watch.end(input, &layer)?;
        }
        let mut layers = root_layers(job, exec)?.to_vec();
        layers.push(Layer { diff_id: *layer.diff_id(), origin: Origin::Built });
        outputs.insert(output, Output::Layers(layers));
    }
    Ok(Made { outputs: outputs.into_values().collect(), observation })
}

/// Whether this machine can run a command at all, as far as that can be told.
pub(crate) fn check_exec(executor: &Executor, step: &Step) -> Result<(), ExecError> {
    match (executor.support(step.platform.as_ref()), &step.platform) {
        (Support::Missing, Some(platform)) => Err(ExecError::Foreign { platform: Box::new(platform.clone()) }),
        _ => Ok(()),
    }
}

/// What can be done about an interpreter that is missing.
fn emulation_hint(platform: &Platform) -> String {
    format!(
        "\nhint: install `qemu-user-static` (Debian, Ubuntu), or \
         `docker run --privileged --rm tonistiigi/binfmt --install {}`\n\
         hint: a stage that begins with `FROM --platform=$BUILDPLATFORM` runs on this machine's own platform, \
         to compile for others",
        platform.architecture
    )
}

/// Begins what takes longest of what a command needs.
pub(crate) fn expect_exec(executor: &Executor, exec: &Exec) {
    network::expect(executor, exec);
    executor.sandbox().warm_up();
}

/// The digest of what a command sees of an input, if it sees no more of it than mounts show.
pub(crate) fn mounted_content(
    executor: &Executor,
    exec: &Exec,
    input: usize,
    output: &Output,
    cancel: &Cancel,
) -> Result<Option<Digest>, StepError> {
    let mounts = match mounts::selectors_of(exec, input) {
        // The whole of a tree has a name that nothing needs to be looked at for.
        Some(mounts) if matches!(output, Output::Local(_)) || mounts.iter().all(|(part, _)| !is_whole(part)) => mounts,
        _ => return Ok(None),
    };
    if mounts.is_empty() {
        return Ok(None);
    }
    let tree = executor.tree(output, cancel)?;
    Ok(Some(mounts::seen(&tree, &mounts, cancel).map_err(ExecError::Mounts)?))
}

fn is_whole(selector: &str) -> bool {
    paths::clean(selector.as_bytes()).is_empty()
}

/// A command with all that it runs in.
pub(crate) struct Prepared {
    spec: RunSpec,
    /// The layers of its root.
    root: Shown,
    /// Whom it runs as.
    account: Account,
    /// What it changes.
    draft: LayerDraft,
    /// What its mounts need.
    mounted: Mounted,
    network: network::Access,
}

fn prepare(executor: &Executor, job: &Job<'_>, exec: &Exec) -> Result<Prepared, StepError> {
    let layers = root_layers(job, exec)?;
    let network = network::begin(executor, exec);
    let stored = executor.stored(layers, job.cancel)?;
    let draft = executor.store().begin_layer().map_err(ExecError::Store)?;
    let root =
        Root { lowers: lowers(&stored), traced: None, upper: draft.files().to_owned(), work: draft.work().to_owned() };
    let account = Account::find(&View::new(stored.clone()), &exec.user).map_err(ExecError::User)?;
    let mut spec = describe(exec, executor.environment(), root, &account)?;
    spec.limits = limits::of(exec, executor.limits()).map_err(ExecError::Limits)?;
    let mounted = mounts::prepare(executor, job, exec, &mut spec).map_err(ExecError::Mounts)?;
    // While the network is being made.
    executor.sandbox().warm_up();
    let network = network.wait(job.cancel)?;
    network.give(&mut spec);
    if let Some(note) = network.note() {
        job.observer.log(job.id, LogStream::Stderr, note.as_bytes());
    }
    let root = Shown { layers: layers.to_vec(), stored };
    Ok(Prepared { spec, root, account, draft, mounted, network })
}

/// Whether a command ran and is to blame.
fn is_of_command(error: &StepError) -> bool {
    use StepError::{ExitCode, OutOfMemory, Signal, TimedOut};
    matches!(error, ExitCode(_) | Signal(_) | TimedOut(_) | OutOfMemory { .. })
}

/// Runs the command, in control groups of its own where it should have some.
fn run(executor: &Executor, job: &Job<'_>, exec: &Exec, spec: &RunSpec) -> Result<(), StepError> {
    let parent = exec.limits.cgroup_parent.as_deref();
    let asked = executor.groups().make(parent).map_err(ExecError::Groups)?;
    let all = || spec.insecure.then(|| executor.groups().make_everywhere()).flatten();
    let Some(group) = asked.or_else(all) else {
        return run_alone(executor, job, spec);
    };
    let mut spec = spec.clone();
    spec.limits.cgroups = group.describe();
    let ended = run_alone(executor, job, &spec);
    match (ended, group.memory_kill()) {
        (Err(StepError::ExitCode(_) | StepError::Signal(_)), Some(MemoryKill { limit, peak })) => {
            Err(StepError::OutOfMemory { limit, peak })
        }
        (ended, _) => ended,
    }
}

fn run_alone(executor: &Executor, job: &Job<'_>, spec: &RunSpec) -> Result<(), StepError> {
    let on_output = |stream, bytes: &[u8]| job.observer.log(job.id, stream, bytes);
    match executor.sandbox().run(spec, &on_output, job.cancel) {
        Ok(ExitStatus::Code(0)) => Ok(()),
        Ok(ExitStatus::Code(code)) => Err(StepError::ExitCode(code)),
        Ok(ExitStatus::Signal(number)) => Err(StepError::Signal(number)),
        Err(error) => Err(refuse(executor, job, error)),
    }
}

/// The directories to mount, the lowest first. overlayfs takes each only once; of a layer that comes more than once
/// the highest occurrence has all of its say, whatever lies between. Empty layers have none.
fn lowers(stored: &[StoredLayer]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut lowers: Vec<PathBuf> = stored
        .iter()
        .rev()
        .filter(|layer| !layer.index().is_empty() && seen.insert(*layer.diff_id()))
        .map(|layer| layer.mount_source().to_owned())
        .collect();
    lowers.reverse();
    lowers
}

/// A program that cannot be executed ends a step with the code that a shell would give, after saying why.
fn refuse(executor: &Executor, job: &Job<'_>, error: SandboxError) -> StepError {
    let code = match &error {
        SandboxError::NotFound { .. } => 127,
        SandboxError::NotExecutable { .. } => 126,
        _ => return ExecError::Sandbox(error).into(),
    };
    let mut message = format!("{error}\n");
    if let Some(platform) = &job.step.platform {
        message.push_str(&remark(&executor.support(Some(platform)), platform));
    }
    job.observer.log(job.id, LogStream::Stderr, message.as_bytes());
    StepError::ExitCode(code)
}

/// Why the programs of a platform perhaps do not run, for whoever sees that one did not.
fn remark(support: &Support, platform: &Platform) -> String {
    match support {
        Support::Native | Support::Interpreter { is_open: true, .. } | Support::Missing => String::new(),
        Support::Interpreter { path, is_open: false } => format!(
            "programs for {platform} run by {path}, which has to be in the image: it was registered without the flag F\n"
        ),
        Support::Unknown => format!(
            "programs for {platform} take an interpreter here, such as qemu-user-static, registered in binfmt_misc\n"
        ),
    }
}

/// The layers that the root mount shows.
fn root_layers<'a>(job: &Job<'a>, exec: &Exec) -> Result<&'a [Layer], ExecError> {
    let [root, others @ ..] = &exec.mounts[..] else {
        return Err(ExecError::Malformed("a command needs a root mount"));
    };
    let mut outputs: Vec<u32> = exec.mounts.iter().filter_map(|mount| mount.output).collect();
    outputs.sort_unstable();
    if !outputs.iter().copied().eq((0..).take(outputs.len())) {
        return Err(ExecError::Malformed("the outputs of a command must be counted from 0, each once"));
    }
    if others.iter().any(|mount| mount.output.is_some() && !matches!(mount.kind, MountKind::Bind { .. })) {
        return Err(ExecError::Malformed("only a tree that is mounted can be an output of a command"));
    }
    if root.destination != "/" {
        return Err(ExecError::Malformed("the first mount of a command must be at `/`"));
    }
    if root.readonly {
        return Err(ExecError::Unsupported("a read-only root"));
    }
    let MountKind::Bind { input, selector } = &root.kind else {
        return Err(ExecError::Malformed("the root mount of a command must be a tree"));
    };
    if !is_whole(selector) {
        return Err(ExecError::Unsupported("a root mount of a part of its input"));
    }
    match input.map(|input| job.inputs.get(input)) {
        None => Ok(&[]),
        Some(Some(Output::Layers(layers))) => Ok(layers),
        Some(Some(Output::Local(_))) => Err(ExecError::Unsupported("a build context as the root of a command")),
        Some(None) => Err(ExecError::Malformed("a mount refers to an input that the step does not have")),
    }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

fn is_set(name: &str, env: &[String]) -> bool {
    env.iter().any(|variable| name_of(variable) == name)
}

/// The whole of the command.
fn describe(exec: &Exec, more: &[String], root: Root, account: &Account) -> Result<RunSpec, ExecError> {
    if exec.args.is_empty() {
        return Err(ExecError::Malformed("a command needs a program"));
    }
    if !exec.cwd.starts_with('/') {
        return Err(ExecError::Malformed("the working directory of a command must be absolute"));
    }
    let Account { user, home } = account.clone();
    let mut env = exec.env.clone();
    env.extend(more.iter().filter(|variable| !is_set(name_of(variable), &exec.env)).cloned());
    if !is_set("HOME", &env) {
        env.push(format!("HOME={home}"));
    }
    Ok(RunSpec {
        root,
        mounts: Vec::new(),
        args: exec.args.clone(),
        env,
        cwd: exec.cwd.clone(),
        user,
        network: Network::default(),
        hostname: exec.hostname.clone(),
        hosts: network::hosts(&exec.hosts)?,
        insecure: exec.security == Security::Insecure,
        limits: Limits::default(),
        terminal: None,
        files: Vec::new(),
    })
}
