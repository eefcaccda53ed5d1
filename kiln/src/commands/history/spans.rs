//! A build as OpenTelemetry sees it: a span for the build, and below it one for each step.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use kiln_cache::Store;
use kiln_cache::history::{BuildEnd, BuildRecord, BuildStatus, Event, StepEnd, StepRecord};
use kiln_solver::Digest;

use super::{build_error, name, outcome, status};
use crate::error::CliError;

/// The spans of a build. The same build always has the same.
pub(super) struct Trace {
    /// 32 hexadecimal digits.
    pub(super) id: String,
    /// That of the build first.
    pub(super) spans: Vec<Span>,
}

/// Something that took its time.
pub(super) struct Span {
    /// 16 hexadecimal digits.
    pub(super) id: String,
    /// The span that it is a part of.
    pub(super) parent: Option<String>,
    /// The spans that it built on.
    pub(super) links: Vec<String>,
    pub(super) name: String,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    /// What there was to say in between.
    pub(super) events: Vec<(SystemTime, String)>,
    /// Why it failed.
    pub(super) error: Option<String>,
}

/// The value of an attribute.
pub(super) enum Attribute {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Trace {
    /// The trace of a build of the history.
    pub(super) fn read(store: &Store, build: &BuildRecord) -> Result<Self, CliError> {
        let mut trace = Self::new(build);
        for event in store.build_events(&build.id).map_err(|error| build_error(&error))? {
            let (time, step, event) = event.map_err(|error| build_error(&error))?;
            if let (Event::Note(note), Some(span)) = (event, trace.spans.get_mut(step + 1)) {
                span.events.push((at(build, time), note));
            }
        }
        Ok(trace)
    }

    /// The same, without what was noted on the way.
    pub(super) fn new(build: &BuildRecord) -> Self {
        let ids: Vec<String> = (1..=build.steps.len()).map(|number| span_id(build, number)).collect();
        let graph = build.steps.iter().zip(&ids).filter_map(|(step, id)| Some((step.title.digest?, id.as_str())));
        let graph: HashMap<Digest, &str> = graph.collect();
        let whole = whole(build);
        let part = |(step, id): (&StepRecord, &String)| Span {
            id: id.clone(),
            parent: Some(whole.id.clone()),
            links: step.title.inputs.iter().filter_map(|input| graph.get(input)).map(|id| (*id).to_owned()).collect(),
            ..part(build, step)
        };
        let parts: Vec<Span> = build.steps.iter().zip(&ids).map(part).collect();
        Self { id: hash(build, "trace")[..32].to_owned(), spans: [whole].into_iter().chain(parts).collect() }
    }
}

/// The span of the build itself.
fn whole(build: &BuildRecord) -> Span {
    use Attribute::Text;
    let command = &build.command;
    let mut attributes = vec![
        ("kiln.build.id", Text(build.id.clone())),
        ("kiln.build.status", Text(status(build).to_owned())),
        ("kiln.build.context", Text(command.context.clone())),
        ("kiln.build.dockerfile", Text(command.dockerfile.clone())),
        ("kiln.build.platform", Text(command.platform.clone())),
    ];
    attributes.extend(command.target.clone().map(|target| ("kiln.build.target", Text(target))));
    if !command.tags.is_empty() {
        attributes.push(("kiln.build.tags", Text(command.tags.join(", "))));
    }
    let mut error = None;
    match &build.status {
        BuildStatus::Ended(BuildEnd::Completed { image: Some(image) }) => {
            attributes.push(("kiln.build.image", Text(image.to_string())));
        }
        BuildStatus::Ended(BuildEnd::Failed { error: why, place }) => {
            attributes.extend(place.clone().map(|place| ("kiln.build.place", Text(place))));
            error = Some(why.clone());
        }
        _ => {}
    }
    Span {
        id: span_id(build, 0),
        parent: None,
        links: Vec::new(),
        name: format!("build {}", name(build)),
        began: build.began,
        ended: at(build, build.duration),
        attributes,
        events: Vec::new(),
        error,
    }
}

/// The span of a step, but for what it has to do with others. One without an end went on until the build ended.
fn part(build: &BuildRecord, step: &StepRecord) -> Span {
    use Attribute::{Flag, Number, Text};
    let (outcome, key) = outcome(step);
    let mut attributes = vec![("kiln.step.status", Text(outcome.to_owned()))];
    // As BuildKit calls them.
    attributes.extend(step.title.digest.map(|digest| ("vertex", Text(digest.to_string()))));
    attributes.push(("cached", Flag(key.is_some())));
    attributes.extend(key.map(|key| ("kiln.step.cache_key", Text(key.to_owned()))));
    let line = step.title.line.and_then(|line| i64::try_from(line).ok());
    attributes.extend(line.map(|line| ("code.line.number", Number(line))));
    attributes.extend(step.layer.map(|layer| ("kiln.step.layer", Text(layer.to_string()))));
    let reasons: Vec<String> = step.reasons.iter().map(ToString::to_string).collect();
    if !reasons.is_empty() {
        attributes.push(("kiln.step.reasons", Text(reasons.join("\n"))));
    }
    Span {
        id: String::new(),
        parent: None,
        links: Vec::new(),
        name: step.title.name.clone(),
        began: at(build, step.began),
        ended: at(build, step.ended.as_ref().map_or(build.duration, |(ended, _)| *ended).max(step.began)),
        attributes,
        events: Vec::new(),
        error: match &step.ended {
            Some((_, StepEnd::Failed(error))) => Some(error.clone()),
            _ => None,
        },
    }
}

fn at(build: &BuildRecord, after: Duration) -> SystemTime {
    build.began.checked_add(after).unwrap_or(build.began)
}

/// The build's own is number 0.
fn span_id(build: &BuildRecord, number: usize) -> String {
    hash(build, &format!("span {number}"))[..16].to_owned()
}

fn hash(build: &BuildRecord, what: &str) -> String {
    Digest::of(format!("{} {what}", build.id).as_bytes()).hex().to_string()
}
