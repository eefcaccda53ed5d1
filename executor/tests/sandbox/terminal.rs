//! Commands that have a terminal, with this program as the one who sits at it.

use std::fs::File;
use std::io::{Read, Write};

use kiln_executor::sandbox::{ExitStatus, RunSpec, SandboxError, TerminalSize, TerminalSocket, User};
use kiln_solver::Cancel;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::world::World;

const SIZE: TerminalSize = TerminalSize { rows: 17, columns: 91 };

/// Somebody at a terminal.
struct Seat {
    terminal: File,
    seen: String,
}

impl Seat {
    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is on the screen, and forgets all up to there.
    fn sees(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            let length = self.terminal.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn resizes(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).unwrap();
    }
}

/// Runs a command while somebody sits at its terminal; all that is on the screen when it has ended.
fn with_seat(
    world: &World,
    mut spec: RunSpec,
    at: impl FnOnce(&mut Seat),
) -> (Result<ExitStatus, SandboxError>, String) {
    let socket = TerminalSocket::attach(&mut spec, SIZE).unwrap();
    let sandbox = &world.sandbox;
    std::thread::scope(|scope| {
        let run = scope.spawn(move || sandbox.run(&spec, &|_, bytes| panic!("{bytes:?}"), &Cancel::new()));
        let mut seen = String::new();
        if let Some(terminal) = socket.receive().unwrap() {
            let mut seat = Seat { terminal: terminal.into(), seen };
            at(&mut seat);
            let mut buffer = [0; 1024];
            // Hung up: the error is how a terminal ends.
            while let Ok(length @ 1..) = seat.terminal.read(&mut buffer) {
                seat.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            seen = seat.seen;
        }
        (run.join().unwrap(), seen)
    })
}

pub fn a_terminal_is_the_sandboxs_own(world: &World) {
    let script = "busybox tty; busybox stty size; test -t 0 && test -t 1 && test -t 2 && echo all three; \
                  echo to > /dev/tty; ls /dev/pts | tr '\\n' ' '; exit 7";
    let (result, screen) = with_seat(world, world.spec(script), |_| {});
    assert_eq!(result.unwrap(), ExitStatus::Code(7));
    assert_eq!(screen, "/dev/pts/0\r\n17 91\r\nall three\r\nto\r\n0 ptmx ");
}

pub fn what_is_typed_is_read(world: &World) {
    let (result, screen) = with_seat(world, world.spec("read line; echo got $line; cat"), |seat| {
        seat.types("one two\n");
        seat.sees("got one two");
        seat.types("three\n");
        seat.sees("three\r\nthree\r\n");
        seat.types("\x04");
    });
    assert_eq!((result.unwrap(), &*screen), (ExitStatus::Code(0), ""));
}

pub fn an_interrupt_goes_to_the_command_in_front(world: &World) {
    let (result, _) = with_seat(world, world.command(&["/bin/sh", "-i"]), |seat| {
        // The sums tell what the command says from what is typed.
        let script = "trap 'echo caught $((1+1)); exit 3' INT; echo ready $((1+1)); while :; do sleep 0.05; done";
        seat.types(&format!("sh -c \"{}\"; echo code $?\n", script.replace('$', "\\$")));
        seat.sees("ready 2");
        seat.types("\x03");
        seat.sees("caught 2");
        seat.sees("code 3");
        seat.types("exit 5\n");
    });
    assert_eq!(result.unwrap(), ExitStatus::Code(5));
}

pub fn a_new_size_is_told(world: &World) {
    let script = "trap 'busybox stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done";
    let (result, _) = with_seat(world, world.spec(script), |seat| {
        seat.sees("ready");
        seat.resizes(40, 132);
        seat.sees("40 132");
    });
    assert_eq!(result.unwrap(), ExitStatus::Code(6));
}

pub fn a_user_owns_the_terminal(world: &World) {
    if world.single() {
        return;
    }
    let mut spec = world.spec("stat -c %u:%a /dev/pts/0; echo x > /dev/pts/0; echo y > /dev/stdout; id -u");
    spec.user = User { uid: 1000, gid: 1000, groups: vec![1000] };
    let (result, screen) = with_seat(world, spec, |_| {});
    assert_eq!((result.unwrap(), &*screen), (ExitStatus::Code(0), "1000:620\r\nx\r\ny\r\n1000\r\n"));
}

pub fn a_command_that_never_was_has_no_terminal(world: &World) {
    let (result, screen) = with_seat(world, world.command(&["nothing"]), |_| {});
    assert!(matches!(result, Err(SandboxError::NotFound { .. })), "{result:?}");
    assert_eq!(screen, "");
    let mut spec = world.spec("true");
    spec.root.lowers.insert(0, "/no/such/layer".into());
    let (result, _) = with_seat(world, spec, |_| panic!("there is no root to have a terminal in"));
    assert!(matches!(result, Err(SandboxError::Setup { .. })), "{result:?}");
}

pub fn processes_left_behind_do_not_hold_the_terminal(world: &World) {
    let script = "busybox setsid sleep 4000 & echo left";
    let (result, screen) = with_seat(world, world.spec(script), |_| {});
    assert_eq!((result.unwrap(), &*screen), (ExitStatus::Code(0), "left\r\n"));
}
