//! One network namespace and the program that joins it to the machine's network, from kiln's side.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, CWD};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::programs::{Kind, Program};
use super::{LAUNCHER_NAME, NetworkSettings, shield};

/// A program that is not ready by then never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace with a way out. Dropping it ends the program.
pub(super) struct Uplink {
    namespace: Arc<OwnedFd>,
    /// The program's process; none where the namespace has none.
    process: Option<OwnedFd>,
}

/// Makes one. Whoever calls must keep its thread until the process has ended ([`Launched::wait`]): the process is
/// killed when the thread ends.
///
/// # Errors
/// Why it cannot be, in words.
pub(super) fn start(program: &Program, settings: &NetworkSettings) -> Result<(Uplink, Launched), String> {
    if !settings.root && program.kind != Kind::Nothing {
        rustix::fs::accessat(CWD, "/dev/net/tun", Access::READ_OK | Access::WRITE_OK, rustix::fs::AtFlags::empty())
            .map_err(|error| format!("`/dev/net/tun` cannot be opened: {error}"))?;
    }
    let mut launched = launch(program, settings).map_err(|error| error.to_string())?;
    let made = launched.finish(program, settings);
    match made {
        Ok(uplink) => Ok((uplink, launched)),
        Err(error) => {
            let _ = launched.child.kill();
            let _ = launched.child.wait();
            Err(match launched.last_words() {
                Some(words) => format!("{error}: {words}"),
                None => error.to_string(),
            })
        }
    }
}

/// A launcher at work, and then the program that it has become.
pub(super) struct Launched {
    child: Child,
    /// What the namespace comes over.
    socket: OwnedFd,
    /// What the program says that it is ready on.
    ready: OwnedFd,
    /// What it says else. As long as it runs there must be somebody who could read it.
    log: OwnedFd,
}

fn launch(program: &Program, settings: &NetworkSettings) -> io::Result<Launched> {
    let (socket, their_socket) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (ready, their_ready) = pipe_with(PipeFlags::CLOEXEC)?;
    // Nobody reads it any more once all is well; what does not fit is lost.
    let (log, their_log) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let child = Command::new("/proc/self/exe")
        .arg0(LAUNCHER_NAME)
        .arg(std::process::id().to_string())
        .arg(if settings.root { "root" } else { "user" })
        .arg(program.ready().to_string())
        .arg(&program.path)
        .args(program.arguments(settings))
        .env_clear()
        .stdin(Stdio::from(their_socket))
        .stdout(Stdio::from(their_ready))
        .stderr(Stdio::from(their_log))
        .spawn()?;
    Ok(Launched { child, socket, ready, log })
}

impl Launched {
    fn finish(&mut self, program: &Program, settings: &NetworkSettings) -> io::Result<Uplink> {
        let namespace = Arc::new(self.receive_namespace()?);
        if program.kind == Kind::Nothing {
            return Ok(Uplink { namespace, process: None });
        }
        self.wait_until_ready()?;
        let pid = Pid::from_child(&self.child);
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        shield::raise(pid, &process, settings.subnet).map_err(|error| {
            io::Error::other(format!("the host's loopback cannot be kept out of reach: {}", io::Error::from(error)))
        })?;
        Ok(Uplink { namespace, process: Some(process) })
    }

    /// Waits until it has ended.
    pub(super) fn wait(mut self) {
        let _ = self.child.wait();
    }

    fn receive_namespace(&self) -> Result<OwnedFd, Errno> {
        let mut byte = [0_u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        retry_on_intr(|| rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
        let files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        files.flatten().next().ok_or(Errno::PIPE)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.ready, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Err(io::Error::other("it does not get ready")),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::io::read(&self.ready, &mut [0; 64])? {
            0 => Err(io::Error::other("it ended at once")),
            _ => Ok(()),
        }
    }

    /// Why a program that has ended could not go on. What it says of the system's log is of no help.
    fn last_words(&self) -> Option<String> {
        let mut text = vec![0; 16 * 1024];
        let length = rustix::io::read(&self.log, &mut text[..]).ok()?;
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.contains("to syslog"));
        // Each line of pasta's begins with the time.
        let is_time = |c: char| c.is_ascii_digit() || c == '.';
        let without_time = |line: &str| match line.split_once(": ") {
            Some((time, rest)) if time.chars().all(is_time) => rest.to_owned(),
            _ => line.to_owned(),
        };
        lines.next_back().map(|line| without_time(line.trim()))
    }
}

impl Uplink {
    /// The network namespace.
    pub(super) fn namespace(&self) -> &Arc<OwnedFd> {
        &self.namespace
    }

    /// Whether its program still runs.
    pub(super) fn is_alive(&self) -> bool {
        let Some(process) = &self.process else { return true };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)) == Ok(0)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            // It may have ended by itself. The thread that started it waits for it.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
