//! `kiln history image`, and `kiln history IMAGE`

use std::time::SystemTime;

use kiln_image::{inspect, spec};
use kiln_solver::Digest;

use super::Listing;
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::{age, image_error};
use crate::progress::clean;
use crate::session::Session;
use crate::template::list::Format;
use crate::template::{TemplateError, Value};
use crate::{human, terminal};

/// What stands for the ID of an intermediate image: there are none.
const MISSING: &str = "<missing>";

/// Print the instructions that made an image, the last one first
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The image, by name or ID
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,

    #[command(flatten)]
    pub(super) listing: Listing,
}

const HEADINGS: [(&str, &str); 6] = [
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];
const COLUMNS: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// Prints them.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let Listing { quiet, no_trunc, format: text } = &args.listing;
    let format = Format::parse(text.as_deref(), COLUMNS)?;
    let store = Session::open(environment)?.store;
    let record = inspect::find(&store, &args.image).map_err(|error| image_error(&error))?;
    let image = inspect::config(&store, &record).map_err(|error| image_error(&error))?;
    let sizes = inspect::layer_sizes(&store, &record).map_err(|error| image_error(&error))?;
    let rows = rows(&record.id, &image.history, &sizes, SystemTime::now(), *no_trunc);
    terminal::print(&match *quiet && text.is_none() {
        true => rows.iter().map(|row| format!("{}\n", row.id)).collect(),
        false => show(&rows, &format)?,
    })
}

/// A line of the list.
struct Row {
    id: String,
    created: Option<String>,
    since: String,
    created_by: String,
    size: String,
    comment: String,
}

fn show(rows: &[Row], format: &Format) -> Result<String, TemplateError> {
    let fields = |row: &Row| {
        Value::fields([
            ("Comment", row.comment.clone()),
            ("CreatedAt", row.created.clone().unwrap_or_default()),
            ("CreatedBy", row.created_by.clone()),
            ("CreatedSince", row.since.clone()),
            ("ID", row.id.clone()),
            ("Size", row.size.clone()),
        ])
    };
    format.render(&HEADINGS, &rows.iter().map(fields).collect::<Vec<_>>())
}

fn rows(id: &Digest, history: &[spec::History], sizes: &[Option<u64>], now: SystemTime, whole: bool) -> Vec<Row> {
    let mut sizes = sizes.iter();
    let oldest_first = history.iter().map(|entry| {
        // Bytes of a layer that was never fetched are not known.
        let size = if entry.empty_layer { Some(0) } else { sizes.next().copied().flatten() };
        let created_by = clean(&entry.created_by.replace(['\t', '\n'], " "));
        Row {
            id: MISSING.to_owned(),
            created: entry.created.as_deref().and_then(spec::parse_time).map(spec::format_time),
            since: age(entry.created.as_deref(), now),
            created_by: if whole { created_by } else { human::ellipsis(&created_by, 45) },
            size: size.map_or_else(|| "N/A".to_owned(), human::size),
            comment: clean(&entry.comment),
        }
    });
    let mut rows: Vec<_> = oldest_first.collect();
    rows.reverse();
    if let Some(last) = rows.first_mut() {
        last.id = if whole { id.to_string() } else { id.short() };
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_instruction_comes_first() {
        let entry = |created_by: &str, empty_layer| spec::History {
            created: Some("1970-01-01T00:00:00Z".to_owned()),
            created_by: created_by.to_owned(),
            comment: "kiln".to_owned(),
            empty_layer,
            ..spec::History::default()
        };
        let long = "RUN /bin/sh -c apt-get update &&\tapt-get install --yes everything # kiln";
        let history = [entry("ADD rootfs /", false), entry(long, false), entry("CMD [\"sh\"]", true)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(120);
        let rows = rows(&Digest::of(b""), &history, &[Some(4_000_000), None], now, false);
        let shown = |format| show(&rows, &Format::parse(format, COLUMNS).unwrap()).unwrap();
        insta::assert_snapshot!(shown(None), @r#"
        IMAGE          CREATED         CREATED BY                                      SIZE      COMMENT
        e3b0c44298fc   2 minutes ago   CMD ["sh"]                                      0B        kiln
        <missing>      2 minutes ago   RUN /bin/sh -c apt-get update && apt-get ins…   N/A       kiln
        <missing>      2 minutes ago   ADD rootfs /                                    4MB       kiln
        "#);
        let lines = shown(Some("{{.ID}} {{.CreatedAt}}"));
        assert_eq!(lines.lines().next(), Some("e3b0c44298fc 1970-01-01T00:00:00Z"));
    }
}
