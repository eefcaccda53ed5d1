//! The steps of a build in the words of BuildKit's LLB, for provenance with `mode=max`.
//!
//! Shape: BuildKit's `buildConfig.llbDefinition` and `metadata.source`
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md>,
//! `solver/pb/ops.proto`). Only what kiln's steps really are is written; values of secrets are no part of them, and passwords in URLs are
//! left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_executor::sources::shown;
use kiln_solver::{
    CopyAction, Exec, FileAction, FileActionKind, FileMode, Graph, Input, Mount, MountKind, Network, Operation, Owner,
    Platform, Security, Sharing, Source, Step, StepId, UserRef,
};
use serde_json::{Map, Value, json};

use super::parameters::redacted;
use crate::diagnostics::SourceFile;

/// The steps that make one image, each behind those that it takes from.
pub(super) struct Steps<'g> {
    graph: &'g Graph,
    needed: Vec<StepId>,
    numbers: BTreeMap<StepId, usize>,
}

impl<'g> Steps<'g> {
    pub(super) fn new(graph: &'g Graph, target: Option<Input>) -> Self {
        let needed = target.map(|target| graph.needed(&[target.step])).unwrap_or_default();
        let numbers = needed.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        Self { graph, needed, numbers }
    }

    /// What a step is called.
    fn id(&self, step: StepId) -> String {
        format!("step{}", self.numbers.get(&step).copied().unwrap_or_default())
    }

    /// What an output of a step is called.
    pub(super) fn output(&self, input: Input) -> String {
        format!("{}:{}", self.id(input.step), input.output)
    }

    /// The steps themselves.
    pub(super) fn definition(&self) -> Vec<Value> {
        let all = self.needed.iter().map(|&id| {
            let step = self.graph.step(id);
            let mut operation = json!({ "Op": operation(step) });
            if let Some(platform) = &step.platform {
                operation["platform"] = platform_json(platform);
            }
            let mut written = json!({ "id": self.id(id), "op": operation });
            if !step.inputs.is_empty() {
                written["inputs"] = step.inputs.iter().map(|input| self.output(*input)).collect();
            }
            written
        });
        all.collect()
    }

    /// The Dockerfile, and which of its lines each step is of.
    pub(super) fn source(&self, file: &SourceFile) -> Value {
        let mut locations = Map::new();
        for &id in &self.needed {
            let Some(span) = self.graph.step(id).metadata.span else { continue };
            let line = |offset: usize| crate::failure::line_of(&file.text, offset);
            let last = line(span.end.saturating_sub(1).max(span.start));
            let range = json!({ "start": { "line": line(span.start) }, "end": { "line": last } });
            locations.insert(self.id(id), json!({ "locations": [{ "ranges": [range] }] }));
        }
        let name = file.name.rsplit('/').next().unwrap_or_default();
        let info = json!({ "filename": name, "language": "Dockerfile", "data": STANDARD.encode(&file.text) });
        json!({ "locations": locations, "infos": [info] })
    }
}

fn operation(step: &Step) -> Value {
    match &step.operation {
        Operation::Source(source) => json!({ "source": { "identifier": identifier(source) } }),
        Operation::Exec(exec) => json!({ "exec": exec_json(exec) }),
        Operation::File(actions) => json!({ "file": { "actions": actions.iter().map(action).collect::<Vec<_>>() } }),
    }
}

