//! The helper: a small process with one thread that starts, watches and kills commands.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, IoSliceMut};
use rustix::mount::MountPropagationFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::UnshareFlags;
use zeroize::Zeroizing;

use super::child::become_command;
use super::filter::Filter;
use super::guard::{Devices, Guard};
use super::protocol::{Channels, Failure, MAX_FILES, Reply, Request, failed};
use super::sys::{self, Cloned};
use super::{ControlGroup, ExitStatus, Network, Phase, RunSpec, groups, inherit, seal};

/// A command that runs.
struct Running {
    process: OwnedFd,
    socket: OwnedFd,
    killed: bool,
    /// What came with the request: locks among it are held until the command is dead.
    files: Vec<Arc<OwnedFd>>,
    groups: Vec<ControlGroup>,
}

/// The helper's whole life. kiln's `main` calls it, first thing and with a single thread, when its `argv[0]` is
/// [`super::HELPER_NAME`].
pub fn helper_main() -> ! {
    // A terminal's Ctrl-C is for kiln alone: it decides what becomes of its commands.
    let _ = rustix::process::setsid();
    sys::close_from(3);
    sys::reset_signals();
    let ready = if std::env::args_os().nth(1).is_some_and(|argument| argument == seal::SEALED) {
        prepare()
    } else {
        inherit::shed();
        Err(failed(Phase::Seal, "/proc/self/exe")(seal::execute_sealed()))
    };
    let Ok(control) = take_control() else { sys::exit_now(1) };
    serve(&control, &ready);
    // The group goes with it.
    drop(ready);
    sys::exit_now(0)
}

/// The control socket came as standard input, of which nothing may be left.
fn take_control() -> Result<OwnedFd, Errno> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(control)
}

/// A mount namespace that the machine's mounts come into and none gets out of: commands start from a copy of it.
fn leave_mounts() -> Result<(), Errno> {
    sys::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// What is the same for every command.
struct Ready {
    filter: Filter,
    /// None where it cannot be had.
    guard: Option<Guard>,
}

fn prepare() -> Result<Ready, Failure> {
    leave_mounts().map_err(failed(Phase::Namespaces, "the mount namespace of the helper"))?;
    let filter = Filter::native().map_err(failed(Phase::Filter, "kiln has no profile for this architecture"))?;
    Ok(Ready { filter, guard: Guard::new().ok() })
}

impl Ready {
    /// Which devices a command may open, and the control group of version 2 that it is made in. It may have one of its
    /// `own`.
    fn place<'a>(&'a self, spec: &RunSpec, own: Option<BorrowedFd<'a>>) -> (Devices, Option<BorrowedFd<'a>>) {
        match (&self.guard, own) {
            _ if spec.insecure => (Devices::All, own),
            (Some(guard), None) => (Devices::Guarded, Some(guard.group())),
            (Some(guard), Some(own)) if guard.protect(own).is_ok() => (Devices::Guarded, Some(own)),
            _ => (Devices::Mounted, own),
        }
    }
}

fn serve(control: &OwnedFd, ready: &Result<Ready, Failure>) {
    let mut running: Vec<Running> = Vec::new();
    let mut open = true;
    while open || !running.is_empty() {
        let (asked, events) = wait(open.then(|| control.as_fd()), &running);
        for index in (0..running.len()).rev() {
            let (ended, left) = events[index];
            if left && !running[index].killed {
                kill(&mut running[index]);
            }
            if ended && finish(&mut running[index]) {
                let ended = running.swap_remove(index);
                if ended.killed {
                    groups::remove(&ended.groups);
                }
            }
        }
        if asked {
            match receive(control) {
                Ok(Some((request, channels))) => running.extend(start(request, channels, ready)),
                Ok(None) => {}
                Err(_) => {
                    open = false;
                    running.iter_mut().for_each(kill);
                }
            }
        }
    }
}

