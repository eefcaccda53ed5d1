//! Why a step was not found in the cache: what is remembered of steps that were carried out, and how one differs from
//! the nearest of them.

use std::collections::BTreeMap;
use std::fmt;

use crate::{
    CopyAction, Digest, Exec, FileActionKind, FileMode, IgnoreCache, Mismatch, MountKind, Operation, Output, Owner,
    Source, Step, UserRef,
};

/// What a step does as names and values, for people.
pub type Properties = BTreeMap<String, String>;

/// What a step took in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The name of the step that made it.
    pub name: String,
    /// What it goes by: the digest of an image; empty for what is known by content.
    pub identity: String,
    /// The digest of what was seen of it, where that is known.
    pub content: Option<Digest>,
    /// The thing itself.
    pub output: Output,
}

/// A step that was carried out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Whether it did the very same.
    pub same_definition: bool,
    /// What it did.
    pub properties: Properties,
    /// What it took in.
    pub inputs: Vec<Taken>,
    /// What it made.
    pub outputs: Vec<Output>,
}

/// A reason for a step to run, or what a hit did not mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The cache was not to be used.
    Ignored(IgnoreCache),
    /// Nothing like it was ever carried out here.
    NeverBuilt,
    /// It was carried out, but what it made is no longer here.
    Lost,
    /// What it does is not the same.
    Definition(Mismatch),
    /// An image that it builds on is another one.
    Image(Mismatch),
    /// Something that it looked at is not as it was.
    Fact(Mismatch),
    /// A file that it takes in is not as it was.
    File(Mismatch),
    /// What this step gives it is not as it was.
    Input(String),
}

impl Reason {
    /// The kind of reason as one word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ignored(_) => "ignored",
            Self::NeverBuilt => "never-built",
            Self::Lost => "lost",
            Self::Definition(_) => "definition",
            Self::Image(_) => "image",
            Self::Fact(_) => "fact",
            Self::File(_) => "file",
            Self::Input(_) => "input",
        }
    }

    /// What is not as it was, where that can be told.
    pub fn mismatch(&self) -> Option<&Mismatch> {
        match self {
            Self::Definition(mismatch) | Self::Image(mismatch) | Self::Fact(mismatch) | Self::File(mismatch) => {
                Some(mismatch)
            }
            Self::Ignored(_) | Self::NeverBuilt | Self::Lost | Self::Input(_) => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored(IgnoreCache::Asked) => formatter.write_str("the cache was not to be used"),
            Self::Ignored(IgnoreCache::Always) => formatter.write_str("it is marked to run always"),
            Self::NeverBuilt => formatter.write_str("never built here"),
            Self::Lost => formatter.write_str("what it made before is no longer in the store"),
            Self::Definition(mismatch) => mismatch.fmt(formatter),
            Self::Image(mismatch) => write!(formatter, "base image {mismatch}"),
            Self::Fact(mismatch) => write!(formatter, "{mismatch}, which this step looked at"),
            Self::File(mismatch) => mismatch.fmt(formatter),
            Self::Input(name) => write!(formatter, "`{name}` gave other files"),
        }
    }
}

/// What differs between a step and an earlier one. `differences` tells what differs between two trees, as far as that
/// is known.
pub(crate) fn compare(
    step: &Step,
    inputs: &[Taken],
    past: &Past,
    differences: &dyn Fn(&Output, &Output) -> Vec<Mismatch>,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !past.same_definition {
        reasons.extend(changed(&past.properties, &properties(&step.operation)).into_iter().map(Reason::Definition));
    }
    for (was, is) in past.inputs.iter().zip(inputs) {
        if was.identity != is.identity {
            reasons.push(Reason::Image(mismatch(&is.name, &was.identity, &is.identity)));
        } else if was.content != is.content {
            let files = differences(&was.output, &is.output);
            if files.is_empty() {
                reasons.push(Reason::Input(is.name.clone()));
            }
            reasons.extend(files.into_iter().map(Reason::File));
        }
    }
    reasons
}

fn changed(was: &Properties, is: &Properties) -> Vec<Mismatch> {
    let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
    let differs = |name: &&String| was.get(*name) != is.get(*name);
    let value = |of: &Properties, name| of.get(name).map_or_else(|| "nothing".to_owned(), String::clone);
    names.filter(differs).map(|name| mismatch(name, &value(was, name), &value(is, name))).collect()
}

