//! Running the programs of others: with a clear message where one is missing or fails.

use std::process::{Command, Output};

/// Runs a command and returns what it printed on stdout; panics with all that it printed where it fails.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{}", describe(command, &output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that may fail.
pub fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot run `{program}`: {error}; `make deps` installs what is missing"))
}

/// The command, its exit status and its output, to be read by a person.
pub fn describe(command: &Command, output: &Output) -> String {
    format!(
        "{command:?}\n{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
