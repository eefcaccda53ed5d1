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
use kiln_image::Images;
use kiln_solver::{
    CopyAction, Exec, FileAction, FileActionKind, FileMode, Graph, Input, Mount, MountKind, Network, Operation, Owner,
    Platform, Security, Sharing, Source, Step, StepId, UserRef,
};
use serde_json::{Map, Value, json};

use super::materials;
use super::parameters::redacted;
use crate::diagnostics::SourceFile;

/// The steps that make one image, each behind those that it takes from, in their order.
pub(super) struct Steps<'g> {
    graph: &'g Graph,
    images: &'g Images,
    target: Option<Input>,
    needed: Vec<StepId>,
    numbers: BTreeMap<StepId, usize>,
}

impl<'g> Steps<'g> {
    pub(super) fn new(graph: &'g Graph, target: Option<Input>, images: &'g Images) -> Self {
        let (mut needed, mut numbers) = (Vec::new(), BTreeMap::new());
        let mut pending: Vec<(StepId, bool)> = target.iter().map(|target| (target.step, false)).collect();
        while let Some((id, are_inputs_done)) = pending.pop() {
            if numbers.contains_key(&id) {
                continue;
            }
            if are_inputs_done {
                numbers.insert(id, needed.len());
                needed.push(id);
            } else {
                pending.push((id, true));
                pending.extend(graph.step(id).inputs.iter().rev().map(|input| (input.step, false)));
            }
        }
        Self { graph, images, target, needed, numbers }
    }

    /// What a step is called.
    fn id(&self, step: StepId) -> String {
        format!("step{}", self.numbers.get(&step).copied().unwrap_or_default())
    }

    /// What an output of a step is called.
    fn output(&self, input: Input) -> String {
        format!("{}:{}", self.id(input.step), input.output)
    }

    /// The steps themselves, and at last which of them is the target.
    pub(super) fn definition(&self) -> Vec<Value> {
        let steps = self.needed.iter().map(|&id| self.step(id));
        let end = self.target.map(|target| {
            let id = format!("step{}", self.needed.len());
            json!({ "id": id, "op": { "Op": {} }, "inputs": [self.output(target)] })
        });
        steps.chain(end).collect()
    }

    fn step(&self, id: StepId) -> Value {
        let step = self.graph.step(id);
        let mut operation = json!({ "Op": self.operation(step), "constraints": {} });
        if let Some(platform) = self.platform(step) {
            operation["platform"] = platform_json(&platform);
        }
        let mut written = json!({ "id": self.id(id), "op": operation });
        if !step.inputs.is_empty() {
            written["inputs"] = step.inputs.iter().map(|input| self.output(*input)).collect();
        }
        written
    }

    /// What a step is for: a base image for what it runs on.
    fn platform(&self, step: &Step) -> Option<Platform> {
        match &step.operation {
            Operation::Source(Source::Image { digest, .. }) => self.images.platform_of(digest).ok().flatten(),
            _ => step.platform.clone(),
        }
    }

    fn operation(&self, step: &Step) -> Value {
        match &step.operation {
            Operation::Source(source) => json!({ "source": { "identifier": self.identifier(source) } }),
            Operation::Exec(exec) => json!({ "exec": exec_json(exec) }),
            Operation::File(actions) => {
                json!({ "file": { "actions": actions.iter().map(action).collect::<Vec<_>>() } })
            }
        }
    }

    /// What programs know the steps by, and what they are called here.
    pub(super) fn digests(&self) -> BTreeMap<String, String> {
        self.needed.iter().map(|&id| (self.graph.definition(id).to_string(), self.id(id))).collect()
    }

    /// The target's output, the one that this is and a layer, and so on.
    pub(super) fn outputs(&self) -> Vec<String> {
        let below = |input: &Input| {
            let step = self.graph.step(input.step);
            let below = match &step.operation {
                Operation::Source(_) => None,
                Operation::Exec(exec) => match exec.mounts.first()?.kind {
                    MountKind::Bind { input, .. } => input,
                    _ => None,
                },
                Operation::File(actions) => {
                    actions.iter().filter_map(|action| action.base).find(|base| *base < step.inputs.len())
                }
            };
            step.inputs.get(below?).copied()
        };
        std::iter::successors(self.target, below).map(|input| self.output(input)).collect()
    }

