//! Questions to whoever sits at the terminal.

use std::io::{IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::error::{CliError, plain_io};

const END_OF_TEXT: u8 = 0x03;
const END_OF_TRANSMISSION: u8 = 0x04;
const BACKSPACES: [u8; 2] = [0x08, 0x7f];
const ERASE_LINE: u8 = 0x15;

/// Whether there is somebody to ask.
pub(crate) fn is_possible() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks for a line.
pub(crate) fn line(question: &str) -> Result<String, CliError> {
    ask(question)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| failed(&error))?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that is not shown while it is typed.
pub(crate) fn secret(question: &str) -> Result<String, CliError> {
    ask(question)?;
    let typed = {
        let _hidden = Hidden::enter().map_err(|error| failed(&error.into()))?;
        type_line(&mut next_byte)
    };
    // The end of the line was not shown either.
    let _ = std::io::stderr().write_all(b"\n");
    let typed = typed?.ok_or_else(|| CliError::stopped("nothing was done"))?;
    String::from_utf8(typed).map_err(|_| CliError::user("what was typed is not valid UTF-8"))
}

fn ask(question: &str) -> Result<(), CliError> {
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(|error| failed(&error))
}

fn failed(error: &std::io::Error) -> CliError {
    CliError::environment(format!("cannot ask at the terminal: {}", plain_io(error)))
}

fn next_byte() -> Result<Option<u8>, CliError> {
    let mut byte = [0];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(std::io::stdin(), &mut byte));
    let count = count.map_err(|error| failed(&error.into()))?;
    Ok((count > 0).then_some(byte[0]))
}

/// Reads a line as a terminal would that shows nothing; `None` where it was broken off.
fn type_line(next: &mut dyn FnMut() -> Result<Option<u8>, CliError>) -> Result<Option<Vec<u8>>, CliError> {
    let mut typed = Vec::new();
    loop {
        match next()? {
            None | Some(b'\n' | b'\r') => return Ok(Some(typed)),
            Some(END_OF_TEXT) => return Ok(None),
            Some(END_OF_TRANSMISSION) if typed.is_empty() => return Ok(None),
            Some(ERASE_LINE) => typed.clear(),
            Some(byte) if BACKSPACES.contains(&byte) => {
                // A letter may be several bytes.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            Some(byte) => typed.push(byte),
        }
    }
}

/// The terminal shows nothing, and leaves all keys to kiln, for as long as this lives.
struct Hidden(Termios);

impl Hidden {
    fn enter() -> Result<Self, rustix::io::Errno> {
        let saved = tcgetattr(std::io::stdin())?;
        let mut hidden = saved.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &hidden)?;
        Ok(Self(saved))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_they_do_elsewhere() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"secret\nmore", Some("secret")),
            (b"secret\r", Some("secret")),
            (b"sec", Some("sec")),
            (b"wrong\x15right\n", Some("right")),
            ("a\u{e4}\x7fb\n".as_bytes(), Some("ab")),
            (b"\x08x\n", Some("x")),
            (b"sec\x03", None),
            (b"\x04", None),
        ];
        for (bytes, expected) in cases {
            let mut rest = bytes.iter().copied();
            let typed = type_line(&mut || Ok(rest.next())).unwrap();
            assert_eq!(typed.as_deref(), expected.map(str::as_bytes), "{bytes:?}");
        }
    }
}
