//! What BuildKit's keys are made of: the digest of an operation, and how it depends on its inputs.

use kiln_solver::{Digest, Input, Operation as Kind, Step};

use super::dialect::Dialects;
use super::{exec, file};

/// An operation as BuildKit knows it.
pub(super) struct Operation {
    /// Its digests, each with the generations of BuildKit that give it.
    pub(super) digests: Vec<(Dialects, Digest)>,
    /// Its inputs, in order.
    pub(super) dependencies: Vec<Dependency>,
}

/// How an operation depends on one of its inputs.
pub(super) struct Dependency {
    pub(super) from: Taken,
    /// The digests of what it selects of the input, each with the generations that give it; none is all of it.
    pub(super) selectors: Vec<(Dialects, Option<Digest>)>,
    /// By which contents the input may be known instead of by its own key, each with the generations that do so.
    pub(super) contents: Vec<(Dialects, Vec<Selector>)>,
}

/// Where an operation takes something from.
pub(super) enum Taken {
    /// From a step.
    Step(Input),
    /// From an operation that BuildKit has in the middle of a step.
    Operation(Box<Operation>),
}

/// A part of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// An absolute path; links are followed.
    pub path: String,
    /// What is meant by it.
    pub select: Select,
}

/// What a [`Selector`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// What is there.
    Path,
    /// All that matches, `* ? [` being wildcards: everything in a directory that does counts by itself.
    Matches,
    /// The same, but directories count as wholes.
    Wholes,
}

impl Selector {
    pub(super) fn of(path: &str) -> Self {
        Self { path: path.to_owned(), select: Select::Path }
    }
}

impl Operation {
    /// The operation of a step; none of sources, and of what BuildKit would do in another way. `time` is the time of
    /// what is made, in nanoseconds since 1970.
    pub(super) fn of(step: &Step, time: Option<i64>) -> Option<Self> {
        match &step.operation {
            Kind::Source(_) => None,
            // Which variables do not count is nothing that BuildKit could know.
            Kind::Exec(exec) if !exec.ignored_env.is_empty() => None,
            Kind::Exec(exec) => Some(exec::operation(step, exec)),
            Kind::File(actions) => file::operation(step, actions, time),
        }
    }
}

/// The digest that stands for paths that are selected; none where there are none.
pub(super) fn selector_of(paths: &[&str]) -> Option<Digest> {
    (!paths.is_empty()).then(|| Digest::of(paths.join("\0").as_bytes()))
}

/// The paths in order, each once, without those below others.
pub(super) fn without_nested<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let mut paths = paths.to_vec();
    paths.sort_unstable();
    paths.dedup();
    let is_below = |path: &str, other: &str| {
        path != other && path.strip_prefix(other).is_some_and(|rest| other.ends_with('/') || rest.starts_with('/'))
    };
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| is_below(path, other)));
    paths
}
