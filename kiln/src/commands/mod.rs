//! The command line: one file for each subcommand, with its flags and what it does.

pub(crate) mod build;
mod cache;
mod debug;
mod du;
mod fsck;
mod history;
mod images;
mod imagetools;
mod inspect;
mod load;
mod login;
mod logout;
mod prune;
mod pull;
mod push;
mod rmi;
mod save;
mod sbom;
mod tag;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::environment::Environment;
use crate::error::CliError;
use crate::terminal;

/// Build images from Dockerfiles: no daemon, no root
#[derive(Parser, Debug)]
#[command(name = "kiln", version, max_term_width = 100, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,

    /// Keep layers, images and the cache here [env: KILN_ROOT] [default: /var/lib/kiln for root,
    /// ~/.local/share/kiln otherwise]
    #[arg(long, global = true, help_heading = "Global options", value_name = "DIR")]
    root: Option<PathBuf>,

    /// Read this configuration [env: KILN_CONFIG] [default: ~/.config/kiln/kiln.toml, /etc/kiln/kiln.toml]
    #[arg(long, global = true, help_heading = "Global options", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Build(Box<build::Args>),
    Debug(Box<debug::Args>),
    Images(images::Args),
    #[command(subcommand)]
    Imagetools(imagetools::Command),
    Pull(pull::Args),
    Push(push::Args),
    Save(save::Args),
    Load(load::Args),
    Login(login::Args),
    Logout(logout::Args),
    Tag(tag::Args),
    Rmi(rmi::Args),
    Inspect(inspect::Args),
    Sbom(sbom::Args),
    History(history::Args),
    #[command(subcommand)]
    Cache(cache::Command),
    Du(du::Args),
    Prune(prune::Args),
    Fsck(fsck::Args),
    Version(version::Args),
}

/// Runs the command that the process was called with.
pub(crate) fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Also how `--help` and `--version` come back. Nobody to print to is no reason to fail otherwise.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let (result, colour) = match Environment::read(line.root, line.config) {
        Ok(environment) => (run(line.command, &environment), environment.colour),
        Err(error) => (Err(error), false),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::report(&error, colour);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, environment: &Environment) -> Result<(), CliError> {
    match command {
        Command::Build(args) => build::run(*args, environment),
        Command::Debug(args) => debug::run(*args, environment),
        Command::Images(args) => images::run(&args, environment),
        Command::Imagetools(command) => imagetools::run(&command, environment),
        Command::Pull(args) => pull::run(&args, environment),
        Command::Push(args) => push::run(&args, environment),
        Command::Save(args) => save::run(&args, environment),
        Command::Load(args) => load::run(&args, environment),
        Command::Login(args) => login::run(&args, environment),
        Command::Logout(args) => logout::run(&args, environment),
        Command::Tag(args) => tag::run(&args, environment),
        Command::Rmi(args) => rmi::run(&args, environment),
        Command::Inspect(args) => inspect::run(&args, environment),
        Command::Sbom(args) => sbom::run(&args, environment),
        Command::Fsck(args) => fsck::run(&args, environment),
        Command::History(args) => history::run(args, environment),
        Command::Cache(command) => cache::run(&command, environment),
        Command::Du(args) => du::run(&args, environment),
        Command::Prune(args) => prune::run(&args, environment),
        Command::Version(args) => version::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_anywhere() {
        for words in [["kiln", "--root", "/r", "images"], ["kiln", "images", "--root", "/r"]] {
            assert_eq!(CommandLine::try_parse_from(words).unwrap().root, Some(PathBuf::from("/r")));
        }
    }

    fn help(words: &[&str]) -> String {
        let all = words.iter().copied().chain(["-h"]);
        CommandLine::try_parse_from(all).unwrap_err().to_string()
    }

    #[test]
    fn help_is_short() {
        insta::assert_snapshot!(help(&["kiln"]));
        insta::assert_snapshot!(help(&["kiln", "build"]));
        insta::assert_snapshot!(help(&["kiln", "images"]));
        insta::assert_snapshot!(help(&["kiln", "history"]));
    }

    #[test]
    fn wrong_command_lines_are_explained() {
        let error = |words: &[&str]| {
            let error = CommandLine::try_parse_from(["kiln"].iter().chain(words)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
            error.to_string()
        };
        insta::assert_snapshot!(error(&["build", "--taget", "x", "."]));
        insta::assert_snapshot!(error(&["biuld", "."]));
        insta::assert_snapshot!(error(&["build"]));
        insta::assert_snapshot!(error(&["build", "--progress", "fancy", "."]));
    }
}
