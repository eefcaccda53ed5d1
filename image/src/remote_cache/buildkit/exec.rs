//! The keys of commands (`ExecOp`).

use kiln_solver::{Credential, Digest, Exec, Input, Mount, MountKind, Network, Platform, Security, Sharing, Step};
use serde::Serialize;

use super::dialect::{Dialect, Dialects};
use super::json;
use super::llb::{self, CacheOpt, CredentialOpt, ExecOp, HostIp, Meta, SecretEnv, TmpfsOpt};
use super::operation::{Dependency, Operation, Selector, Taken, selector_of, without_nested};

/// Under this name BuildKit's `--mount=type=ssh` has the agent that is given no name.
const DEFAULT_AGENT: &str = "default";

/// What BuildKit hashes.
#[derive(Serialize)]
struct Hashed<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Exec")]
    exec: ExecOp<'a>,
    #[serde(rename = "OS")]
    os: &'a str,
    #[serde(rename = "Arch")]
    architecture: &'a str,
    #[serde(rename = "Variant", skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

/// A command as BuildKit knows it.
pub(super) fn operation(step: &Step, exec: &Exec) -> Operation {
    let host = Platform::host();
    let platform = step.platform.as_ref().unwrap_or(&host);
    let digest = |dialect: Dialect| {
        let hashed = Hashed {
            kind: "buildkit.exec.v0",
            exec: exec_op(exec, dialect),
            os: &platform.os,
            architecture: &platform.architecture,
            variant: platform.variant.as_deref(),
        };
        Digest::of(&json::to_vec(&hashed))
    };
    let digests = Dialects::group(Dialect::ALL.map(|dialect| (dialect, digest(dialect))));
    let dependencies = step.inputs.iter().enumerate();
    let dependencies = dependencies.map(|(position, input)| dependency(exec, position, *input)).collect();
    Operation { digests, dependencies }
}

fn exec_op(exec: &Exec, dialect: Dialect) -> ExecOp<'_> {
    // That of a command without mounts of its own is left out, because it once was by mistake.
    let mounts = match &exec.mounts[..] {
        [Mount { kind: MountKind::Bind { .. }, readonly: false, .. }] => Vec::new(),
        mounts => mounts.iter().map(|mount| mounted(mount, dialect)).collect(),
    };
    let limits = &exec.limits;
    let ulimit =
        limits.ulimits.iter().map(|limit| llb::Ulimit { name: &limit.name, soft: limit.soft, hard: limit.hard });
    ExecOp {
        meta: Meta {
            args: &exec.args,
            env: &exec.env,
            cwd: &exec.cwd,
            user: &exec.user,
            extra_hosts: exec.hosts.iter().map(|host| HostIp { host: &host.name }).collect(),
            hostname: &exec.hostname,
            ulimit: ulimit.collect(),
            cgroup_parent: limits.cgroup_parent.as_deref(),
            remove_mount_stubs_recursive: dialect >= Dialect::V0_12,
        },
        mounts,
        network: match exec.network {
            Network::Default => 0,
            Network::Host => 1,
            Network::None => 2,
        },
        security: match exec.security {
            Security::Sandbox => 0,
            Security::Insecure => 1,
        },
        secretenv: exec
            .secret_env
            .iter()
            .map(|secret| SecretEnv { id: &secret.id, name: &secret.name, optional: !secret.required })
            .collect(),
    }
}

