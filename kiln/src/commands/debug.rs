//! `kiln debug`

use kiln_executor::sandbox::ExitStatus;

use super::build;
use crate::environment::Environment;
use crate::error::CliError;

/// Open a shell in an image, or in a stage of a Dockerfile
///
/// Takes the name or ID of an image; or, spelled as a path (`.`) or together with `--target` or `--file`, a build
/// context, whose stage is built first. The shell has the image's environment, user and working directory. What is
/// changed in it is thrown away. With a COMMAND, that is run instead, and its exit code is kiln's.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(
    mut_arg("path", |path| path.index(1).value_name("IMAGE|PATH").help("The image, or the build context of the stage").long_help(None)),
    mut_arg("quiet", |flag| flag.help("Show nothing of how the stage is built")),
    mut_arg("labels", |flag| flag.hide(true)),
    mut_arg("outputs", |flag| flag.hide(true)),
    mut_arg("tags", |flag| flag.hide(true)),
    mut_arg("iidfile", |flag| flag.hide(true)),
    mut_arg("check", |flag| flag.hide(true)),
    mut_arg("call", |flag| flag.hide(true)),
    mut_arg("on_error", |flag| flag.hide(true)),
    mut_arg("explain", |flag| flag.hide(true)),
    after_help = "\
Examples:
  kiln debug app:1.0                         look around in an image
  kiln debug app:1.0 -- cat /etc/os-release  run a command in it
  kiln debug --target build .                build the stage `build`, and look around in it"
)]
pub(super) struct Args {
    #[command(flatten)]
    build: build::Args,

    /// Run this instead of a shell
    #[arg(value_name = "COMMAND", index = 2, last = true)]
    command: Vec<String>,
}

/// Runs the command or the shell; its end is that of kiln.
pub(super) fn run(args: Args, environment: &Environment) -> Result<(), CliError> {
    match build::enter(args.build, &args.command, environment)? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(code) => Err(CliError::command(code)),
        ExitStatus::Signal(number) => Err(CliError::command(128 + number)),
    }
}
