//! The user's terminal, lent to a command in a container. While it is, it is raw: what is typed goes to the command's
//! own terminal, Ctrl-C included, and that has the size of this one. However kiln ends, the user has it back as it was:
//! see [`guard`].

pub(crate) mod guard;

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use kiln_executor::sandbox::{TerminalSize, TerminalSocket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use signal_hook::consts::SIGWINCH;
use signal_hook::low_level;

use crate::error::{CliError, plain_io};
use guard::Guard;

/// How the terminal was before it was lent, and who knows it, too.
static LENT: Mutex<Option<(Termios, Option<Guard>)>> = Mutex::new(None);

/// How much is passed on at once.
const BLOCK: usize = 16 * 1024;

/// Whether somebody sits at a terminal that can be lent.
pub(crate) fn is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// How large it is.
pub(crate) fn size() -> TerminalSize {
    let size = tcgetwinsize(std::io::stdout()).ok();
    size.map_or_else(TerminalSize::default, |size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Lends it to the command that `run` runs, whose terminal comes out of the socket.
pub(crate) fn lend<T>(socket: &TerminalSocket, run: impl FnOnce() -> T) -> Result<T, CliError> {
    let failed =
        |error: std::io::Error| CliError::environment(format!("cannot lend the terminal: {}", plain_io(&error)));
    let resized = Resized::watch().map_err(failed)?;
    let _raw = Raw::enter().map_err(|error| failed(error.into()))?;
    thread::scope(|scope| {
        let pump = || {
            // The user's terminal is gone, or the command's: either way there is nobody left to tell.
            let _ = pump(socket, &resized.0);
        };
        thread::Builder::new().name("terminal".to_owned()).spawn_scoped(scope, pump).map_err(failed)?;
        Ok(run())
    })
}

/// Gives the terminal back, if it is lent: for ends that leave everything else as it is.
pub(crate) fn take_back() {
    let mut lent = LENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((saved, _guard)) = lent.take() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &saved);
    }
}

/// The terminal is raw for as long as this lives.
struct Raw;

impl Raw {
    fn enter() -> Result<Self, Errno> {
        // A panic ends kiln without a word to any guard.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                take_back();
                before(panic);
            }));
        });
        let saved = tcgetattr(std::io::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        // It is good to have, and no condition.
        let guard = Guard::start().ok();
        *LENT.lock().unwrap_or_else(PoisonError::into_inner) = Some((saved, guard));
        let raw = tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map(|()| Self);
        if raw.is_err() {
            take_back();
        }
        raw
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        take_back();
    }
}

/// Becomes readable when the terminal has another size.
struct Resized(UnixStream, signal_hook::SigId);

impl Resized {
    fn watch() -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok(Self(ours, low_level::pipe::register(SIGWINCH, theirs)?))
    }
}

impl Drop for Resized {
    fn drop(&mut self) {
        low_level::unregister(self.1);
    }
}

/// Passes on what is typed and what is shown, until one of the terminals is gone.
fn pump(socket: &TerminalSocket, resized: &UnixStream) -> std::io::Result<()> {
    let Some(theirs) = socket.receive()? else { return Ok(()) };
    // A command that reads nothing must not keep its output from being shown.
    rustix::io::ioctl_fionbio(&theirs, true)?;
    resize(&theirs);
    let mut typed: Vec<u8> = Vec::new();
    let mut buffer = vec![0; BLOCK];
    loop {
        let ready = wait(&theirs, resized, !typed.is_empty())?;
        if ready.resized {
            while rustix::io::read(resized, &mut buffer[..]).is_ok_and(|length| length > 0) {}
            resize(&theirs);
        }
        if ready.shown && show(&theirs, &mut buffer)? == Flow::End {
            return Ok(());
        }
        if ready.typed {
            match rustix::io::read(std::io::stdin(), &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => typed.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !typed.is_empty() {
            match rustix::io::write(&theirs, &typed) {
                Ok(length) => drop(typed.drain(..length)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Its last words are still to be shown.
                Err(_) => typed.clear(),
            }
        }
    }
}

struct Ready {
    shown: bool,
    typed: bool,
    resized: bool,
}

/// Waits until there is something to do. While something typed waits to be taken, no more is read.
fn wait(theirs: &OwnedFd, resized: &UnixStream, held: bool) -> Result<Ready, Errno> {
    let stdin = std::io::stdin();
    let wanted = if held { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut set = [
        PollFd::new(theirs, wanted),
        PollFd::new(resized, PollFlags::IN),
        PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
    ];
    let watched = if held { 2 } else { 3 };
    match poll(&mut set[..watched], None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let happened = |position: usize| !set[position].revents().is_empty();
    let shown = set[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
    Ok(Ready { shown, resized: happened(1), typed: !held && happened(2) })
}

#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

fn show(theirs: &OwnedFd, buffer: &mut [u8]) -> std::io::Result<Flow> {
    match rustix::io::read(theirs, &mut *buffer) {
        // Hung up: nobody holds the command's end any more.
        Ok(0) | Err(Errno::IO) => Ok(Flow::End),
        Ok(length) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&buffer[..length])?;
            stdout.flush()?;
            Ok(Flow::On)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(Flow::On),
        Err(error) => Err(error.into()),
    }
}

/// Gives the command's terminal the size of the user's.
fn resize(theirs: &OwnedFd) {
    let TerminalSize { rows, columns } = size();
    let _ = tcsetwinsize(theirs, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
}