/// Where something comes from, without passwords.
fn identifier(source: &Source) -> String {
    match source {
        Source::Image { reference, digest } if reference.contains('@') || reference.contains("://") => {
            let scheme = if reference.contains("://") { "" } else { "docker-image://" };
            let digest = if reference.contains('@') { String::new() } else { format!("@{digest}") };
            format!("{scheme}{reference}{digest}")
        }
        Source::Image { reference, digest } => format!("docker-image://{reference}@{digest}"),
        Source::Local { name } => format!("local://{name}"),
        Source::Http(http) => shown(&http.url),
        Source::Git(git) => {
            let reference = git.reference.as_deref().unwrap_or_default();
            let part = git.subdirectory.as_ref().map(|directory| format!(":{directory}")).unwrap_or_default();
            let fragment = format!("{reference}{part}");
            let fragment = if fragment.is_empty() { fragment } else { format!("#{fragment}") };
            format!("git://{}{fragment}", without_scheme(&shown(&git.remote)))
        }
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn platform_json(platform: &Platform) -> Value {
    let mut json = json!({ "Architecture": platform.architecture, "OS": platform.os });
    if let Some(variant) = &platform.variant {
        json["Variant"] = json!(variant);
    }
    json
}

fn exec_json(exec: &Exec) -> Value {
    let shown = |words: &[String]| words.iter().map(|word| redacted(word)).collect::<Vec<_>>();
    let mut meta = json!({ "args": shown(&exec.args), "env": shown(&exec.env), "cwd": exec.cwd });
    if !exec.user.is_empty() {
        meta["user"] = json!(exec.user);
    }
    let mut json = json!({ "meta": meta, "mounts": exec.mounts.iter().map(mount).collect::<Vec<_>>() });
    // The numbers of LLB's `NetMode` and `SecurityMode`.
    match exec.network {
        Network::Default => {}
        Network::Host => json["network"] = json!(1),
        Network::None => json["network"] = json!(2),
    }
    if exec.security == Security::Insecure {
        json["security"] = json!(1);
    }
    if !exec.secret_env.is_empty() {
        let secret = |secret: &kiln_solver::SecretEnv| json!({ "ID": secret.id, "name": secret.name, "optional": !secret.required });
        json["secretenv"] = exec.secret_env.iter().map(secret).collect();
    }
    json
}

fn mount(mount: &Mount) -> Value {
    let mut json = json!({ "dest": mount.destination });
    // The numbers of LLB's `MountType`.
    let (input, selector) = match &mount.kind {
        MountKind::Bind { input, selector } => (*input, selector.as_str()),
        MountKind::Cache { id, sharing, input, selector } => {
            json["mountType"] = json!(3);
            let sharing = match sharing {
                Sharing::Shared => 0,
                Sharing::Private => 1,
                Sharing::Locked => 2,
            };
            json["cacheOpt"] = json!({ "ID": id, "sharing": sharing });
            (*input, selector.as_str())
        }
        MountKind::Tmpfs { size } => {
            json["mountType"] = json!(4);
            json["TmpfsOpt"] = size.map_or_else(|| json!({}), |size| json!({ "size": size }));
            (None, "")
        }
        MountKind::Secret(secret) => {
            json["mountType"] = json!(1);
            json["secretOpt"] = credential(secret);
            (None, "")
        }
        MountKind::Ssh(agent) => {
            json["mountType"] = json!(2);
            json["SSHOpt"] = credential(agent);
            (None, "")
        }
    };
    // LLB's number for no input.
    json["input"] = input.map_or_else(|| json!(-1), |input| json!(input));
    if !matches!(selector, "" | "/") {
        json["selector"] = json!(selector);
    }
    json["output"] = mount.output.map_or_else(|| json!(-1), |output| json!(output));
    if mount.readonly {
        json["readonly"] = json!(true);
    }
    json
}

fn credential(credential: &kiln_solver::Credential) -> Value {
    json!({
        "ID": credential.id,
        "uid": credential.uid,
        "gid": credential.gid,
        "mode": credential.mode,
        "optional": !credential.required,
    })
}

fn action(action: &FileAction) -> Value {
    let position = |position: Option<usize>| position.map_or_else(|| json!(-1), |position| json!(position));
    let what = match &action.kind {
        FileActionKind::Copy(copy) => json!({ "copy": copy_json(copy) }),
        FileActionKind::Mkdir(mkdir) => {
            let mut json = json!({ "path": mkdir.path, "mode": mkdir.mode, "makeParents": true });
            set_owner(&mut json, mkdir.owner.as_ref());
            json!({ "mkdir": json })
        }
        FileActionKind::Mkfile(mkfile) => {
            let mut json =
                json!({ "path": mkfile.path, "mode": mkfile.mode, "data": STANDARD.encode(&mkfile.content) });
            set_owner(&mut json, mkfile.owner.as_ref());
            json!({ "mkfile": json })
        }
    };
    json!({
        "input": position(action.base),
        "secondaryInput": position(action.from),
        "output": action.output.map_or_else(|| json!(-1), |output| json!(output)),
        "Action": what,
    })
}

fn copy_json(copy: &CopyAction) -> Value {
    let mut json = json!({
        "src": copy.source,
        "dest": copy.destination,
        "allowWildcard": copy.wildcard,
        "allowEmptyWildcard": copy.allow_empty_wildcard,
        "attemptUnpackDockerCompatibility": copy.unpack,
        "dirCopyContents": copy.contents_only,
        "createDestPath": true,
        "followSymlink": true,
    });
    set_owner(&mut json, copy.owner.as_ref());
    match &copy.mode {
        None => json["mode"] = json!(-1),
        Some(FileMode::Exact(bits)) => json["mode"] = json!(bits),
        Some(FileMode::Changes(changes)) => json["modeStr"] = json!(changes.to_string()),
    }
    if !copy.exclude.is_empty() {
        json["excludePatterns"] = json!(copy.exclude);
    }
    json
}

fn set_owner(json: &mut Value, owner: Option<&Owner>) {
    let user = |user: &UserRef| match user {
        UserRef::Id(id) => json!({ "User": { "byID": id } }),
        UserRef::Name(name) => json!({ "User": { "byName": { "name": name } } }),
    };
    if let Some(owner) = owner {
        json["owner"] = json!({ "user": user(&owner.user) });
        if let Some(group) = &owner.group {
            json["owner"]["group"] = user(group);
        }
    }
}
