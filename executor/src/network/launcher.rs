//! What kiln starts for each network: it makes the namespaces and becomes the program that joins them to the
//! machine's network.
//!
//! Its arguments are the process ID of kiln, `root` or `user`, the file descriptor that the program says that it is
//! ready on ([`STDOUT`] or [`EXTRA`]), the program (empty for none) and the program's arguments. Standard input is a
//! socket that the network namespace is sent over; it is the namespace when the program starts. Standard output is
//! what kiln hears of a program that is ready by, standard error why it is not.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::{Errno, FdFlags, IoSlice};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::sandbox::sys;

/// Whom a program of root's runs as: nobody, by the number that the kernel and most systems have for it.
const NOBODY: u32 = 65534;

/// Standard output, for programs that say nothing else there.
pub(super) const STDOUT: i32 = 1;

/// A file descriptor of its own, for those that do; standard output is their standard error then.
pub(super) const EXTRA: i32 = 3;

/// A step that failed, and how.
type Failure = (&'static str, io::Error);

/// Gives an error of the kernel its name.
fn at(what: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |error| (what, error.into())
}

/// The launcher's whole life. kiln's `main` calls it, first thing and with a single thread, when its `argv[0]` is
/// [`super::LAUNCHER_NAME`].
pub fn launcher_main() -> ! {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Err((what, error)) = launch(arguments);
    let text = format!("cannot {what}: {error}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    sys::exit_now(1)
}

fn launch(arguments: Vec<OsString>) -> Result<Infallible, Failure> {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next();
    let as_root = arguments.next().is_some_and(|mode| mode == "root");
    // None of those that kiln itself was started with is anybody's business here.
    sys::close_from(EXTRA as u32);
    let _ready = match arguments.next().is_some_and(|number| number == EXTRA.to_string().as_str()) {
        true => Some(split_output().map_err(at("split standard output"))?),
        false => None,
    };
    // A terminal's Ctrl-C is for kiln alone.
    let _ = rustix::process::setsid();
    // Rust ignores SIGPIPE, and pasta takes that for an error.
    sys::reset_signals();
    if as_root {
        give_up_root()?;
    }
    // From here on the program's rights do not change any more, which would undo this.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at("be told of kiln's end"))?;
    let is_parent = |pid: &OsString| pid.to_str() == Some(&getppid().map_or(0, |pid| pid.as_raw_pid()).to_string());
    if !parent.is_some_and(|pid| is_parent(&pid)) {
        sys::exit_now(1);
    }
    let namespace = make_namespace()?;
    send(&namespace).map_err(at("hand the network namespace over"))?;
    rustix::stdio::dup2_stdin(&namespace).map_err(at("hand the network namespace on"))?;
    let texts = arguments.map(|argument| CString::new(argument.into_vec()));
    let command: Vec<CString> = texts.collect::<Result<_, _>>().map_err(|_| at("read its arguments")(Errno::INVAL))?;
    match command.first() {
        Some(program) if !program.is_empty() => Err(at("execute it")(sys::execute(program, &command, &[]))),
        _ => sys::exit_now(0),
    }
}

/// Moves what standard output is to [`EXTRA`].
fn split_output() -> Result<OwnedFd, Errno> {
    let ready = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), EXTRA)?;
    rustix::io::fcntl_setfd(&ready, FdFlags::empty())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(ready)
}

/// Becomes nobody, in a user namespace: what is done with packets of commands needs no power over the machine.
fn give_up_root() -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    show_tun().map_err(at("show `/dev/net/tun` to user `nobody`"))?;
    // It is opened anew, by nobody.
    rustix::fs::fchown(rustix::stdio::stdout(), Some(uid), Some(gid)).map_err(at("hand standard output over"))?;
    let become_nobody = || {
        rustix::thread::set_keep_capabilities(true)?;
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        // Some systems let nobody but root make user namespaces.
        let kept = CapabilitySet::SYS_ADMIN;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        // Files below /proc/self would not be our own.
        set_dumpable_behavior(DumpableBehavior::Dumpable)
    };
    become_nobody().map_err(at("become user `nobody`"))?;
    sys::unshare(UnshareFlags::NEWUSER).map_err(at("make a user namespace"))?;
    let map = format!("0 {NOBODY} 1");
    for (file, text) in [("setgroups", "deny"), ("gid_map", &map), ("uid_map", &map)] {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| ("map a user into a namespace", error))?;
    }
    Ok(())
}

/// Where the device is root's alone, the program gets one that is everybody's, which nobody else sees.
fn show_tun() -> Result<(), Errno> {
    let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let stat = rustix::fs::stat("/dev/net/tun")?;
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::ROTH | Mode::WOTH) {
        return Ok(());
    }
    sys::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount("tmpfs", "/dev/net", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None)?;
    rustix::process::umask(Mode::empty());
    rustix::fs::mknodat(CWD, "/dev/net/tun", FileType::CharacterDevice, all, makedev(10, 200))
}

/// A new network namespace, of which loopback is up. A thread enters it and ends; this process stays in the
/// machine's.
fn make_namespace() -> Result<OwnedFd, Failure> {
    let make = || {
        sys::unshare(UnshareFlags::NEWNET).map_err(at("make a network namespace"))?;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        socket.and_then(|socket| sys::loopback_up(socket.as_fd())).map_err(at("bring loopback up"))?;
        rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(at("open the network namespace"))
    };
    let thread = std::thread::Builder::new().spawn(make).map_err(|error| ("start a thread", error))?;
    thread.join().unwrap_or_else(|_| Err(at("make a network namespace")(Errno::IO)))
}

/// Sends the namespace over the socket that is standard input.
fn send(namespace: &OwnedFd) -> Result<(), Errno> {
    let files = [namespace.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::TOOBIG);
    }
    let message = [IoSlice::new(b"n")];
    rustix::net::sendmsg(rustix::stdio::stdin(), &message, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