fn mounted(mount: &Mount, dialect: Dialect) -> llb::Mount<'_> {
    const NONE: i64 = -1;
    let position = |input: Option<usize>| input.and_then(|input| i64::try_from(input).ok()).unwrap_or(NONE);
    let plain = |input: Option<usize>, mount_type: u8| llb::Mount {
        input: dialect.number(position(input)),
        dest: &mount.destination,
        output: dialect.number(mount.output.map_or(NONE, i64::from)),
        readonly: mount.readonly,
        mount_type,
        ..llb::Mount::default()
    };
    // Older generations say of secrets that they are of the first input, which they are not.
    let shown = |mount_type: u8| llb::Mount {
        input: Some(if dialect < Dialect::V0_18 { 0 } else { NONE }),
        output: dialect.number(0),
        readonly: false,
        ..plain(None, mount_type)
    };
    match &mount.kind {
        MountKind::Bind { input, .. } => plain(*input, 0),
        MountKind::Secret(secret) => llb::Mount { secret: Some(credential(secret, &secret.id)), ..shown(1) },
        MountKind::Ssh(agent) => {
            let id = if agent.id == DEFAULT_AGENT { "" } else { &agent.id };
            llb::Mount { ssh: Some(credential(agent, id)), ..shown(2) }
        }
        MountKind::Cache { id, sharing, input, .. } => {
            llb::Mount { cache: Some(cache(mount, id, *sharing, dialect)), ..plain(*input, 3) }
        }
        MountKind::Tmpfs { size } => {
            let tmpfs = (dialect >= Dialect::V0_12).then_some(TmpfsOpt { size: size.unwrap_or_default() });
            llb::Mount { tmpfs, ..plain(None, 4) }
        }
    }
}

/// Newer generations know a cache mount by its name only where that is the one that it has by itself.
fn cache<'a>(mount: &Mount, id: &'a str, sharing: Sharing, dialect: Dialect) -> CacheOpt<'a> {
    let is_by_itself = id.split_once('/').is_some_and(|(_, target)| target == mount.destination);
    if dialect >= Dialect::V0_12 && !(is_by_itself && sharing == Sharing::Shared) {
        return CacheOpt::default();
    }
    let sharing = match sharing {
        Sharing::Shared => 0,
        Sharing::Private => 1,
        Sharing::Locked => 2,
    };
    CacheOpt { id, sharing }
}

fn credential<'a>(credential: &Credential, id: &'a str) -> CredentialOpt<'a> {
    let Credential { uid, gid, mode, required, .. } = *credential;
    CredentialOpt { id, uid, gid, mode, optional: !required }
}

/// How the result depends on one input. Newer generations name a mount of all of it, too, as what is selected.
fn dependency(exec: &Exec, position: usize, input: Input) -> Dependency {
    let mut paths = Vec::new();
    let mut is_known_by_content = false;
    for mount in &exec.mounts {
        let (MountKind::Bind { input, selector } | MountKind::Cache { input, selector, .. }) = &mount.kind else {
            continue;
        };
        if *input == Some(position) {
            paths.push(if selector.is_empty() { "/" } else { selector });
            is_known_by_content = mount.destination != "/";
        }
    }
    let parts: Vec<&str> = paths.iter().copied().filter(|path| *path != "/").collect();
    let selector = |dialect| match dialect {
        Dialect::V0_8 => selector_of(&parts),
        Dialect::V0_12 => selector_of(&[&paths[..], &shown_of(exec, position)].concat()),
        Dialect::V0_18 => selector_of(&paths),
    };
    let selectors = Dialects::group(Dialect::ALL.map(|dialect| (dialect, selector(dialect))));
    let contents = match (is_known_by_content, parts.len() == paths.len()) {
        (false, _) => Vec::new(),
        (true, true) => vec![(Dialects::all(), without_nested(&paths).into_iter().map(Selector::of).collect())],
        (true, false) => vec![(Dialects::all(), vec![Selector::of("/")])],
    };
    Dependency { from: Taken::Step(input), selectors, contents }
}

/// Secrets and agents, which count as mounts of all of the first input where they are said to be of it.
fn shown_of(exec: &Exec, position: usize) -> Vec<&'static str> {
    let is_shown = |mount: &&Mount| matches!(mount.kind, MountKind::Secret(_) | MountKind::Ssh(_));
    exec.mounts.iter().filter(|mount| position == 0 && is_shown(mount)).map(|_| "/").collect()
}
