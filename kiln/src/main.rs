//! `kiln`: builds images from Dockerfiles. Here is the wiring; each subcommand has its file in [`commands`].

mod commands;
mod console;
mod container;
mod diagnostics;
mod engine;
mod environment;
mod error;
mod failure;
mod human;
mod local;
mod output;
mod packages;
mod progress;
mod prompt;
mod reasons;
mod registry;
mod session;
mod signals;
mod template;
mod terminal;
mod transfer;

use std::ffi::OsStr;
use std::process::ExitCode;

use kiln_executor::{network, sandbox};

/// musl's own allocator has one lock for all threads, and asks the kernel for memory again and again.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == OsStr::new(sandbox::HELPER_NAME) {
        sandbox::helper_main();
    }
    if name == OsStr::new(network::LAUNCHER_NAME) {
        network::launcher_main();
    }
    if name == OsStr::new(console::guard::GUARD_NAME) {
        return console::guard::main();
    }
    commands::main()
}
