//! The mounts of a step.

use kiln_solver::{
    Credential, FileAction, FileActionKind, Input, MkdirAction, Mount, MountKind, Operation, Owner, SecretEnv, Sharing,
    Step, UserRef,
};

use super::{MountType, RunMount};
use crate::paths;
use crate::stage::{MAIN_CONTEXT, StageLowering};
use crate::state::Tree;

/// The build argument whose value goes before the ids of cache mounts, so that builds do not share theirs.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;
const AGENT_MODE: u32 = 0o600;

/// The mounts of a step while they are gathered.
pub(crate) struct StepMounts {
    /// What the step takes in; the base first, where there is one.
    pub(crate) inputs: Vec<Input>,
    trees: Vec<Mount>,
    secrets: Vec<Mount>,
    agents: Vec<Mount>,
    /// Secrets that go into variables.
    pub(crate) secret_env: Vec<SecretEnv>,
}

impl StepMounts {
    /// Those of every step: the files of the stage.
    pub(crate) fn new(base: Option<Input>) -> Self {
        Self {
            inputs: base.into_iter().collect(),
            trees: Vec::new(),
            secrets: Vec::new(),
            agents: Vec::new(),
            secret_env: Vec::new(),
        }
    }

    /// The position of an input. One that is there already is not taken in again.
    fn position(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    /// The files of a step for the command alone to read.
    pub(crate) fn add_files(&mut self, from: Input, destination: &str) {
        let input = Some(self.position(from));
        let kind = MountKind::Bind { input, selector: String::new() };
        self.trees.push(Mount { kind, destination: destination.to_owned(), readonly: true, output: None });
    }

    /// A directory in memory.
    pub(crate) fn add_memory(&mut self, size: Option<u64>, destination: String, readonly: bool) {
        self.trees.push(Mount { kind: MountKind::Tmpfs { size }, destination, readonly, output: None });
    }

    /// Where the first ssh agent is.
    pub(crate) fn agent(&self) -> Option<&str> {
        self.agents.first().map(|agent| agent.destination.as_str())
    }

    /// All of them, the root first. A mount comes before those below it, in whatever order they are written.
    pub(crate) fn into_mounts(mut self, has_base: bool) -> Vec<Mount> {
        let kind = MountKind::Bind { input: has_base.then_some(0), selector: String::new() };
        let mut mounts = vec![Mount { kind, destination: "/".to_owned(), readonly: false, output: Some(0) }];
        self.trees.sort_by(|one, other| one.destination.cmp(&other.destination));
        mounts.append(&mut self.trees);
        mounts.append(&mut self.secrets);
        mounts.append(&mut self.agents);
        mounts
    }
}

impl StageLowering<'_, '_> {
    /// Adds a mount; `source` is what its `from` names.
    pub(crate) fn add_mount(&mut self, mount: &RunMount, source: Option<&Tree>, mounts: &mut StepMounts) {
        let destination = paths::join(&self.state.directory, &mount.target);
        match mount.kind {
            MountType::Bind => self.bind(mount, source, destination, mounts),
            MountType::Cache => self.cache(mount, source, destination, mounts),
            MountType::Tmpfs => mounts.add_memory(mount.size, destination, mount.readonly == Some(true)),
            MountType::Secret => secret(mount, destination, mounts),
            MountType::Ssh => agent(mount, destination, mounts),
        }
    }

    fn bind(&mut self, mount: &RunMount, source: Option<&Tree>, destination: String, mounts: &mut StepMounts) {
        let main = Tree::Local(MAIN_CONTEXT.to_owned());
        let input = self.input(source.unwrap_or(&main)).map(|input| mounts.position(input));
        let kind = MountKind::Bind { input, selector: selector(&mount.source) };
        // What is written to it is thrown away.
        let readonly = mount.readonly != Some(false);
        mounts.trees.push(Mount { kind, destination, readonly, output: None });
    }

