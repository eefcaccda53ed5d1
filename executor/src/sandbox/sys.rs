//! The system calls that rustix does not have, each behind a safe face. All `unsafe` of this crate is here.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Which side of [`clone`] this is.
pub(crate) enum Cloned {
    /// The caller, with a pidfd of the new process.
    Parent(OwnedFd),
    /// The new process.
    Child,
}

/// Namespaces of [`clone`].
pub(crate) const NEW_NAMESPACES: u64 =
    (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP) as u64;

/// The network namespace, for [`clone`].
pub(crate) const NEW_NETWORK: u64 = libc::CLONE_NEWNET as u64;

/// The control group namespace among [`NEW_NAMESPACES`].
pub(crate) const NEW_CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

/// Makes a process like fork does, in new namespaces. Only for a process with a single thread: another thread's
/// locks would stay locked for ever in the child.
pub(crate) fn clone(namespaces: u64) -> Result<Cloned, Errno> {
    clone_into(namespaces, None)
}

/// [`clone`], right into a control group of version 2 that is open.
pub(crate) fn clone_into(namespaces: u64, group: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero `clone_args` asks for nothing.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | libc::CLONE_PIDFD as u64;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        // The C library's own constant has lost its upper half.
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of the memory, as after fork; `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match check(pid)? {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has just opened it, and nobody else owns it.
        _ => Ok(Cloned::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Sets attributes (`MOUNT_ATTR_*`) on the mount that `mount` refers to, and on those below it.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the size is that of the structure passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Moves the calling thread into new namespaces; never with `UnshareFlags::FILES`.
pub(crate) fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: the table of file descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Closes every file descriptor from `first` on. Only for a process that owns none of them as an object.
pub(crate) fn close_from(first: u32) {
    // SAFETY: the caller holds nothing that would be used or closed again.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Every signal back to its default, and none blocked: what a command expects to find.
pub(crate) fn reset_signals() {
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, an empty mask. The C library's own function
    // would leave the signals alone that it keeps for itself, and the command may use another one.
    let default = [0_u64; 4];
    let no_signal = 0_u64;
    for signal in 1..=64 {
        // SAFETY: it is as large as the kernel's structure at least; SIG_DFL runs no code of ours.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, size_of::<u64>()) };
    }
    // SAFETY: the set is of the size given.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const no_signal, 0, size_of::<u64>()) };
}

/// Leaves the session keyring that this process was started with for an empty one. A kernel without keyrings, or a
/// machine that forbids their use, has none to leave.
pub(crate) fn join_new_session_keyring() {
    /// `linux/keyctl.h`.
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the name, a null pointer, asks for a keyring without one.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
}

/// Makes this process look at the machine as all do: random addresses, and the machine's own name for itself.
pub(crate) fn reset_personality() {
    // SAFETY: PER_LINUX, 0, is the default.
    unsafe { libc::personality(0) };
}

/// The number of a loop device that nothing uses.
pub(crate) fn free_loop_device(control: BorrowedFd<'_>) -> Result<u32, Errno> {
    /// `linux/loop.h`.
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    // SAFETY: it takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    check(libc::c_long::from(number)).map(|number| number as u32)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(libc::c_long::from(result)).map(drop)
}

/// Registers a file at a FUSE connection, for reading without its server; the number to name it by. It stays open until
/// the connection ends.
pub(crate) fn open_backing(connection: BorrowedFd<'_>, file: &std::fs::File) -> Result<u32, Errno> {
    /// `struct fuse_backing_map`.
    #[repr(C)]
    struct BackingMap {
        file: i32,
        flags: u32,
        padding: u64,
    }
    const OPEN: libc::Ioctl = libc::_IOW::<BackingMap>(229, 1) as libc::Ioctl;
    let map = BackingMap { file: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the request only reads one such structure.
    let result = unsafe { libc::ioctl(connection.as_raw_fd(), OPEN, &raw const map) };
    check(libc::c_long::from(result)).and_then(|number| u32::try_from(number).map_err(|_| Errno::INVAL))
}

/// Puts this process under a system call filter. It takes `CAP_SYS_ADMIN`. Without the flag, older kernels would
/// slow every program down that is under a filter (a mitigation of Spectre; runc asks for the same).
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads the program, which has the length given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    check(result).map(drop)
}

/// One instruction of an eBPF program, `struct bpf_insn` of `linux/bpf.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    /// How many instructions a jump skips, or where in memory something is.
    pub(crate) offset: i16,
    immediate: i32,
}

