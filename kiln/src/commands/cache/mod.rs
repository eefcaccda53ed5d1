//! `kiln cache`

mod export_mounts;
mod import_mounts;

use clap::Subcommand;
use kiln_cache::{MountWatch, Store, StoreError};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::progress::{self, Progress, Style};
use crate::session::{Session, store_error};
use crate::signals::Interrupt;

/// Carry cache mounts from one machine to another
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    ExportMounts(export_mounts::Args),
    ImportMounts(import_mounts::Args),
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    match &args.command {
        Command::ExportMounts(args) => export_mounts::run(args, environment),
        Command::ImportMounts(args) => import_mounts::run(args, environment),
    }
}

/// Works with the cache mounts of the store, as a group of its own of what is shown.
fn with_mounts<T>(
    title: &str,
    quiet: bool,
    environment: &Environment,
    work: impl FnOnce(&Store, &MountWatch<'_>, &dyn Fn(&str)) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let configuration = environment.configuration()?;
    let session = Session::open(environment)?;
    session.store.limit_archives(configuration.archives.limits());
    let progress = Progress::new(Style::for_transfers(quiet, environment), environment.colour);
    progress.keep_up();
    let cancel = Cancel::new();
    let interrupt = Interrupt::watch(&cancel, environment.colour)?;
    let result = progress.during(title, |group| {
        let note = |text: &str| progress.note(group, text);
        let on_wait = |id: &str| note(&format!("waiting for a build that has the cache mount `{}`", shown(id)));
        work(&session.store, &MountWatch { cancel: &cancel, on_wait: &on_wait }, &note)
    });
    progress.finish();
    result.map_err(|error| if interrupt.is_set() { CliError::interrupted() } else { error })
}

/// An id as a Dockerfile has it: the step graph has it behind an empty namespace and a slash, as BuildKit's.
fn shown(id: &str) -> String {
    progress::clean(id.strip_prefix('/').unwrap_or(id))
}

/// An error of the store, with whose turn it is.
fn mount_error(error: &StoreError) -> CliError {
    match error {
        StoreError::NoMount(_) | StoreError::NoMounts(_) | StoreError::Archive(_) => {
            CliError::from_error(Kind::User, error)
        }
        _ => store_error(error),
    }
}
