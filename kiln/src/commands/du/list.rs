//! Lines and blocks for things in the store, with the fields that buildx gives to templates.

use std::fmt::Write as _;
use std::time::SystemTime;

use kiln_cache::{Held, Usage, UsageKind};
use serde::Serialize;

use crate::error::CliError;
use crate::human;
use crate::local::familiar;
use crate::progress::clean;
use crate::template::Value;
use crate::template::list::Format;

/// The fields and what stands above them.
const HEADINGS: [(&str, &str); 12] = [
    ("ID", "ID"),
    ("Parents", "PARENTS"),
    ("CreatedAt", "CREATED AT"),
    ("Mutable", "MUTABLE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Shared", "SHARED"),
    ("Size", "SIZE"),
    ("Description", "DESCRIPTION"),
    ("UsageCount", "USAGE COUNT"),
    ("LastUsedAt", "LAST USED"),
    ("Type", "TYPE"),
    ("NeededBy", "NEEDED BY"),
];

/// What kiln does not count.
const UNKNOWN: &str = "N/A";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    parents: Vec<String>,
    created_at: String,
    mutable: bool,
    reclaimable: bool,
    shared: bool,
    size: String,
    description: String,
    usage_count: &'static str,
    last_used_at: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    needed_by: String,
}

impl<'a> Fields<'a> {
    fn new(usage: &'a Usage, now: SystemTime) -> Self {
        Self {
            id: &usage.id,
            parents: usage.parents.iter().map(ToString::to_string).collect(),
            created_at: usage.created.map(human::moment).unwrap_or_default(),
            mutable: usage.is_mutable(),
            reclaimable: usage.is_reclaimable(),
            shared: usage.is_in_image(),
            size: human::size(usage.size),
            description: clean(&usage.description),
            usage_count: UNKNOWN,
            last_used_at: usage.used.map(|used| ago(used, now)).unwrap_or_default(),
            kind: usage.kind.name(),
            needed_by: reason(usage, true),
        }
    }
}

/// A line for each, as a format says.
pub(super) fn show(usage: &[Usage], format: &Format, now: SystemTime) -> Result<String, CliError> {
    let fields = |usage| Value::of(&Fields::new(usage, now));
    let lines: Option<Vec<Value>> = usage.iter().map(fields).collect();
    let lines = lines.ok_or_else(|| CliError::bug("the usage cannot be written as JSON"))?;
    Ok(format.render(&HEADINGS, &lines)?)
}

/// A table, with IDs and reasons cut short.
pub(super) fn table(usage: &[Usage], now: SystemTime) -> String {
    let row = |usage: &Usage| {
        vec![
            id(usage, false),
            usage.kind.name().to_owned(),
            human::size(usage.size),
            usage.is_reclaimable().to_string(),
            usage.used.map(|used| ago(used, now)).unwrap_or_default(),
            reason(usage, false),
        ]
    };
    let rows: Vec<Vec<String>> = usage.iter().map(row).collect();
    human::table(&["ID", "TYPE", "SIZE", "RECLAIMABLE", "LAST USED", "NEEDED BY"], &rows)
}

/// A block for each, with nothing cut short.
pub(super) fn blocks(usage: &[Usage], now: SystemTime) -> String {
    let mut text = String::new();
    for (number, usage) in usage.iter().enumerate() {
        let fields = Fields::new(usage, now);
        let lines = [
            ("ID", fields.id.to_owned()),
            ("Parents", fields.parents.join(", ")),
            ("Created at", fields.created_at),
            ("Mutable", fields.mutable.to_string()),
            ("Reclaimable", fields.reclaimable.to_string()),
            ("Shared", fields.shared.to_string()),
            ("Size", fields.size),
            ("Description", fields.description),
            ("Last used", fields.last_used_at),
            ("Type", fields.kind.to_owned()),
            ("Needed by", fields.needed_by),
        ];
        if number > 0 {
            text.push('\n');
        }
        for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "{:<14}{value}", format!("{label}:"));
        }
    }
    text
}

fn ago(time: SystemTime, now: SystemTime) -> String {
    format!("{} ago", human::duration(now.duration_since(time).map_or(0, |age| age.as_secs())))
}

/// How a thing is shown.
pub(in crate::commands) fn id(usage: &Usage, whole: bool) -> String {
    match usage.id.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ if whole => usage.id.clone(),
        _ => human::ellipsis(&usage.id, 24),
    }
}

fn reason(usage: &Usage, whole: bool) -> String {
    let name = |held: &Held| match held {
        Held::Image(name) => familiar(name),
        Held::Step(name) => clean(name),
        Held::Build => "a running build".to_owned(),
    };
    if usage.held.is_empty() {
        return match usage.kind {
            UsageKind::Layer | UsageKind::Blob if usage.is_fetched => "fetched with a base image".to_owned(),
            UsageKind::CacheMount => format!("cache mount `{}`", clean(&usage.description)),
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
