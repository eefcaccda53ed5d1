//! The two ways out of kiln: data on stdout, talk on stderr.

use std::io::{ErrorKind, Write as _};

use anstyle::{AnsiColor, Style};

use crate::error::{self, CliError};
use crate::progress::Size;

/// Writes data to stdout. A reader that has seen enough (`kiln images | head -1`) is no error.
pub(crate) fn print(data: &str) -> Result<(), CliError> {
    print_bytes(data.as_bytes())
}

/// The same for what need not be text.
pub(crate) fn print_bytes(data: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::environment(format!("cannot write to stdout: {}", error::plain_io(&error)))),
    }
}

/// The size of the terminal that stderr is; the usual one where that cannot be told.
pub(crate) fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or(Size { rows: 24, columns: 80 }, |size| Size { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// Says something on stderr. That nobody listens is no reason to stop.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Says that something is not as it should be.
pub(crate) fn warn(message: &str, colour: bool) {
    say(&labelled("warning", AnsiColor::Yellow, message, colour));
}

/// Says what is good to know.
pub(crate) fn note(message: &str, colour: bool) {
    say(&labelled("note", AnsiColor::Cyan, message, colour));
}

/// Says why a command did not succeed, and what to do about it.
pub(crate) fn report(error: &CliError, colour: bool) {
    if !error.message.is_empty() {
        say(&explain(error, colour));
    }
}

fn explain(error: &CliError, colour: bool) -> String {
    // Libraries put what may help behind their message.
    let mut parts = error.message.split("\nhint: ");
    let mut text = labelled("error", AnsiColor::Red, parts.next().unwrap_or_default(), colour);
    for hint in parts.chain(error.hints.iter().map(String::as_str)) {
        text.push_str(&labelled("hint", AnsiColor::Cyan, hint, colour));
    }
    text
}

fn labelled(label: &str, colour: AnsiColor, message: &str, coloured: bool) -> String {
    let style = if coloured { Style::new().bold().fg_color(Some(colour.into())) } else { Style::new() };
    let message: Vec<String> = message.trim_end().lines().map(crate::progress::clean).collect();
    format!("{style}{label}{style:#}: {}\n", message.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_on_their_own_lines() {
        let error = CliError::user("no\nway\nhint: go around").hint("or stay");
        assert_eq!(explain(&error, false), "error: no\n  way\nhint: go around\nhint: or stay\n");
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        let error = CliError::user("a\x1b[2Jb");
        assert_eq!(explain(&error, true), "\x1b[1m\x1b[31merror\x1b[0m: ab\n");
    }
}
