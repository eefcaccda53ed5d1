//! What differs between two builds.

use std::time::Duration;

use kiln_cache::history::{BuildEnd, BuildRecord, BuildStatus, DockerfileText, StepRecord};
use similar::TextDiff;

use super::super::{outcome, status};

/// Two builds, and what differs between them.
pub(super) struct Comparison<'a> {
    /// The earlier one.
    pub(super) was: &'a BuildRecord,
    /// The later one.
    pub(super) is: &'a BuildRecord,
    /// What was asked for and what came of it, as far as it differs.
    pub(super) values: Vec<Value>,
    /// How the Dockerfile changed: a unified diff, or a line that says that it did.
    pub(super) dockerfile: Option<String>,
    /// The steps that differ.
    pub(super) steps: Vec<Pair<'a>>,
}

/// Something that each build has one value of, or none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) was: Option<String>,
    pub(super) is: Option<String>,
}

/// A step of both builds, or of one of them.
#[derive(Clone, Copy)]
pub(super) enum Pair<'a> {
    Both(&'a StepRecord, &'a StepRecord),
    Gone(&'a StepRecord),
    Added(&'a StepRecord),
}

/// Steps that took so much longer or shorter are told of whatever else they did.
const NOTICEABLE: Duration = Duration::from_secs(1);

impl<'a> Comparison<'a> {
    pub(super) fn of(was: &'a BuildRecord, is: &'a BuildRecord) -> Self {
        let mut steps = pairs(&was.steps, &is.steps);
        steps.retain(|pair| pair.differs());
        let dockerfile = was.dockerfile.as_ref().zip(is.dockerfile.as_ref());
        let dockerfile = dockerfile.and_then(|(was, is)| dockerfile_changes(was, is));
        Self { was, is, values: changed(&values(was), &values(is)), dockerfile, steps }
    }
}

impl Pair<'_> {
    fn differs(&self) -> bool {
        let Self::Both(was, is) = self else { return true };
        let layers = was.layer.zip(is.layer);
        outcome(was).0 != outcome(is).0
            || layers.is_some_and(|(was, is)| was != is)
            || !is.reasons.is_empty()
            || duration(was).abs_diff(duration(is)) >= NOTICEABLE
    }
}

/// How long a step took, as far as it came.
pub(super) fn duration(step: &StepRecord) -> Duration {
    step.ended.as_ref().map_or(Duration::ZERO, |(end, _)| end.saturating_sub(step.began))
}

/// What was asked for and what came of it, by name.
fn values(build: &BuildRecord) -> Vec<(String, String)> {
    let command = &build.command;
    let mut values = vec![
        ("Context".to_owned(), command.context.clone()),
        ("Dockerfile".to_owned(), command.dockerfile.clone()),
        ("Target".to_owned(), command.target.clone().unwrap_or_default()),
        ("Platform".to_owned(), command.platform.clone()),
        ("Tags".to_owned(), command.tags.join(", ")),
    ];
    let arg = |(name, value): (&String, &String)| (format!("Build arg {name}"), value.clone());
    values.extend(command.build_args.iter().map(arg));
    values.push(("Status".to_owned(), status(build).to_owned()));
    match &build.status {
        BuildStatus::Ended(BuildEnd::Completed { image: Some(image) }) => {
            values.push(("Image".to_owned(), image.to_string()));
        }
        BuildStatus::Ended(BuildEnd::Failed { error, place }) => {
            values.push(("Error".to_owned(), error.clone()));
            values.push(("Place".to_owned(), place.clone().unwrap_or_default()));
        }
        _ => {}
    }
    values.retain(|(_, value)| !value.is_empty());
    values
}

fn changed(was: &[(String, String)], is: &[(String, String)]) -> Vec<Value> {
    let find = |all: &[(String, String)], name: &str| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let new = is.iter().filter(|(name, _)| find(was, name).is_none());
    let all =
        was.iter().chain(new).map(|(name, _)| Value { name: name.clone(), was: find(was, name), is: find(is, name) });
    all.filter(|value| value.was != value.is).collect()
}

fn dockerfile_changes(was: &DockerfileText, is: &DockerfileText) -> Option<String> {
    if was.digest == is.digest {
        return None;
    }
    Some(match (&was.text, &is.text) {
        (Some(was), Some(is)) => TextDiff::from_lines(was, is).unified_diff().context_radius(1).to_string(),
        _ => format!("{} → {}\n", was.digest, is.digest),
    })
}

/// The steps of both builds: equal ones in pairs; of the rest those of the same stage that do the same kind of thing,
/// in order; what is left was added or is gone. In the order of the later build.
fn pairs<'a>(was: &'a [StepRecord], is: &'a [StepRecord]) -> Vec<Pair<'a>> {
    let mut partners: Vec<Option<usize>> = vec![None; is.len()];
    let mut left: Vec<usize> = (0..was.len()).collect();
    for kind in [full_name, kind_of] {
        for (step, partner) in is.iter().zip(&mut partners).filter(|(_, partner)| partner.is_none()) {
            let found = left.iter().position(|&old| kind(&was[old]) == kind(step));
            *partner = found.map(|position| left.remove(position));
        }
    }
    let mut pairs = Vec::new();
    let mut left = left.into_iter().peekable();
    for (step, partner) in is.iter().zip(partners) {
        let Some(partner) = partner else {
            pairs.push(Pair::Added(step));
            continue;
        };
        // What is gone stands where it stood.
        while let Some(gone) = left.next_if(|gone| *gone < partner) {
            pairs.push(Pair::Gone(&was[gone]));
        }
        pairs.push(Pair::Both(&was[partner], step));
    }
    pairs.extend(left.map(|gone| Pair::Gone(&was[gone])));
    pairs
}

/// The stage that a step belongs to and what it does, without its number: that of `[build 2/4] RUN make` is
/// `build` and `RUN make`.
fn full_name(step: &StepRecord) -> (&str, &str) {
    let name = step.title.name.as_str();
    let Some((stage, what)) = name.strip_prefix('[').and_then(|name| name.split_once("] ")) else { return ("", name) };
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'/');
    match stage.rsplit_once(' ') {
        Some((stage, number)) if is_number(number) => (stage, what),
        None if is_number(stage) => ("", what),
        _ => (stage, what),
    }
}

/// The stage of a step and its instruction.
fn kind_of(step: &StepRecord) -> (&str, &str) {
    let (stage, what) = full_name(step);
    (stage, what.split(' ').next().unwrap_or_default())
}
