//! What every command ends with when it does not succeed: a kind, a message, hints and an exit code.

use std::error::Error;
use std::fmt;

/// Whose turn it is to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was asked for cannot be done: a wrong Dockerfile, an unknown image, a command that failed.
    User,
    /// The command line itself is wrong.
    Usage,
    /// The machine does not let kiln do it: permissions, a full disk, a network that is down.
    Environment,
    /// kiln did something that it never should.
    Bug,
    /// A signal asked for it.
    Interrupted,
    /// The command that kiln was to run ended with this code, or could not be run, which a shell tells by it.
    Command(u8),
}

/// The one error type of the command line.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Whose turn it is.
    pub(crate) kind: Kind,
    /// What went wrong; empty if everything has been said already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
    /// Where in a Dockerfile, as `FILE:LINE`.
    pub(crate) place: Option<String>,
    /// What went wrong in one line, where it has been said already.
    told: String,
}

impl CliError {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), place: None, told: String::new() }
    }

    /// Something that the user can set right.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    /// A command line that cannot be understood.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something that the machine does not allow.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// Something that should never happen.
    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
            .hint("this is a bug in kiln: please report it together with the command and its output")
    }

    /// The end of a command that a signal stopped.
    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "the build was cancelled; the steps that finished stay cached")
    }

    /// The end of a command that whoever called it stopped.
    pub(crate) fn stopped(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// A user error whose explanation has been printed already; `told` is what it comes down to.
    pub(crate) fn reported(told: impl Into<String>) -> Self {
        Self { told: told.into(), ..Self::new(Kind::User, "") }
    }

    /// The end of a command that kiln was to run, and that has said itself what there is to say.
    pub(crate) fn command(code: i32) -> Self {
        Self::new(Kind::Command(u8::try_from(code).unwrap_or(1)), "")
    }

    /// An error of a library, with everything behind it.
    pub(crate) fn from_error(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }

    /// Says what was going on.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Says where in a Dockerfile it went wrong, the line counted from 1.
    pub(crate) fn at(mut self, file: &str, line: usize) -> Self {
        self.place = Some(format!("{file}:{line}"));
        self
    }

    /// What went wrong in one line, whether it is still to be said or not.
    pub(crate) fn summary(&self) -> &str {
        if self.message.is_empty() { &self.told } else { &self.message }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::User | Kind::Environment | Kind::Bug => 1,
            Kind::Usage => 2,
            Kind::Interrupted => 130,
            Kind::Command(code) => code,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for CliError {}

/// The messages of an error and of its causes in one line. A cause that the message above it quotes already
/// is not said twice, and what the operating system says is put as the rest is.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = Some(error);
    while let Some(error) = current {
        let message = error.to_string();
        let plain = error.downcast_ref::<std::io::Error>().map_or_else(|| message.clone(), plain_io);
        if text.contains(&message) {
            text = text.replace(&message, &plain);
        } else if !text.contains(&plain) {
            text.push_str(": ");
            text.push_str(&plain);
        }
        current = error.source();
    }
    text
}

/// An `io::Error` with what was tried and on which file.
pub(crate) fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> CliError {
    use std::io::ErrorKind;
    let message = format!("cannot {what} `{}`: {}", path.display(), plain_io(error));
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            CliError::user(message)
        }
        _ => CliError::environment(message),
    }
}

/// The message of an `io::Error` without ` (os error 2)`, in lower case.
pub(crate) fn plain_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(message, _)| message);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layered(&'static str, Option<Box<Layered>>);

    impl fmt::Display for Layered {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Layered {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|error| error as _)
        }
    }

    #[test]
    fn causes_are_said_once() {
        let error = Layered("outer: inner", Some(Box::new(Layered("inner", Some(Box::new(Layered("root", None)))))));
        assert_eq!(chain(&error), "outer: inner: root");
    }

    #[test]
    fn system_errors_are_put_as_the_rest_is() {
        #[derive(Debug)]
        struct Failed(std::io::Error);
        impl fmt::Display for Failed {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "cannot write `x`: {}", self.0)
            }
        }
        impl Error for Failed {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Failed(std::io::Error::from_raw_os_error(28));
        assert_eq!(chain(&error), "cannot write `x`: no space left on device");
    }

    #[test]
    fn system_errors_read_like_the_rest() {
        assert_eq!(plain_io(&std::io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