fn mismatch(subject: &str, was: &str, is: &str) -> Mismatch {
    Mismatch { subject: subject.to_owned(), was: was.to_owned(), is: is.to_owned() }
}

/// What an operation does as names and values.
pub fn properties(operation: &Operation) -> Properties {
    let mut properties = Properties::new();
    let mut put = |name: &str, value: String| {
        properties.insert(name.to_owned(), value);
    };
    match operation {
        Operation::Source(Source::Image { reference, digest }) => {
            put("image", reference.clone());
            put("digest", digest.to_string());
        }
        Operation::Source(Source::Local { name }) => put("context", name.clone()),
        Operation::Source(Source::Http(http)) => put("url", http.url.clone()),
        Operation::Source(Source::Git(git)) => put("repository", git.remote.clone()),
        Operation::Exec(exec) => put_exec(exec, &mut put),
        Operation::File(actions) => {
            for (number, action) in actions.iter().enumerate() {
                let number = if actions.len() == 1 { String::new() } else { format!(" of action {}", number + 1) };
                let mut put = |name: &str, value| put(&format!("{name}{number}"), value);
                match &action.kind {
                    FileActionKind::Copy(copy) => put_copy(copy, &mut put),
                    FileActionKind::Mkdir(mkdir) => {
                        put("directory", mkdir.path.clone());
                        put("owner", owner(mkdir.owner.as_ref()));
                    }
                    FileActionKind::Mkfile(mkfile) => {
                        put("file", mkfile.path.clone());
                        put("content", Digest::of(mkfile.content.as_bytes()).short());
                        put("owner", owner(mkfile.owner.as_ref()));
                        put("mode", format!("{:04o}", mkfile.mode));
                    }
                }
            }
        }
    }
    properties
}

fn put_exec(exec: &Exec, put: &mut dyn FnMut(&str, String)) {
    put("command", exec.args.join(" "));
    for variable in &exec.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if !exec.ignores(name) {
            put(&format!("variable {name}"), value.to_owned());
        }
    }
    for name in &exec.ignored_env {
        put(&format!("variable {name}"), "ignored".to_owned());
    }
    if exec.untraced {
        put("tracing", "off".to_owned());
    }
    put("working directory", exec.cwd.clone());
    put("user", if exec.user.is_empty() { "root".to_owned() } else { exec.user.clone() });
    put("network", format!("{:?}", exec.network).to_lowercase());
    put("security", format!("{:?}", exec.security).to_lowercase());
    for mount in &exec.mounts {
        let what = match &mount.kind {
            MountKind::Bind { selector, .. } => format!("bind {selector}"),
            MountKind::Cache { id, sharing, .. } => format!("cache {id} ({sharing:?})"),
            MountKind::Tmpfs { size: None } => "tmpfs".to_owned(),
            MountKind::Tmpfs { size: Some(size) } => format!("tmpfs of {size} bytes"),
            MountKind::Secret(secret) => format!("secret {}", secret.id),
            MountKind::Ssh(agent) => format!("ssh {}", agent.id),
        };
        let access = if mount.readonly { "read-only" } else { "writable" };
        put(&format!("mount {}", mount.destination), format!("{what}, {access}"));
    }
    for secret in &exec.secret_env {
        put(&format!("secret variable {}", secret.name), secret.id.clone());
    }
    for limit in &exec.limits.ulimits {
        put(&format!("ulimit {}", limit.name), format!("{}:{}", limit.soft, limit.hard));
    }
}

fn put_copy(copy: &CopyAction, put: &mut dyn FnMut(&str, String)) {
    put("source", copy.source.clone());
    put("destination", copy.destination.clone());
    put("owner", owner(copy.owner.as_ref()));
    put("exclude", copy.exclude.join(" "));
    let mode = match &copy.mode {
        None => "as it is".to_owned(),
        Some(FileMode::Exact(mode)) => format!("{mode:04o}"),
        Some(FileMode::Changes(changes)) => changes.to_string(),
    };
    put("mode", mode);
}

fn owner(owner: Option<&Owner>) -> String {
    let reference = |reference: &UserRef| match reference {
        UserRef::Id(id) => id.to_string(),
        UserRef::Name(name) => name.clone(),
    };
    match owner {
        None => "as it is".to_owned(),
        Some(Owner { user, group: None }) => reference(user),
        Some(Owner { user, group: Some(group) }) => format!("{}:{}", reference(user), reference(group)),
    }
}
