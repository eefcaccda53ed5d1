//! Steps: one node each of the step graph, in the shape of BuildKit's LLB (`solver/pb/ops.proto`).

use crate::encode::Encoder;
use crate::{Digest, FileMode, Platform, StepId};

/// One node of the step graph: an operation, what it takes in and what it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// The outputs of other steps that it takes in; operations refer to them by position.
    pub inputs: Vec<Input>,
    /// What it runs on; absent where that makes no difference.
    pub platform: Option<Platform>,
    /// What people see of it and how it is handled; no part of its digest.
    pub metadata: Metadata,
}

/// One output of an earlier step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// The step.
    pub step: StepId,
    /// Which of its outputs, counted from 0.
    pub output: u32,
}

/// What is known of a step beside what it does. Two steps that differ only here are the same step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The line shown to people, such as `[build 2/4] RUN make`.
    pub name: String,
    /// The instruction as it was written, such as `RUN echo $VERSION`; empty where there is none.
    pub written: String,
    /// Where in the Dockerfile it was written.
    pub span: Option<SourceSpan>,
    /// The stage that it belongs to, by name or else by number.
    pub stage: Option<String>,
    /// Why it runs even where a cache entry fits, if it does.
    pub ignore_cache: Option<IgnoreCache>,
}

/// Why a step runs even where a cache entry fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreCache {
    /// Whoever started the build asked for it.
    Asked,
    /// The instruction says so itself.
    Always,
}

impl Metadata {
    /// What the step has in common with itself in another version of its Dockerfile, or with other arguments: its
    /// stage and the instruction as it was written.
    pub fn likeness(&self) -> String {
        match (&self.stage, self.written.as_str()) {
            (_, "") => self.name.clone(),
            (None, written) => written.to_owned(),
            (Some(stage), written) => format!("[{stage}] {written}"),
        }
    }
}

/// A range of bytes of the Dockerfile, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceSpan {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bring something in from outside; takes no inputs.
    Source(Source),
    /// Run a command in a sandbox (LLB `ExecOp`).
    Exec(Exec),
    /// Change files without running anything (LLB `FileOp`), one action after the other.
    File(Vec<FileAction>),
}

/// Where something comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image for one platform.
    Image {
        /// The reference that a user wrote, normalised: where to fetch it, and no part of the digest.
        reference: String,
        /// Its identity: the digest of its manifest, or that of its config where it was built here.
        digest: Digest,
    },
    /// A directory of the machine that kiln runs on: the build context, or one named by `--build-context`.
    /// Never known by its definition, always by content.
    Local {
        /// The name of the context; the main one is `context`.
        name: String,
    },
    /// One file fetched over http or https, alone in the root of a tree. Known by content: servers change their
    /// minds.
    Http(Http),
    /// The files of a git commit. Known by content: branches move.
    Git(Git),
}

/// A file to fetch over http or https (LLB `http` source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where from.
    pub url: String,
    /// What the body must hash to, where that is said.
    pub checksum: Option<Digest>,
    /// The name of the file; with mode 0600, root's, and the time of `Last-Modified` if the server gives one.
    pub filename: String,
}

/// A git commit to check out (LLB `git` source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// The repository, in any form that the git program understands.
    pub remote: String,
    /// A branch, tag or commit; the remote's default branch where absent.
    pub reference: Option<String>,
    /// The directory of the repository that becomes the root of the tree.
    pub subdirectory: Option<String>,
    /// The commit that `reference` must be, in full or from its first digits on, where that is said.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out, too.
    pub submodules: bool,
}

/// A command to run (LLB `ExecOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, `NAME=value` each, in order.
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// What is mounted; the one at `/` is the root and comes first.
    pub mounts: Vec<Mount>,
    /// Which network it sees.
    pub network: Network,
    /// How it is confined.
    pub security: Security,
    /// Secrets that it finds in its environment, beside `env`.
    pub secret_env: Vec<SecretEnv>,
    /// Machines that it finds in `/etc/hosts`, beside those that the builder puts there. Their addresses are no part
    /// of its digest.
    pub hosts: Vec<Host>,
    /// What it may use of the machine.
    pub limits: Limits,
    /// Names of variables that its digest knows no more of than that they are ignored: neither their values nor
    /// whether `env` has them.
    pub ignored_env: Vec<String>,
    /// Whether it is not to be observed what it looks at.
    pub untraced: bool,
    /// The name of the machine that it sees; the sandbox's own where empty.
    pub hostname: String,
}