    /// Where something comes from, without passwords.
    fn identifier(&self, source: &Source) -> String {
        match source {
            Source::Image { reference, digest } => {
                let scheme = if reference.contains("://") { "" } else { "docker-image://" };
                let known_by = || format!("@{}", materials::known_by(reference, digest, self.images));
                let digest = if reference.contains('@') { String::new() } else { known_by() };
                format!("{scheme}{reference}{digest}")
            }
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

    /// The Dockerfile, and which of its lines each step is of.
    pub(super) fn source(&self, file: &SourceFile) -> Value {
        let mut locations = Map::new();
        for &id in &self.needed {
            let Some(span) = self.graph.step(id).metadata.span else {
                locations.insert(self.id(id), json!({}));
                continue;
            };
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
    let mut meta = json!({
        "args": shown(&exec.args),
        "env": shown(&exec.env),
        "cwd": exec.cwd,
        "removeMountStubsRecursive": true,
    });
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
            json["cacheOpt"] = json!({ "ID": id });
            set(&mut json["cacheOpt"], "sharing", sharing);
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
    set(&mut json, "input", position(input));
    if !matches!(selector, "" | "/") {
        json["selector"] = json!(selector);
    }
    // Of these BuildKit says neither.
    if matches!(mount.kind, MountKind::Secret(_) | MountKind::Ssh(_)) {
        return json;
    }
    set(&mut json, "output", mount.output.map_or(NONE, i64::from));
    if mount.readonly {
        json["readonly"] = json!(true);
    }
    json
}

fn credential(credential: &kiln_solver::Credential) -> Value {
    let mut json = json!({ "ID": credential.id });
    for (name, number) in [("uid", credential.uid), ("gid", credential.gid), ("mode", credential.mode)] {
        set(&mut json, name, number.into());
    }
    if !credential.required {
        json["optional"] = json!(true);
    }
    json
}

/// LLB's number for no input and no output.
const NONE: i64 = -1;

fn position(position: Option<usize>) -> i64 {
    position.and_then(|position| i64::try_from(position).ok()).unwrap_or(NONE)
}

/// Sets a number as Protocol Buffers have it in JSON: 0 is left out.
fn set(json: &mut Value, name: &str, number: i64) {
    if number != 0 {
        json[name] = json!(number);
    }
}

fn action(action: &FileAction) -> Value {
    let what = match &action.kind {
        FileActionKind::Copy(copy) => json!({ "copy": copy_json(copy) }),
        FileActionKind::Mkdir(mkdir) => {
            let mut json = json!({ "path": mkdir.path, "mode": mkdir.mode, "makeParents": true, "timestamp": -1 });
            set_owner(&mut json, mkdir.owner.as_ref());
            json!({ "mkdir": json })
        }
        FileActionKind::Mkfile(mkfile) => {
            let mut json = json!({ "path": mkfile.path, "mode": mkfile.mode, "data": STANDARD.encode(&mkfile.content), "timestamp": -1 });
            set_owner(&mut json, mkfile.owner.as_ref());
            json!({ "mkfile": json })
        }
    };
    json!({
        "input": position(action.base),
        "secondaryInput": position(action.from),
        "output": action.output.map_or(NONE, i64::from),
        "Action": what,
    })
}

fn copy_json(copy: &CopyAction) -> Value {
    let mut json = json!({
        "src": copy.source,
        "dest": copy.destination,
        "createDestPath": true,
        "followSymlink": true,
        "timestamp": -1,
    });
    let flags = [
        ("allowWildcard", copy.wildcard),
        ("allowEmptyWildcard", copy.wildcard && copy.allow_empty_wildcard),
        ("attemptUnpackDockerCompatibility", copy.unpack),
        ("dirCopyContents", copy.contents_only),
    ];
    for (name, _) in flags.iter().filter(|(_, holds)| *holds) {
        json[*name] = json!(true);
    }
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
