//! `kiln history diff`
//!
//! [`compare`] finds what differs, [`print`] says it.

mod compare;
mod print;
#[cfg(test)]
mod tests;

use kiln_cache::Store;
use kiln_cache::history::BuildRecord;

use super::{build_error, find};
use crate::environment::Environment;
use crate::error::CliError;
use crate::session::{Session, store_error};
use crate::terminal;
use compare::Comparison;

/// Show what changed between two builds, and why steps ran
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The earlier build and the later one, by the beginning of their IDs or as `^N`, the build N before the last; one
    /// alone is compared with the one before it of the same context, Dockerfile and target [default: the last one]
    #[arg(value_name = "BUILD")]
    builds: Vec<String>,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Pretty, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Pretty,
    Json,
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let (was, is) = choose(&store, &args.builds)?;
    let comparison = Comparison::of(&was, &is);
    terminal::print(&match args.format {
        Format::Pretty => print::pretty(&comparison),
        Format::Json => print::json(&comparison),
    })
}

/// The builds to compare: two that are named; or one, or else the last, and the one before it of the same kind.
fn choose(store: &Store, named: &[String]) -> Result<(BuildRecord, BuildRecord), CliError> {
    let read = |reference: Option<&str>| {
        let id = find(store, reference)?;
        store.build(&id).map_err(|error| build_error(&error))
    };
    match named {
        [was, is] => Ok((read(Some(was))?, read(Some(is))?)),
        [] | [_] => {
            let is = read(named.first().map(String::as_str))?;
            let builds = store.builds().map_err(|error| store_error(&error))?;
            Ok((before(builds, &is)?, is))
        }
        _ => Err(CliError::usage("two builds can be compared, and no more")),
    }
}

/// The last build before this one that was asked for in the same way.
fn before(builds: Vec<BuildRecord>, is: &BuildRecord) -> Result<BuildRecord, CliError> {
    let kind = |build: &BuildRecord| {
        let command = &build.command;
        (command.context.clone(), command.dockerfile.clone(), command.target.clone())
    };
    let mut earlier = builds.into_iter().skip_while(|build| build.id != is.id).skip(1);
    earlier.find(|build| kind(build) == kind(is)).ok_or_else(|| {
        CliError::user(format!("there is no earlier build like `{}` to compare it with", is.id))
            .hint("name two builds; `kiln history` lists them")
    })
}
