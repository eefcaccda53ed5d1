//! `kiln du --json`: all that is known, for programs.

use kiln_cache::{Held, Usage};
use kiln_image::spec;
use serde::Serialize;

use crate::error::CliError;

#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<String>,
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

/// An object for each thing, in an array.
pub(super) fn show(usage: &[Usage]) -> Result<String, CliError> {
    let rows: Vec<Row<'_>> = usage.iter().map(row).collect();
    let mut text = serde_json::to_string_pretty(&rows)
        .map_err(|error| CliError::bug(format!("the usage cannot be written as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

fn row(usage: &Usage) -> Row<'_> {
    let images = usage.held.iter().filter_map(|held| match held {
        Held::Image(name) => Some(name.as_str()),
        Held::Step(_) | Held::Build => None,
    });
    Row {
        kind: usage.kind.name(),
        id: &usage.id,
        parents: usage.parents.iter().map(ToString::to_string).collect(),
        description: &usage.description,
        size: usage.size,
        reclaimable: usage.is_reclaimable(),
        fetched: usage.is_fetched,
        in_use: usage.held.contains(&Held::Build),
        last_used: usage.used.map(spec::format_time),
        images: images.collect(),
        steps: usage.steps().collect(),
    }
}