/// One mount of an [`Exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, absolute.
    pub destination: String,
    /// Whether writing fails.
    pub readonly: bool,
    /// Which output of the step carries what the mount holds afterwards; none where that is thrown away.
    pub output: Option<u32>,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or a file of an input, or an empty directory where there is none.
    Bind {
        /// The position of the input.
        input: Option<usize>,
        /// The path in it.
        selector: String,
    },
    /// A directory that outlives the step and the build. What it holds is no part of any key.
    Cache {
        /// Its name: mounts of the same name show the same directory.
        id: String,
        /// What happens where several steps want it at once.
        sharing: Sharing,
        /// What it holds when it is made: a directory of this input, by position; nothing where there is none.
        input: Option<usize>,
        /// The path in the input.
        selector: String,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// How many bytes it may hold; as many as the kernel allows where absent.
        size: Option<u64>,
    },
    /// A file with a secret that was given to the build. What it holds is no part of any key.
    Secret(Credential),
    /// The socket of an ssh agent that was given to the build.
    Ssh(Credential),
}

/// What happens where several steps want the same cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All have it.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One has it, the others wait.
    Locked,
}

/// A secret or an ssh agent, as a step wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name under which it was given to the build.
    pub id: String,
    /// Whether the step fails where it was not given; else it does without.
    pub required: bool,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// A secret in the environment of an [`Exec`] (LLB `SecretEnv`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEnv {
    /// The name under which it was given to the build.
    pub id: String,
    /// The variable.
    pub name: String,
    /// Whether the step fails where it was not given; else the variable is not set.
    pub required: bool,
}

/// A line of `/etc/hosts` (LLB `HostIP`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name of the machine.
    pub name: String,
    /// Its address.
    pub address: std::net::IpAddr,
}

/// What an [`Exec`] may use of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Resource limits of its processes, in order.
    pub ulimits: Vec<Ulimit>,
    /// The control group below which its own is made; the builder's choice where absent. No part of its digest.
    pub cgroup_parent: Option<String>,
}

/// One resource limit (`setrlimit(2)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// The resource as Docker names it, such as `nofile`.
    pub name: String,
    /// The limit that is in force; -1 is none.
    pub soft: i64,
    /// How far the step itself may raise it; -1 is as far as it likes.
    pub hard: i64,
}

/// The network of an [`Exec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the builder gives by default.
    #[default]
    Default,
    /// The network of the host.
    Host,
    /// Loopback alone.
    None,
}

/// The confinement of an [`Exec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Docker's default capabilities, masked paths and filters.
    #[default]
    Sandbox,
    /// Hardly any.
    Insecure,
}

/// One action of a file operation, as in LLB: positions below the number of the step's inputs mean those
/// inputs, the ones from there on the results of earlier actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// The tree that it changes; an empty one where there is none.
    pub base: Option<usize>,
    /// The tree that it reads from (copy alone).
    pub from: Option<usize>,
    /// Which output of the step carries the changed tree; none where a later action goes on with it.
    pub output: Option<u32>,
    /// What it does.
    pub kind: FileActionKind,
}

/// What a [`FileAction`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copies files (`COPY`, `ADD`).
    Copy(CopyAction),
    /// Makes a directory (`WORKDIR`).
    Mkdir(MkdirAction),
    /// Makes a file of known content (a heredoc).
    Mkfile(MkfileAction),
}

