//! `kiln imagetools`

mod create;
mod inspect;

use clap::Subcommand;
use kiln_image::{Images, Reference};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::progress::{Progress, Style};
use crate::transfer::Transfer;

/// Look at images of registries, and make one name of several
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    Inspect(inspect::Args),
    Create(create::Args),
}

/// Does it.
pub(super) fn run(command: &Command, environment: &Environment) -> Result<(), CliError> {
    match command {
        Command::Inspect(args) => inspect::run(args, environment),
        Command::Create(args) => create::run(args, environment),
    }
}

/// Works with registries, showing what moves; the words for its end are given by `cancelled`.
fn with_registries<T>(
    style: Style,
    environment: &Environment,
    cancelled: &str,
    work: impl FnOnce(&Images, &Progress, &Cancel) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let transfer = Transfer::begin(style, environment)?;
    let result = work(&transfer.images(), &transfer.progress, &transfer.cancel);
    transfer.end(result, CliError::stopped(cancelled))
}

fn reference(text: &str) -> Result<Reference, CliError> {
    Reference::parse(text).map_err(|error| CliError::from_error(Kind::User, &error))
}
