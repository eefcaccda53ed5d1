//! `kiln version`

use kiln_solver::Platform;

use crate::error::CliError;
use crate::terminal;

/// Print the version of kiln
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

/// Prints it.
pub(super) fn run(_args: &Args) -> Result<(), CliError> {
    terminal::print(&format!("kiln {} {}\n", env!("CARGO_PKG_VERSION"), Platform::host()))
}
