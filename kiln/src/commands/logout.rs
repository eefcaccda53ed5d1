//! `kiln logout`

use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::{registry, terminal};

/// Log out of a registry
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The registry: host and port
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let registry = registry::host_of(&args.registry)?;
    let (credentials, cancel) = (registry::credentials(environment), Cancel::new());
    let erased = credentials.erase(&registry, &cancel).map_err(|error| image_error(&error))?;
    // Files of other tools are theirs.
    if credentials.has(&registry, &cancel).map_err(|error| image_error(&error))? {
        let message = format!("another tool keeps credentials for {registry}, which kiln goes on using");
        terminal::warn(&message, environment.colour);
    }
    terminal::print(&if erased {
        format!("Removing login credentials for {registry}\n")
    } else {
        format!("Not logged in to {registry}\n")
    })
}
