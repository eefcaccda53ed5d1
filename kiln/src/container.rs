//! Commands in containers: a shell for whoever sits at the terminal, or a command whose output is passed on.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_executor::Container;
use kiln_executor::sandbox::{ExitStatus, SandboxError};
use kiln_solver::{Cancel, LogStream};

use crate::console;
use crate::error::{CliError, Kind, plain_io};

/// The number of the signal of those who write to a pipe that nobody reads.
const SIGPIPE: i32 = 13;

/// Runs a command, or else a shell, at the user's terminal.
pub(crate) fn interact(container: &mut Container, words: &[String], stop: &Cancel) -> Result<ExitStatus, CliError> {
    if !words.is_empty() {
        return at_the_terminal(container, words, stop)?.map_err(|error| refused(&error));
    }
    for shell in container.shells() {
        match at_the_terminal(container, &shell, stop)? {
            Err(SandboxError::NotFound { .. } | SandboxError::NotExecutable { .. }) => {}
            ended => return ended.map_err(|error| refused(&error)),
        }
    }
    Err(CliError::user("there is no shell in here"))
}

fn at_the_terminal(
    container: &mut Container,
    words: &[String],
    stop: &Cancel,
) -> Result<Result<ExitStatus, SandboxError>, CliError> {
    let mut command = container.command(words.to_vec());
    let socket = command
        .with_terminal(console::size())
        .map_err(|error| CliError::environment(format!("cannot make a terminal: {}", plain_io(&error))))?;
    console::lend(&socket, || command.run(&|_, _| {}, stop))
}

/// Runs a command with nothing to read, and passes on what it prints.
pub(crate) fn run(container: &mut Container, words: &[String], stop: &Cancel) -> Result<ExitStatus, CliError> {
    let unread = AtomicBool::new(false);
    let pass_on = |stream: LogStream, bytes: &[u8]| {
        let written = match stream {
            LogStream::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
            LogStream::Stderr => std::io::stderr().write_all(bytes),
        };
        if written.is_err() && stream == LogStream::Stdout {
            unread.store(true, Ordering::SeqCst);
            stop.request();
        }
    };
    let ended = container.command(words.to_vec()).run(&pass_on, stop);
    if unread.into_inner() {
        return Ok(ExitStatus::Signal(SIGPIPE));
    }
    ended.map_err(|error| refused(&error))
}

fn refused(error: &SandboxError) -> CliError {
    let kind = match error {
        SandboxError::NotFound { .. } => Kind::Command(127),
        SandboxError::NotExecutable { .. } => Kind::Command(126),
        SandboxError::Cancelled => return CliError::interrupted(),
        _ => Kind::Environment,
    };
    CliError::from_error(kind, error)
}