    fn cache(&mut self, mount: &RunMount, source: Option<&Tree>, destination: String, mounts: &mut StepMounts) {
        let mut input = source.and_then(|source| self.input(source));
        let mut selector = selector(&mount.source);
        if selector.is_empty() && mount.has_owner_or_mode() {
            input = Some(self.new_cache(mount, input));
            selector = NEW_CACHE.to_owned();
        }
        let id = if mount.id.is_empty() { cleaned(&mount.target) } else { mount.id.clone() };
        let namespace = self.planner.options.build_args.get(CACHE_NAMESPACE).map_or("", String::as_str);
        let kind = MountKind::Cache {
            id: format!("{namespace}/{id}"),
            sharing: mount.sharing.unwrap_or(Sharing::Shared),
            input: input.map(|input| mounts.position(input)),
            selector,
        };
        mounts.trees.push(Mount { kind, destination, readonly: mount.readonly == Some(true), output: None });
    }

    /// The step that makes the directory that a new cache is, with its owner and mode.
    fn new_cache(&mut self, mount: &RunMount, base: Option<Input>) -> Input {
        let owner = Owner {
            user: UserRef::Id(mount.uid.unwrap_or_default()),
            group: Some(UserRef::Id(mount.gid.unwrap_or_default())),
        };
        let mode = mount.mode.unwrap_or(CACHE_MODE) & 0o7777;
        let mkdir = MkdirAction { path: NEW_CACHE.to_owned(), mode, owner: Some(owner) };
        let kind = FileActionKind::Mkdir(mkdir);
        let action = FileAction { base: base.map(|_| 0), from: None, output: Some(0), kind };
        let step = Step::new(Operation::File(vec![action]), "[internal] settings cache mount permissions");
        let inputs = base.into_iter().collect();
        Input { step: self.graph.add(Step { inputs, ..step }), output: 0 }
    }
}

/// Where [`StageLowering::new_cache`] makes its directory.
const NEW_CACHE: &str = "/cache";

/// The path in a tree; empty for all of it.
fn selector(source: &str) -> String {
    let path = paths::join("/", source);
    if path == "/" { String::new() } else { path }
}

/// A path as Go's `path.Clean` has it, which leaves a relative one relative.
fn cleaned(path: &str) -> String {
    if path.starts_with('/') {
        return paths::clean(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn secret(mount: &RunMount, target: String, mounts: &mut StepMounts) {
    let id = match (mount.source.as_str(), mount.id.as_str()) {
        ("", "") => base_name(&mount.target).to_owned(),
        ("", id) => id.to_owned(),
        (source, _) => source.to_owned(),
    };
    if let Some(name) = &mount.env {
        mounts.secret_env.push(SecretEnv { id: id.clone(), name: name.clone(), required: mount.required });
        if mount.target.is_empty() {
            return;
        }
    }
    let destination = if mount.target.is_empty() { paths::join("/run/secrets", base_name(&id)) } else { target };
    let kind = MountKind::Secret(credential(id, mount, SECRET_MODE));
    mounts.secrets.push(Mount { kind, destination, readonly: true, output: None });
}

fn agent(mount: &RunMount, target: String, mounts: &mut StepMounts) {
    let id = if mount.id.is_empty() { "default".to_owned() } else { mount.id.clone() };
    let destination =
        if mount.target.is_empty() { format!("/run/buildkit/ssh_agent.{}", mounts.agents.len()) } else { target };
    let kind = MountKind::Ssh(credential(id, mount, AGENT_MODE));
    mounts.agents.push(Mount { kind, destination, readonly: true, output: None });
}

fn credential(id: String, mount: &RunMount, mode: u32) -> Credential {
    Credential {
        id,
        required: mount.required,
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(mode) & 0o7777,
    }
}

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        let cases =
            [("", "."), ("a//b/", "a/b"), ("./a/../b", "b"), ("../a", "../a"), ("a/../..", ".."), ("/a/../b/", "/b")];
        for (path, expected) in cases {
            assert_eq!(cleaned(path), expected, "{path}");
        }
    }
}
