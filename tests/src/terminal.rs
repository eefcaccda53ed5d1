//! Somebody who sits at a terminal and runs kiln there.

use crate::Kiln;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};

/// How long one waits for something to appear.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// A kiln with a terminal as all of its standard streams.
pub struct Seat {
    child: Child,
    control: File,
    /// The end that kiln has.
    terminal: OwnedFd,
    /// All that was shown.
    screen: String,
    /// Up to where it has been looked at.
    seen: usize,
}

impl Seat {
    /// Starts kiln at a terminal of this size.
    pub fn take(kiln: Kiln, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let control = openpt(flags).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let terminal = ioctl_tiocgptpeer(&control, flags).unwrap();
        let mut command = kiln.env("TERM", "xterm").into_command();
        let end = || terminal.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end());
        let seat = Self::size(rows, columns);
        tcsetwinsize(&control, seat).unwrap();
        let child = child.spawn().expect("starting kiln");
        Self { child, control: control.into(), terminal, screen: String::new(), seen: 0 }
    }

    fn size(rows: u16, columns: u16) -> Winsize {
        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.control.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until a text appears behind what has been seen before.
    pub fn sees(&mut self, text: &str) {
        loop {
            if let Some(place) = self.screen[self.seen..].find(text) {
                self.seen += place + text.len();
                return;
            }
            assert!(self.read(), "kiln never showed `{text}`\n{}", self.screen);
        }
    }

    /// Makes the terminal another size, and tells kiln, which a terminal does for those whom it controls.
    pub fn resizes(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.control, Self::size(rows, columns)).unwrap();
        self.signal(rustix::process::Signal::WINCH);
    }

    /// Sends kiln a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether the terminal is as shells have it: what is typed is shown, and Ctrl-C is a signal.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits for kiln's end; yields all that was ever shown.
    pub fn leave(mut self) -> (ExitStatus, String) {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            // A terminal that is full keeps kiln from ending.
            self.read_for(Timespec { tv_sec: 0, tv_nsec: 5_000_000 });
        };
        while self.read_for(Timespec { tv_sec: 0, tv_nsec: 0 }) {}
        (status, std::mem::take(&mut self.screen))
    }

    fn read(&mut self) -> bool {
        self.read_for(PATIENCE)
    }

    fn read_for(&mut self, patience: Timespec) -> bool {
        let ready = poll(&mut [PollFd::new(&self.control, PollFlags::IN)], Some(&patience)).unwrap();
        let mut buffer = [0; 4096];
        match if ready == 0 { Ok(0) } else { self.control.read(&mut buffer) } {
            Ok(length @ 1..) => {
                self.screen.push_str(&String::from_utf8_lossy(&buffer[..length]));
                true
            }
            _ => false,
        }
    }
}

/// A test that fails leaves no kiln behind.
impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
