//! `kiln history inspect`

use std::fmt::Write as _;

use kiln_cache::history::{BuildEnd, BuildRecord, BuildStatus, StepEnd, StepRecord};
use kiln_image::spec;
use kiln_solver::Digest;
use serde::Serialize;

use super::{build_error, counts, find, name, outcome, status};
use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::clean;
use crate::reasons::ReasonJson;
use crate::session::Session;
use crate::template::{Template, Value};
use crate::{human, reasons, terminal};

/// Show a build: what was asked for, how it ended, and its steps
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The build, by the beginning of its ID or as `^N`, the build N before the last [default: the last one]
    #[arg(value_name = "BUILD")]
    build: Option<String>,

    /// `pretty`, `json` or a Go template over what `json` prints
    #[arg(long, default_value = "pretty", value_name = "FORMAT")]
    format: String,
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let template = match args.format.as_str() {
        "pretty" | "json" => None,
        text => Some(Template::parse(text)?),
    };
    let store = Session::open(environment)?.store;
    let id = find(&store, args.build.as_deref())?;
    let build = store.build(&id).map_err(|error| build_error(&error))?;
    terminal::print(&match template {
        Some(template) => {
            let fields: Value = serde_json::from_str(&json(&build))
                .map_err(|error| CliError::bug(format!("a build has no JSON form: {error}")))?;
            template.render(&fields)? + "\n"
        }
        None if args.format == "json" => json(&build),
        None => pretty(&build),
    })
}

fn pretty(build: &BuildRecord) -> String {
    let command = &build.command;
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<14}{}", format!("{label}:"), clean(value));
        }
    };
    line("Name", &name(build));
    line("ID", &build.id);
    line("Context", &command.context);
    line("Dockerfile", &command.dockerfile);
    line("Target", command.target.as_deref().unwrap_or_default());
    line("Platform", &command.platform);
    line("Tags", &command.tags.join(", "));
    for (name, value) in &command.build_args {
        line("Build arg", &format!("{name}={value}"));
    }
    line("Started", &spec::format_time(build.began));
    line("Duration", &human::exact(build.duration));
    line("Status", status(build));
    match &build.status {
        BuildStatus::Ended(BuildEnd::Failed { error, place }) => {
            line("Error", error);
            line("Place", place.as_deref().unwrap_or_default());
        }
        BuildStatus::Ended(BuildEnd::Completed { image: Some(image) }) => line("Image", &image.to_string()),
        _ => {}
    }
    let (total, completed, cached) = counts(build);
    let percent = (cached * 100).checked_div(total).unwrap_or(0);
    line("Build steps", &format!("{completed}/{total} ({percent}% cached)"));
    text.push('\n');
    text.push_str(&steps(build));
    text
}

fn steps(build: &BuildRecord) -> String {
    let row = |(number, step): (usize, &StepRecord)| {
        vec![
            format!("#{}", number + 1),
            clean(&step.title.name),
            outcome(step).0.to_owned(),
            outcome(step).1.unwrap_or_default().to_owned(),
            step.ended.as_ref().map_or_else(|| "-".to_owned(), |(end, _)| human::exact(end.saturating_sub(step.began))),
        ]
    };
    let rows: Vec<_> = build.steps.iter().enumerate().map(row).collect();
    let table = human::table(&["STEP", "NAME", "STATUS", "CACHE KEY", "DURATION"], &rows);
    let mut text = String::new();
    // The first line is that of the headings; below each step stands why it ran.
    let steps = [None].into_iter().chain(build.steps.iter().map(Some));
    for (line, step) in table.lines().zip(steps) {
        let _ = writeln!(text, "{line}");
        for why in step.into_iter().flat_map(|step| reasons::lines(&step.reasons, outcome(step).1.is_some())) {
            let _ = writeln!(text, "         {why}");
        }
    }
    if let Some(why) = &build.untraced {
        let _ = writeln!(text, "{}", reasons::untraced(why));
    }
    text
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected<'a> {
    name: String,
    #[serde(rename = "Ref")]
    id: &'a str,
    context: &'a str,
    dockerfile: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    platform: &'a str,
    tags: &'a [String],
    build_args: Vec<NameValue<'a>>,
    started_at: String,
    /// In nanoseconds, as Go prints a duration.
    duration: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<InspectedError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Digest>,
    num_completed_steps: usize,
    num_total_steps: usize,
    num_cached_steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    untraced: Option<&'a str>,
    steps: Vec<InspectedStep<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NameValue<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedError<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedStep<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Digest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn json(build: &BuildRecord) -> String {
    let command = &build.command;
    let (num_total_steps, num_completed_steps, num_cached_steps) = counts(build);
    let (error, image) = match &build.status {
        BuildStatus::Ended(BuildEnd::Failed { error, place }) => {
            (Some(InspectedError { message: error, place: place.as_deref() }), None)
        }
        BuildStatus::Ended(BuildEnd::Completed { image }) => (None, *image),
        _ => (None, None),
    };
    let inspected = Inspected {
        name: name(build),
        id: &build.id,
        context: &command.context,
        dockerfile: &command.dockerfile,
        target: command.target.as_deref(),
        platform: &command.platform,
        tags: &command.tags,
        build_args: command.build_args.iter().map(|(name, value)| NameValue { name, value }).collect(),
        started_at: spec::format_time(build.began),
        duration: u64::try_from(build.duration.as_nanos()).unwrap_or(u64::MAX),
        status: status(build),
        error,
        image,
        num_completed_steps,
        num_total_steps,
        num_cached_steps,
        untraced: build.untraced.as_deref(),
        steps: build.steps.iter().map(|step| step_json(build, step)).collect(),
    };
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string_pretty(&inspected).map(|text| text + "\n").unwrap_or_default()
}

fn step_json<'a>(build: &BuildRecord, step: &'a StepRecord) -> InspectedStep<'a> {
    let time = |after| spec::format_time(build.began.checked_add(after).unwrap_or(build.began));
    let (status, cache_key) = outcome(step);
    InspectedStep {
        name: &step.title.name,
        digest: step.title.digest,
        line: step.title.line,
        started_at: time(step.began),
        completed_at: step.ended.as_ref().map(|(end, _)| time(*end)),
        status,
        cache_key,
        layer: step.layer,
        reasons: step.reasons.iter().map(ReasonJson::capitalised).collect(),
        error: match &step.ended {
            Some((_, StepEnd::Failed(error))) => Some(error),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_build_is_told_whole() {
        insta::assert_snapshot!(pretty(&sample()));
        insta::assert_snapshot!(json(&sample()));
    }
}
