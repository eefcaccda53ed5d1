//! `kiln cache`

mod export_mounts;
mod import_mounts;

use clap::Subcommand;
use kiln_cache::{MountWatch, Store, StoreError};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::progress::{self, Style};
use crate::session::store_error;
use crate::transfer::Transfer;

/// Carry cache mounts from one machine to another
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    ExportMounts(export_mounts::Args),
    ImportMounts(import_mounts::Args),
}

/// Does it.
pub(super) fn run(command: &Command, environment: &Environment) -> Result<(), CliError> {
    match command {
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
    let transfer = Transfer::begin(Style::for_transfers(quiet, environment), environment)?;
    let result = transfer.progress.during(title, |group| {
        let note = |text: &str| transfer.progress.note(group, text);
        let on_wait = |id: &str| note(&format!("waiting for a build that has the cache mount `{}`", shown(id)));
        work(&transfer.session.store, &MountWatch { cancel: &transfer.cancel, on_wait: &on_wait }, &note)
    });
    transfer.end(result, CliError::interrupted())
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
