//! Sees to the terminal when kiln is killed while it is lent: nobody can do that for himself. It is kiln once more, in a
//! process of its own that does nothing but wait.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The name (`argv[0]`) under which `main` calls [`main`] and nothing else.
pub(crate) const GUARD_NAME: &str = "kiln-terminal";

/// A guard at work, until this is dropped.
pub(super) struct Guard {
    process: Child,
    socket: UnixStream,
}

impl Guard {
    /// Starts one and waits until it knows how the terminal is now.
    pub(super) fn start() -> std::io::Result<Self> {
        let (mut socket, theirs) = UnixStream::pair()?;
        let terminal = std::io::stdin().as_fd().try_clone_to_owned()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(GUARD_NAME).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(terminal).stderr(Stdio::null());
        let process = command.spawn()?;
        // Its end of the socket, of which none may be left here.
        drop(command);
        // Where it does not come to that, there is none.
        socket.read_exact(&mut [0])?;
        Ok(Self { process, socket })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.socket.write_all(b"thanks");
        let _ = self.process.wait();
    }
}

/// The guard's whole life. The socket is its standard input and the terminal its standard output.
pub(crate) fn main() -> ExitCode {
    // Out of the terminal's session: its signals are not for us, and we may set it whoever is in front there.
    let _ = rustix::process::setsid();
    match wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn wait() -> std::io::Result<()> {
    let terminal = std::io::stdout();
    let saved = tcgetattr(&terminal)?;
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.write_all(b"r")?;
    if socket.read(&mut [0])? > 0 {
        return Ok(());
    }
    // A shell that was quicker has it as it wants it.
    let mut raw = saved.clone();
    raw.make_raw();
    if modes(&tcgetattr(&terminal)?) == modes(&raw) {
        tcsetattr(&terminal, OptionalActions::Now, &saved)?;
    }
    Ok(())
}

/// What tells whether a terminal is raw.
fn modes(terminal: &Termios) -> impl PartialEq {
    (terminal.input_modes, terminal.output_modes, terminal.control_modes, terminal.local_modes)
}
