//! `kiln du`: [`list`] makes lines and blocks of what the store has, [`json`] an array for programs.

mod json;
mod list;

use std::time::SystemTime;

use kiln_cache::{Filter, Usage};

use crate::environment::Environment;
use crate::error::CliError;
use crate::session::{Session, store_error};
use crate::template::list::Format;
use crate::{human, terminal};

pub(super) use list::id;

/// Show what the store takes of the disk
///
/// Each layer, blob, cache mount and so on with its size and who needs it. RECLAIMABLE is what `kiln prune --all` would
/// take.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Show all of each thing in lines of its own: the same as `--format=pretty`
    #[arg(long, short = 'v', conflicts_with = "format")]
    verbose: bool,

    /// Only what this says, as with `kiln prune`: `type=layer`, `id=ID`, `parents=ID`, `description~=PATTERN`,
    /// `shared`, …; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// `table`, `pretty`, `table TEMPLATE`, `json` (one object a line) or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print JSON: an object for each thing, in an array, with sizes in bytes
    #[arg(long, conflicts_with_all = ["verbose", "format"])]
    json: bool,
}

/// How it is printed.
enum Form {
    Table,
    Blocks,
    Json,
    Template(Format),
}

impl Args {
    fn form(&self) -> Result<Form, CliError> {
        Ok(match self.format.as_deref() {
            _ if self.json => Form::Json,
            Some("pretty") => Form::Blocks,
            None if self.verbose => Form::Blocks,
            None | Some("" | "table") => Form::Table,
            Some(text) => Form::Template(Format::parse(Some(text), "")?),
        })
    }
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let form = args.form()?;
    let store = Session::open(environment)?.store;
    let mut filters = args.filter.iter().map(|text| super::prune::parse_filter(text));
    let filter = filters.try_fold(Filter::default(), |all, filter| filter.map(|filter| all.and(filter)))?;
    let mut usage = store.usage().map_err(|error| store_error(&error))?;
    usage.retain(|usage| filter.matches(usage));
    let now = SystemTime::now();
    terminal::print(&match form {
        Form::Json => json::show(&usage)?,
        Form::Template(format) => list::show(&usage, &format, now)?,
        Form::Blocks => list::blocks(&usage, now) + &totals(&usage),
        Form::Table => list::table(&usage, now) + &totals(&usage),
    })
}

fn totals(usage: &[Usage]) -> String {
    let sum = |usage: &mut dyn Iterator<Item = &Usage>| human::size(usage.map(|usage| usage.size).sum());
    let mut text = "\n".to_owned();
    for (label, size) in [
        ("In images", sum(&mut usage.iter().filter(|usage| usage.is_in_image()))),
        ("Cache", sum(&mut usage.iter().filter(|usage| usage.is_cache()))),
        ("Reclaimable", sum(&mut usage.iter().filter(|usage| usage.is_reclaimable()))),
        ("Total", sum(&mut usage.iter())),
    ] {
        text.push_str(&format!("{:<15}{size}\n", format!("{label}:")));
    }
    text
}
