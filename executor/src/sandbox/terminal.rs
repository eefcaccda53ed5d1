//! Terminals for commands. A command that wants one finds it in the `/dev/pts` of its own sandbox, as under Docker: so
//! that programs find it by name, and nothing of the machine's own terminals is in reach.
//!
//! The command makes it just before it becomes itself, and sends the other end over a socket that went along with the
//! request. Who reads and writes there is not the sandbox's business.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::spec::{FileIndex, RunSpec, Terminal, TerminalSize};

/// Where the other end of a command's terminal comes out.
#[derive(Debug)]
pub struct TerminalSocket(OwnedFd);

impl TerminalSocket {
    /// Gives a command that has not been started yet a terminal of this size.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn attach(spec: &mut RunSpec, size: TerminalSize) -> io::Result<Self> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let index = u32::try_from(spec.files.len()).map_err(|_| Errno::MFILE)?;
        spec.files.push(Arc::new(theirs));
        spec.terminal = Some(Terminal { socket: FileIndex(index), size });
        Ok(Self(ours))
    }

    /// The other end of the terminal, from which the command's output is read and to which its input is written.
    /// `None` where the command has none, as it never came to be. Waits for it; the socket becomes readable when it is
    /// there.
    ///
    /// # Errors
    /// When it cannot be received.
    pub fn receive(&self) -> io::Result<Option<OwnedFd>> {
        let mut byte = [0_u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        let rights = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        Ok(rights)
    }
}

impl AsFd for TerminalSocket {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes the terminal of this process, which must be inside the sandbox already and lead a session, and sends the other
/// end away. Yields its own end.
pub(super) fn make(terminal: &Terminal, files: &[Arc<OwnedFd>]) -> Result<OwnedFd, Errno> {
    let socket = usize::try_from(terminal.socket.0).ok().and_then(|index| files.get(index)).ok_or(Errno::BADF)?;
    // `/dev` is the sandbox's own: no image has a say in what this leads to.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let other = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&other)?;
    let own = rustix::pty::ioctl_tiocgptpeer(&other, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let TerminalSize { rows, columns } = terminal.size;
    rustix::termios::tcsetwinsize(&own, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    rustix::process::ioctl_tiocsctty(&own)?;
    send(socket, &other)?;
    Ok(own)
}

fn send(socket: &OwnedFd, file: &OwnedFd) -> Result<(), Errno> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::TOOBIG);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(b"t")], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