impl Instruction {
    /// `to` = the 32 bits at `offset` behind where `from` points.
    pub(crate) fn load(to: u8, from: u8, offset: i16) -> Self {
        Self { code: 0x61, registers: to | from << 4, offset, immediate: 0 }
    }

    /// `register` = `value`.
    pub(crate) fn set(register: u8, value: i32) -> Self {
        Self { code: 0xb7, registers: register, offset: 0, immediate: value }
    }

    /// `register` &= `mask`.
    pub(crate) fn and(register: u8, mask: i32) -> Self {
        Self { code: 0x57, registers: register, offset: 0, immediate: mask }
    }

    /// Skips so many instructions where `register` == `value`.
    pub(crate) fn jump_if_equal(register: u8, value: i32, skip: i16) -> Self {
        Self { code: 0x15, registers: register, offset: skip, immediate: value }
    }

    /// Skips so many instructions where `register` != `value`.
    pub(crate) fn jump_unless_equal(register: u8, value: i32, skip: i16) -> Self {
        Self { code: 0x55, registers: register, offset: skip, immediate: value }
    }

    /// The end.
    pub(crate) fn end() -> Self {
        Self { code: 0x95, registers: 0, offset: 0, immediate: 0 }
    }
}

/// Loads a program that decides which devices the processes of a control group can open.
pub(crate) fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    /// The beginning of `union bpf_attr`; what is not given is zero.
    #[repr(C)]
    struct Load {
        kind: u32,
        length: u32,
        instructions: u64,
        license: u64,
    }
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        length: u32::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
    };
    // SAFETY: the kernel only reads what is given, of which the sizes are right.
    let file = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    check(file).map(|file| unsafe { OwnedFd::from_raw_fd(file as i32) })
}

/// Puts a control group of version 2 under such a program, beside those that it is under already.
pub(crate) fn attach_device_program(program: BorrowedFd<'_>, group: BorrowedFd<'_>) -> Result<(), Errno> {
    /// The beginning of `union bpf_attr`.
    #[repr(C)]
    struct Attach {
        group: i32,
        program: i32,
        kind: u32,
        flags: u32,
    }
    const BPF_PROG_ATTACH: libc::c_long = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let attach = Attach {
        group: group.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the kernel only reads what is given, of which the size is right.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    check(result).map(drop)
}

/// Lets only those frames through to the reader of a tap device that a classic BPF program accepts (`TUNATTACHFILTER`
/// of `linux/if_tun.h`).
pub(crate) fn filter_tap(tap: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), Errno> {
    const TUNATTACHFILTER: libc::c_ulong = 0x4010_54d5;
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads the program, which has the length given.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNATTACHFILTER as _, &raw const program) };
    check(libc::c_long::from(result)).map(drop)
}

/// The same for what a socket receives.
#[cfg(test)]
pub(crate) fn filter_socket(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel only reads the program, which has the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    check(libc::c_long::from(result)).map(drop)
}

/// Becomes another program. Returns only if that failed.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists are of C strings that outlive the call, and end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Becomes the program that `file` is open on. Returns only if that failed.
pub(crate) fn execute_file(file: BorrowedFd<'_>, arguments: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(arguments), pointers(&[]));
    // SAFETY: as for `execute`; the path is an empty C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_error()
}

/// Ends the process at once, without running anything that was registered for its end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(code) }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