/// Waits until something happens: whether kiln asked for something, and of each command whether it ended and
/// whether kiln has left it.
fn wait(control: Option<BorrowedFd<'_>>, running: &[Running]) -> (bool, Vec<(bool, bool)>) {
    let mut set = Vec::with_capacity(1 + 2 * running.len());
    for command in running {
        set.push(PollFd::new(&command.process, PollFlags::IN));
    }
    let mut watched = Vec::new();
    for (index, command) in running.iter().enumerate().filter(|(_, command)| !command.killed) {
        watched.push(index);
        set.push(PollFd::new(&command.socket, PollFlags::IN | PollFlags::RDHUP));
    }
    if let Some(control) = &control {
        set.push(PollFd::from_borrowed_fd(*control, PollFlags::IN));
    }
    let mut events = vec![(false, false); running.len()];
    if poll(&mut set, None).is_err() {
        return (false, events);
    }
    let happened = |position: usize| !set[position].revents().is_empty();
    for (index, event) in events.iter_mut().enumerate() {
        event.0 = happened(index);
    }
    for (offset, &index) in watched.iter().enumerate() {
        events[index].1 = happened(running.len() + offset);
    }
    (control.is_some() && happened(set.len() - 1), events)
}

fn kill(command: &mut Running) {
    command.killed = true;
    // It may have ended in this moment; then there is nothing to kill.
    let _ = pidfd_send_signal(&command.process, Signal::KILL);
}

/// Reports the end of a command; false if it has not ended.
fn finish(command: &mut Running) -> bool {
    let status = match waitid(WaitId::PidFd(command.process.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => status,
        Ok(None) | Err(Errno::INTR) => return false,
        Err(_) => return true,
    };
    let status = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => return false,
    };
    // Whoever hears of the end may take the locks at once.
    command.files.clear();
    reply(&command.socket, Reply::Ended(status));
    true
}

/// kiln may have gone; then nobody wants to know.
fn reply(socket: &OwnedFd, reply: Reply) {
    let _ = rustix::net::send(socket, &reply.encode(), SendFlags::NOSIGNAL);
}

fn start(mut request: Request, channels: Channels, ready: &Result<Ready, Failure>) -> Option<Running> {
    match ready.as_ref().map_err(Failure::clone).and_then(|ready| Ok((clone(&mut request, ready)?, ready))) {
        Ok((Cloned::Parent(process), _)) => {
            let RunSpec { files, limits, .. } = request.spec;
            Some(Running { process, socket: channels.run, killed: false, files, groups: limits.cgroups })
        }
        Ok((Cloned::Child, ready)) => {
            let Err(failure) = become_command(&request, &channels, &ready.filter);
            give_up(&channels.run, failure)
        }
        Err(failure) => {
            reply(&channels.run, Reply::Failed(failure));
            None
        }
    }
}

/// Makes the process of a command, in its namespaces and its control group.
fn clone(request: &mut Request, ready: &Ready) -> Result<Cloned, Failure> {
    let groups = &request.spec.limits.cgroups;
    let own = groups::open_unified(groups)?;
    let (devices, group) = ready.place(&request.spec, own.as_ref().map(AsFd::as_fd));
    request.devices = devices;
    let network = if request.spec.network == Network::None { sys::NEW_NETWORK } else { 0 };
    // What is seen of groups begins where a process is when its namespace is made.
    let kept = if groups::has_any(groups, devices) { sys::NEW_CGROUP } else { 0 };
    sys::clone_into((sys::NEW_NAMESPACES & !kept) | network, group).map_err(failed(Phase::Namespaces, "the command"))
}

fn give_up(socket: &OwnedFd, failure: Failure) -> ! {
    reply(socket, Reply::Failed(failure));
    sys::exit_now(255)
}

/// The next request; nothing where there is none after all. An error is kiln's end.
fn receive(control: &OwnedFd) -> Result<Option<(Request, Channels)>, Errno> {
    let mut byte = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let received = match rustix::net::recvmsg(control, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        Err(Errno::INTR) => return Ok(None),
        other => other?,
    };
    if received.bytes == 0 {
        return Err(Errno::PIPE);
    }
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    let mut files = files.into_iter();
    let (Some(text), Some(stdout), Some(stderr), Some(run)) = (files.next(), files.next(), files.next(), files.next())
    else {
        return Ok(None);
    };
    let Some(mut request) = Request::decode(&read_all(&text)?) else { return Ok(None) };
    request.spec.files = files.map(Arc::new).collect();
    Ok(Some((request, Channels { stdout, stderr, run })))
}

/// There may be secrets in it.
fn read_all(file: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or_default();
    let mut bytes = Zeroizing::new(vec![0; size]);
    let mut filled = 0;
    while filled < size {
        match rustix::io::pread(file, &mut bytes[filled..], filled as u64)? {
            0 => break,
            length => filled += length,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
