//! `kiln`: builds images from Dockerfiles. Here is the wiring; each subcommand has its file in [`commands`].

mod commands;
mod console;
mod container;
mod diagnostics;
mod environment;
mod error;
mod failure;
mod human;
mod local;
mod progress;
mod session;
mod signals;
mod terminal;

use std::ffi::OsStr;
use std::process::ExitCode;

use kiln_executor::sandbox;

fn main() -> ExitCode {
    if std::env::args_os().next().as_deref() == Some(OsStr::new(sandbox::HELPER_NAME)) {
        sandbox::helper_main();
    }
    commands::main()
}
