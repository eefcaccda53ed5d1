//! `kiln du`

use std::time::SystemTime;

use kiln_cache::{Filter, Held, Usage, UsageKind};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::familiar;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// Show what the store takes of the disk
///
/// Each layer, blob, cache mount and so on with its size and who needs it. RECLAIMABLE is what `kiln prune --all` would
/// take.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Show whole IDs, and every step that needs a layer
    #[arg(long, short = 'v')]
    verbose: bool,

    /// Only what this says, as with `kiln prune`: `type=layer`, `id=ID`, `shared`, …; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print JSON: an object for each thing, in an array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    size: u64,
    reclaimable: bool,
    fetched: bool,
    in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    images: Vec<&'a str>,
    steps: Vec<&'a str>,
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let mut filters = args.filter.iter().map(|text| super::prune::parse_filter(text));
    let filter = filters.try_fold(Filter::default(), |all, filter| filter.map(|filter| all.and(filter)))?;
    let mut usage = store.usage().map_err(|error| store_error(&error))?;
    usage.retain(|usage| filter.matches(usage));
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
    for (label, size) in [
        ("In images", sum(&mut usage.iter().filter(|usage| usage.is_in_image()))),
        ("Cache", sum(&mut usage.iter().filter(|usage| usage.is_cache()))),
        ("Reclaimable", sum(&mut usage.iter().filter(|usage| usage.is_reclaimable()))),
        ("Total", sum(&mut usage.iter())),
    ] {
        let gap = if label == "In images" { "\n" } else { "" };
        text.push_str(&format!("{gap}{:<15}{size}\n", format!("{label}:")));
    }
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
            UsageKind::CacheMount => format!("cache mount `{}`", crate::progress::clean(&usage.description)),
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
            description: &usage.description,
            size: usage.size,
            reclaimable: usage.is_reclaimable(),
            fetched: usage.is_fetched,
            in_use: usage.held.contains(&Held::Build),
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
