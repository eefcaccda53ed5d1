//! `kiln history rm`

use kiln_cache::history::BuildStatus;

use super::{build_error, find};
use crate::environment::Environment;
use crate::error::CliError;
use crate::session::{Session, store_error};
use crate::terminal;

/// Forget builds, and what their steps printed
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The builds, by the beginnings of their IDs or as `^N`, the build N before the last
    #[arg(value_name = "BUILD", required_unless_present = "all")]
    builds: Vec<String>,

    /// All that have come to an end
    #[arg(long, conflicts_with = "builds")]
    all: bool,
}

/// Forgets them, and prints which they were.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let ids: Vec<String> = if args.all {
        let builds = store.builds().map_err(|error| store_error(&error))?;
        let ended = builds.into_iter().filter(|build| build.status != BuildStatus::Running);
        ended.map(|build| build.id).collect()
    } else {
        // All of them first: `^1` means something else once one is gone.
        args.builds.iter().map(|build| find(&store, Some(build))).collect::<Result<_, _>>()?
    };
    for id in ids {
        store.remove_build(&id).map_err(|error| build_error(&error))?;
        terminal::print(&format!("{id}\n"))?;
    }
    Ok(())
}
