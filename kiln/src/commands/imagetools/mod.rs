//! `kiln imagetools`

mod create;
mod inspect;

use clap::Subcommand;
use kiln_image::{Images, Reference};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::progress::{Progress, Style};
use crate::registry;
use crate::session::Session;
use crate::signals::Interrupt;

/// Look at images of registries, and make one name of several
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Inspect(inspect::Args),
    Create(create::Args),
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    match &args.command {
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
    let configuration = environment.configuration()?;
    let session = Session::open(environment)?;
    let progress = Progress::new(style, environment.colour);
    progress.keep_up();
    let cancel = Cancel::new();
    let interrupt = Interrupt::watch(&cancel, environment.colour)?;
    let images = registry::images(&session, configuration, environment, &progress, &cancel);
    let result = work(&images, &progress, &cancel);
    progress.finish();
    result.map_err(|error| if interrupt.is_set() { CliError::stopped(cancelled) } else { error })
}

fn reference(text: &str) -> Result<Reference, CliError> {
    Reference::parse(text).map_err(|error| CliError::from_error(Kind::User, &error))
}
