//! `kiln du`

use std::time::SystemTime;

use kiln_cache::{Held, Usage, UsageKind};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::familiar;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// Show what the store takes of the disk
///
/// Each layer, blob and cache mount with its size and who needs it. RECLAIMABLE is what `kiln prune --all` would take.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Show whole IDs, and every step that needs a layer
    #[arg(long, short = 'v')]
    verbose: bool,

    /// Print JSON: an object for each thing, in an array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    id: &'a str,
    size: u64,
    reclaimable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    images: Vec<&'a str>,
    steps: Vec<&'a str>,
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let usage = store.usage().map_err(|error| store_error(&error))?;
    if args.json {
        return terminal::print(&json(&usage)?);
    }
    let now = SystemTime::now();
    let row = |usage: &Usage| {
        vec![
            id(usage, args.verbose),
            usage.kind.name().to_owned(),
            human::size(usage.size),
            if usage.is_reclaimable() { "true" } else { "false" }.to_owned(),
            usage.used.map(|used| ago(used, now)).unwrap_or_default(),
            reason(usage, args.verbose),
        ]
    };
    let rows: Vec<Vec<String>> = usage.iter().map(row).collect();
    let mut text = human::table(&["ID", "TYPE", "SIZE", "RECLAIMABLE", "LAST USED", "NEEDED BY"], &rows);
    let sum = |usage: &mut dyn Iterator<Item = &Usage>| human::size(usage.map(|usage| usage.size).sum());
    let reclaimable = sum(&mut usage.iter().filter(|usage| usage.is_reclaimable()));
    text.push_str(&format!("\nReclaimable:   {reclaimable}\nTotal:         {}\n", sum(&mut usage.iter())));
    terminal::print(&text)
}

fn ago(time: SystemTime, now: SystemTime) -> String {
    format!("{} ago", human::duration(now.duration_since(time).map_or(0, |age| age.as_secs())))
}

/// How a thing is shown.
pub(super) fn id(usage: &Usage, whole: bool) -> String {
    match usage.id.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ if whole => usage.id.clone(),
        _ => human::ellipsis(&usage.id, 24),
    }
}

fn reason(usage: &Usage, whole: bool) -> String {
    let name = |held: &Held| match held {
        Held::Image(name) => familiar(name),
        Held::Step(name) => crate::progress::clean(name),
        Held::Build => "a running build".to_owned(),
    };
    if usage.held.is_empty() {
        return match usage.kind {
            UsageKind::Layer | UsageKind::Blob if usage.is_fetched => "fetched with a base image".to_owned(),
            _ => String::new(),
        };
    }
    match (&usage.held[..], whole) {
        ([first, rest @ ..], false) if !rest.is_empty() => {
            format!("{} and {} more", human::ellipsis(&name(first), 48), rest.len())
        }
        (all, _) => all.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

fn json(usage: &[Usage]) -> Result<String, CliError> {
    let row = |usage| -> Row<'_> {
        let usage: &Usage = usage;
        let images = usage.held.iter().filter_map(|held| match held {
            Held::Image(name) => Some(name.as_str()),
            Held::Step(_) | Held::Build => None,
        });
        let steps = usage.held.iter().filter_map(|held| match held {
            Held::Step(name) => Some(name.as_str()),
            Held::Image(_) | Held::Build => None,
        });
        Row {
            kind: usage.kind.name(),
            id: &usage.id,
            size: usage.size,
            reclaimable: usage.is_reclaimable(),
            last_used: usage.used.map(kiln_image::spec::format_time),
            images: images.collect(),
            steps: steps.collect(),
        }
    };
    let rows: Vec<Row<'_>> = usage.iter().map(row).collect();
    let mut text = serde_json::to_string_pretty(&rows)
        .map_err(|error| CliError::bug(format!("the usage cannot be written as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}