/// Copies what one pattern matches (LLB `FileActionCopy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAction {
    /// What is copied: an absolute path in the tree read from; a trailing `/` is kept as written.
    pub source: String,
    /// Where to: an absolute path; with a trailing `/` it is a directory.
    pub destination: String,
    /// The owner of all that is copied; uid 0 and gid 0 of a local context, or the source's own, where absent.
    pub owner: Option<Owner>,
    /// The permission bits of all that is copied; the source's own where absent.
    pub mode: Option<FileMode>,
    /// Whether `* ? [` in `source` are wildcards (Go's `filepath.Match`).
    pub wildcard: bool,
    /// Whether a wildcard that matches nothing is fine.
    pub allow_empty_wildcard: bool,
    /// Whether an archive is unpacked instead of copied (`ADD` of a local tar file, compressed or not).
    pub unpack: bool,
    /// Whether a directory gives its contents rather than itself.
    pub contents_only: bool,
    /// Whether the directories above what is copied are made below the destination as well (`--parents`): all of
    /// them, or those behind a `/./` in `source`.
    pub parents: bool,
    /// Patterns, as in `.dockerignore`, of what is left out, relative to the directory that is copied or to the
    /// part of `source` before its first wildcard.
    pub exclude: Vec<String>,
    /// Whether it is done in an empty tree, which then lies above what it builds on (`--link`): it sees nothing of that,
    /// neither links nor names of users.
    pub linked: bool,
}

impl CopyAction {
    /// Copies a whole tree as it is.
    pub fn everything() -> Self {
        Self {
            source: "/".to_owned(),
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            wildcard: false,
            allow_empty_wildcard: false,
            unpack: false,
            contents_only: true,
            parents: false,
            exclude: Vec::new(),
            linked: false,
        }
    }
}

/// Makes a directory and the ones above it that are not there (LLB `FileActionMkDir` with `makeParents`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkdirAction {
    /// Absolute.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// Root where absent.
    pub owner: Option<Owner>,
}

/// Makes a file (LLB `FileActionMkFile`), replacing what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkfileAction {
    /// Absolute.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: String,
    /// Root where absent.
    pub owner: Option<Owner>,
}

/// An owner as written, to be looked up in the tree that is changed (LLB `ChownOpt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserRef,
    /// The group; the user's own, or the number of the user, where absent.
    pub group: Option<UserRef>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRef {
    /// By number.
    Id(u32),
    /// By a name in `/etc/passwd` or `/etc/group` of the tree that is changed.
    Name(String),
}

impl Operation {
    /// Whether the operation brings something in from outside, and so is not recorded.
    pub fn is_source(&self) -> bool {
        matches!(self, Self::Source(_))
    }

    /// Whether its digest names its result for good. An image's does; what comes from a local directory, a web
    /// server or a git repository is known by content.
    pub fn has_identity(&self) -> bool {
        !matches!(self, Self::Source(Source::Local { .. } | Source::Http(_) | Source::Git(_)))
    }

    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Source(Source::Image { reference: _, digest }) => encoder.tag("source.image").digest(digest),
            Self::Source(Source::Local { name }) => encoder.tag("source.local").text(name),
            Self::Source(Source::Http(http)) => {
                encoder.tag("source.http").text(&http.url).text(&http.filename);
                match &http.checksum {
                    Some(checksum) => encoder.digest(checksum),
                    None => encoder.position(None),
                }
            }
            Self::Source(Source::Git(git)) => {
                encoder.tag("source.git").text(&git.remote);
                for text in [&git.reference, &git.subdirectory, &git.checksum] {
                    encoder.texts(text.as_slice());
                }
                encoder.flag(git.keep_git_dir).flag(git.submodules)
            }
            Self::Exec(exec) => {
                encoder.tag("exec");
                exec.encode(encoder);
                encoder
            }
            Self::File(actions) => {
                encoder.tag("file").number(actions.len() as u64);
                for action in actions {
                    action.encode(encoder);
                }
                encoder
            }
        };
    }
}

