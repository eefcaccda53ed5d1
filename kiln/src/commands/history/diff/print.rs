//! The difference of two builds, for people and for programs.

use std::fmt::Write as _;

use kiln_cache::history::{BuildRecord, StepRecord};
use kiln_image::spec;
use kiln_solver::Digest;
use serde::Serialize;

use super::super::{counts, name, outcome, status};
use super::compare::{Comparison, Pair, Value, duration};
use crate::human;
use crate::progress::clean;
use crate::reasons::{self, ReasonJson};

/// For people.
pub(super) fn pretty(comparison: &Comparison<'_>) -> String {
    let mut text = heads(comparison);
    if let Some(changes) = &comparison.dockerfile {
        text.push_str("\nDockerfile:\n");
        for line in changes.lines() {
            let _ = writeln!(text, "  {}", clean(line));
        }
    }
    if !comparison.steps.is_empty() {
        text.push('\n');
        text.push_str(&steps(&comparison.steps));
    }
    if comparison.values.is_empty() && comparison.dockerfile.is_none() && comparison.steps.is_empty() {
        text.push_str("\nNothing differs but the time.\n");
    }
    text
}

fn heads(comparison: &Comparison<'_>) -> String {
    let Comparison { was, is, values, .. } = comparison;
    let row = |label: &str, of: &dyn Fn(&BuildRecord) -> String| vec![label.to_owned(), of(was), of(is)];
    let cached = |build: &BuildRecord| {
        let (steps, _, cached) = counts(build);
        format!("{steps} ({cached} cached)")
    };
    let mut rows = vec![
        row("Build", &|build| build.id.clone()),
        row("Name", &|build| clean(&name(build))),
        row("Started", &|build| spec::format_time(build.began)),
        row("Duration", &|build| human::exact(build.duration)),
        row("Steps", &cached),
    ];
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), clean);
    rows.extend(values.iter().map(|Value { name, was, is }| vec![clean(name), value(was), value(is)]));
    human::table(&["", "WAS", "IS"], &rows)
}

fn steps(steps: &[Pair<'_>]) -> String {
    let rows: Vec<_> = steps.iter().map(row).collect();
    let table = human::table(&["", "STEP", "WAS", "IS", "DURATION"], &rows);
    let mut text = String::new();
    // The first line is that of the headings; below each step stands why it ran and what else it made.
    let steps = [None].into_iter().chain(steps.iter().map(Some));
    for (line, pair) in table.lines().zip(steps) {
        let _ = writeln!(text, "{line}");
        for more in pair.into_iter().flat_map(details) {
            let _ = writeln!(text, "      {more}");
        }
    }
    text
}

fn row(pair: &Pair<'_>) -> Vec<String> {
    let time = |step: &StepRecord| human::exact(duration(step));
    let name = |step: &StepRecord| clean(&step.title.name);
    match *pair {
        Pair::Both(was, is) => {
            vec!["~".to_owned(), name(is), ended(was), ended(is), format!("{} → {}", time(was), time(is))]
        }
        Pair::Gone(was) => vec!["-".to_owned(), name(was), ended(was), String::new(), time(was)],
        Pair::Added(is) => vec!["+".to_owned(), name(is), String::new(), ended(is), time(is)],
    }
}

/// How a step ended, in few words.
fn ended(step: &StepRecord) -> String {
    match outcome(step) {
        (status, Some(key)) => format!("{status} ({key})"),
        (status, None) => status.to_owned(),
    }
}

fn details(pair: &Pair<'_>) -> Vec<String> {
    let (was, is) = match *pair {
        Pair::Both(was, is) => (Some(was), is),
        Pair::Added(is) => (None, is),
        Pair::Gone(_) => return Vec::new(),
    };
    let mut details: Vec<String> = reasons::lines(&is.reasons, outcome(is).1.is_some()).collect();
    match was.and_then(|was| was.layer).zip(is.layer) {
        Some((was, is)) if was != is => details.push(format!("layer {} → {}", was.short(), is.short())),
        Some(_) if outcome(is).1.is_none() => details.push("the layer is the same".to_owned()),
        _ => {}
    }
    details
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ComparisonJson<'a> {
    was: BuildJson<'a>,
    is: BuildJson<'a>,
    changes: Vec<ValueJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile: Option<&'a str>,
    steps: Vec<PairJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BuildJson<'a> {
    name: String,
    #[serde(rename = "Ref")]
    id: &'a str,
    started_at: String,
    /// In nanoseconds, as Go prints a duration.
    duration: u64,
    status: &'static str,
    num_total_steps: usize,
    num_cached_steps: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ValueJson<'a> {
    name: &'a str,
    was: Option<&'a str>,
    is: Option<&'a str>,
}

impl<'a> From<&'a Value> for ValueJson<'a> {
    fn from(Value { name, was, is }: &'a Value) -> Self {
        Self { name, was: was.as_deref(), is: is.as_deref() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PairJson<'a> {
    name: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<StepJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<StepJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StepJson {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_key: Option<&'static str>,
    /// In nanoseconds.
    duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Digest>,
}

/// For programs.
pub(super) fn json(comparison: &Comparison<'_>) -> String {
    let Comparison { was, is, values, dockerfile, steps } = comparison;
    let comparison = ComparisonJson {
        was: build_json(was),
        is: build_json(is),
        changes: values.iter().map(ValueJson::from).collect(),
        dockerfile: dockerfile.as_deref(),
        steps: steps.iter().map(|pair| pair_json(*pair)).collect(),
    };
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string_pretty(&comparison).map(|text| text + "\n").unwrap_or_default()
}

fn build_json(build: &BuildRecord) -> BuildJson<'_> {
    let (num_total_steps, _, num_cached_steps) = counts(build);
    BuildJson {
        name: name(build),
        id: &build.id,
        started_at: spec::format_time(build.began),
        duration: nanos(build.duration),
        status: status(build),
        num_total_steps,
        num_cached_steps,
    }
}

fn pair_json(pair: Pair<'_>) -> PairJson<'_> {
    let (change, was, is) = match pair {
        Pair::Both(was, is) => ("changed", Some(was), Some(is)),
        Pair::Gone(was) => ("removed", Some(was), None),
        Pair::Added(is) => ("added", None, Some(is)),
    };
    PairJson {
        name: is.or(was).map_or("", |step| &step.title.name),
        change,
        was: was.map(step_json),
        is: is.map(step_json),
        reasons: is.map(|step| step.reasons.iter().map(ReasonJson::capitalised).collect()).unwrap_or_default(),
    }
}

fn step_json(step: &StepRecord) -> StepJson {
    let (status, cache_key) = outcome(step);
    StepJson { status, cache_key, duration: nanos(duration(step)), layer: step.layer }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