impl Exec {
    fn encode(&self, encoder: &mut Encoder) {
        let is_counted = |variable: &&String| !self.ignores(variable.split('=').next().unwrap_or(variable));
        let env: Vec<String> = self.env.iter().filter(is_counted).cloned().collect();
        encoder.texts(&self.args).texts(&env).text(&self.cwd).text(&self.user);
        encoder.number(self.mounts.len() as u64);
        for mount in &self.mounts {
            match &mount.kind {
                MountKind::Bind { input, selector } => {
                    encoder.tag("bind").position(*input).text(selector);
                }
                MountKind::Cache { id, sharing, input, selector } => {
                    encoder.tag("cache").text(id).tag(sharing.tag()).position(*input).text(selector);
                }
                MountKind::Tmpfs { size } => {
                    encoder.tag("tmpfs").flag(size.is_some()).number(size.unwrap_or_default());
                }
                MountKind::Secret(secret) => secret.encode("secret", encoder),
                MountKind::Ssh(agent) => agent.encode("ssh", encoder),
            }
            encoder.text(&mount.destination).flag(mount.readonly).position(mount.output.map(|output| output as usize));
        }
        encoder.tag(match self.network {
            Network::Default => "network.default",
            Network::Host => "network.host",
            Network::None => "network.none",
        });
        encoder.tag(match self.security {
            Security::Sandbox => "security.sandbox",
            Security::Insecure => "security.insecure",
        });
        encoder.number(self.secret_env.len() as u64);
        for secret in &self.secret_env {
            encoder.text(&secret.id).text(&secret.name).flag(secret.required);
        }
        encoder.number(self.hosts.len() as u64);
        for host in &self.hosts {
            encoder.text(&host.name);
        }
        encoder.number(self.limits.ulimits.len() as u64);
        for limit in &self.limits.ulimits {
            encoder.text(&limit.name);
            encoder.number(limit.soft.cast_unsigned()).number(limit.hard.cast_unsigned());
        }
        if !self.ignored_env.is_empty() {
            let mut names = self.ignored_env.clone();
            names.sort_unstable();
            names.dedup();
            encoder.tag("env.ignored").texts(&names);
        }
        if self.untraced {
            encoder.tag("untraced");
        }
        if !self.hostname.is_empty() {
            encoder.tag("hostname").text(&self.hostname);
        }
    }

    /// Whether the variable of this name is none of its digest.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.ignored_env.iter().any(|ignored| ignored == name)
    }
}

impl Sharing {
    fn tag(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

impl Credential {
    fn encode(&self, tag: &'static str, encoder: &mut Encoder) {
        encoder.tag(tag).text(&self.id).flag(self.required);
        encoder.number(u64::from(self.uid)).number(u64::from(self.gid)).number(u64::from(self.mode));
    }
}

impl FileAction {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.position(self.base).position(self.from).position(self.output.map(|output| output as usize));
        match &self.kind {
            FileActionKind::Copy(copy) => {
                encoder.tag("copy").text(&copy.source).text(&copy.destination);
                encode_owner(copy.owner.as_ref(), encoder);
                FileMode::encode(copy.mode.as_ref(), encoder);
                encoder.flag(copy.wildcard).flag(copy.allow_empty_wildcard).flag(copy.unpack);
                encoder.flag(copy.contents_only).flag(copy.parents).texts(&copy.exclude);
                if copy.linked {
                    encoder.tag("linked");
                }
            }
            FileActionKind::Mkdir(mkdir) => {
                encoder.tag("mkdir").text(&mkdir.path).number(u64::from(mkdir.mode));
                encode_owner(mkdir.owner.as_ref(), encoder);
            }
            FileActionKind::Mkfile(mkfile) => {
                encoder.tag("mkfile").text(&mkfile.path).number(u64::from(mkfile.mode)).text(&mkfile.content);
                encode_owner(mkfile.owner.as_ref(), encoder);
            }
        }
    }
}

fn encode_owner(owner: Option<&Owner>, encoder: &mut Encoder) {
    let Some(owner) = owner else {
        encoder.tag("owner.none");
        return;
    };
    encoder.tag("owner");
    for reference in [Some(&owner.user), owner.group.as_ref()] {
        match reference {
            Some(UserRef::Id(id)) => encoder.tag("id").number(u64::from(*id)),
            Some(UserRef::Name(name)) => encoder.tag("name").text(name),
            None => encoder.tag("same"),
        };
    }
}

impl Step {
    /// The digest of what the step does, without its inputs: the SHA-256 of one canonical encoding.
    pub fn own_digest(&self) -> Digest {
        let mut encoder = Encoder::new("kiln.step.v2");
        self.operation.encode(&mut encoder);
        match &self.platform {
            Some(platform) => encoder.tag("platform").text(&platform.to_string()),
            None => encoder.tag("platform.any"),
        };
        encoder.finish()
    }

    /// A step of this operation without inputs, on any platform.
    pub fn new(operation: Operation, name: impl Into<String>) -> Self {
        Self {
            operation,
            inputs: Vec::new(),
            platform: None,
            metadata: Metadata { name: name.into(), ..Metadata::default() },
        }
    }
}
