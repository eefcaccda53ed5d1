//! The system call filter, seen from inside: tiny programs that make one call and exit with its error number.
//! They are machine code of x86-64 and i386.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kiln_executor::sandbox::{ExitStatus, SandboxError, User};

use crate::world::{Outcome, World};

/// Where the programs are loaded.
const BASE: u32 = 0x40_0000;

/// Texts in the programs' memory.
const DATA_FILE: u64 = BASE as u64 + 0x800;
const SHELL: u64 = BASE as u64 + 0x880;
const ROOT: u64 = BASE as u64 + 0x8c0;

/// Writable memory of theirs, all zero.
const BUFFER: u64 = BASE as u64 + 0x1000;

/// Nowhere.
const BAD: u64 = 0x10;

/// A call under x86-64: its name for messages, number and arguments.
type Call = (&'static str, i64, [u64; 6]);

const fn call(name: &'static str, number: i64, some: &[u64]) -> Call {
    let mut all = [0; 6];
    let mut index = 0;
    while index < some.len() {
        all[index] = some[index];
        index += 1;
    }
    (name, number, all)
}

/// A program of one segment that can be written to, with `code` at its start.
fn program(code: &[u8], wide: bool) -> Vec<u8> {
    let (header, entry_size, machine) = if wide { (64, 56, 62_u16) } else { (52, 32, 3) };
    let word = |value: u32| if wide { u64::from(value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() };
    let start = header + entry_size;
    let mut file = b"\x7fELF".to_vec();
    file.extend([if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([2, 0]);
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend([word(BASE + start), word(header), word(0)].concat());
    file.extend(0_u32.to_le_bytes());
    for value in [header, entry_size, 1, 0, 0, 0] {
        file.extend((value as u16).to_le_bytes());
    }
    let (size, flags) = (0x1000, 7_u32);
    file.extend(1_u32.to_le_bytes());
    if wide {
        file.extend(flags.to_le_bytes());
    }
    file.extend([word(0), word(BASE), word(BASE), word(size), word(size + 0x2000)].concat());
    if !wide {
        file.extend(flags.to_le_bytes());
    }
    file.extend(word(0x1000));
    assert_eq!(file.len(), start as usize);
    file.extend(code);
    file.resize(0x800, 0);
    file.extend(b"/data/file\0");
    file.resize(0x880, 0);
    file.extend(b"/bin/sh\0");
    file.resize(0x8c0, 0);
    file.extend(b"/\0");
    file.resize(size as usize, 0);
    file
}

/// Makes the call and exits with its error number, or 0.
fn wide(number: u64, arguments: [u64; 6]) -> Vec<u8> {
    // mov rdi, rsi, rdx, r10, r8, r9, rax
    let registers: [[u8; 2]; 6] = [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let mut code = Vec::new();
    for (register, value) in registers.iter().zip(arguments) {
        code.extend(register);
        code.extend(value.to_le_bytes());
    }
    code.extend([0x48, 0xb8]);
    code.extend(number.to_le_bytes());
    // syscall; neg rax; mov rdi, rax; cmp rax, 4095; jbe +2; xor edi, edi; mov eax, 60; syscall
    code.extend([0x0f, 0x05, 0x48, 0xf7, 0xd8, 0x48, 0x89, 0xc7, 0x48, 0x3d, 0xff, 0x0f, 0, 0, 0x76, 2, 0x31, 0xff]);
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    program(&code, true)
}

/// The same as a 32-bit program.
fn narrow(number: u32, arguments: [u32; 6]) -> Vec<u8> {
    // mov ebx, ecx, edx, esi, edi, ebp, eax
    let mut code = Vec::new();
    for (register, value) in [0xbb, 0xb9, 0xba, 0xbe, 0xbf, 0xbd].into_iter().zip(arguments) {
        code.push(register);
        code.extend(value.to_le_bytes());
    }
    code.push(0xb8);
    code.extend(number.to_le_bytes());
    // int 0x80; neg eax; mov ebx, eax; cmp eax, 4095; jbe +2; xor ebx, ebx; mov eax, 1; int 0x80
    code.extend([0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0x3d, 0xff, 0x0f, 0, 0, 0x76, 2, 0x31, 0xdb]);
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    program(&code, false)
}

fn install(root: &Path, file: &[u8], mode: u32) {
    fs::write(root.join("probe"), file).unwrap();
    fs::set_permissions(root.join("probe"), PermissionsExt::from_mode(mode)).unwrap();
}

fn run(world: &World, file: &[u8]) -> Outcome {
    let mut spec = world.command(&["/probe"]);
    spec.root.lowers.push(world.layer(|root| install(root, file, 0o755)));
    world.run(&spec)
}

fn error_of(world: &World, (_, number, arguments): Call) -> i32 {
    run(world, &wide(number.cast_unsigned(), arguments)).code()
}

/// Each with arguments for which most kernels would have another error than this, or none.
const REFUSED: &[Call] = &[
    call("mount", libc::SYS_mount, &[BAD, BAD, BAD]),
    call("umount2", libc::SYS_umount2, &[SHELL, 0xffff]),
    call("pivot_root", libc::SYS_pivot_root, &[BAD, BAD]),
    call("fsopen", libc::SYS_fsopen, &[BAD]),
    call("fsmount", libc::SYS_fsmount, &[99]),
    call("fsconfig", libc::SYS_fsconfig, &[99]),
    call("move_mount", libc::SYS_move_mount, &[99, BAD, 99, BAD]),
    call("open_tree", libc::SYS_open_tree, &[99, SHELL]),
    call("mount_setattr", libc::SYS_mount_setattr, &[99, SHELL, 0, BAD, 0]),
    call("unshare user", libc::SYS_unshare, &[libc::CLONE_NEWUSER as u64]),
    call("unshare nothing", libc::SYS_unshare, &[]),
    call("clone user", libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64]),
    call("clone net", libc::SYS_clone, &[(libc::CLONE_NEWNET | libc::SIGCHLD) as u64]),
    call("setns", libc::SYS_setns, &[99]),
    call("keyctl", libc::SYS_keyctl, &[0, (-3_i64) as u64]),
    call("add_key", libc::SYS_add_key, &[BAD, BAD]),
    call("request_key", libc::SYS_request_key, &[BAD, BAD]),
    call("bpf", libc::SYS_bpf, &[999, BAD]),
    call("kexec_load", libc::SYS_kexec_load, &[]),
    call("kexec_file_load", libc::SYS_kexec_file_load, &[]),
    call("perf_event_open", libc::SYS_perf_event_open, &[BAD]),
    call("userfaultfd", libc::SYS_userfaultfd, &[0xffff]),
    call("init_module", libc::SYS_init_module, &[]),
    call("finit_module", libc::SYS_finit_module, &[99]),
    call("delete_module", libc::SYS_delete_module, &[]),
    call("reboot", libc::SYS_reboot, &[]),
    call("swapon", libc::SYS_swapon, &[BAD]),
    call("swapoff", libc::SYS_swapoff, &[BAD]),
    call("settimeofday", libc::SYS_settimeofday, &[BAD]),
    call("clock_settime", libc::SYS_clock_settime, &[999, BAD]),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, &[99, BAD]),
    call("io_uring_setup", libc::SYS_io_uring_setup, &[0, BAD]),
    call("io_uring_enter", libc::SYS_io_uring_enter, &[99]),
    call("io_uring_register", libc::SYS_io_uring_register, &[99]),
    call("fanotify_init", libc::SYS_fanotify_init, &[0xffff]),
    call("syslog", libc::SYS_syslog, &[99]),
    call("acct", libc::SYS_acct, &[]),
    call("quotactl", libc::SYS_quotactl, &[]),
    call("sethostname", libc::SYS_sethostname, &[BAD, 1]),
    call("setdomainname", libc::SYS_setdomainname, &[BAD, 1]),
    call("ioperm", libc::SYS_ioperm, &[0, 0xffff_ffff, 1]),
    call("iopl", libc::SYS_iopl, &[99]),
    call("kcmp", libc::SYS_kcmp, &[1, 1, 0]),
    call("pidfd_getfd", libc::SYS_pidfd_getfd, &[99]),
    call("process_madvise", libc::SYS_process_madvise, &[99]),
    call("mbind", libc::SYS_mbind, &[BAD]),
    call("move_pages", libc::SYS_move_pages, &[]),
    call("lookup_dcookie", libc::SYS_lookup_dcookie, &[]),
    call("vhangup", libc::SYS_vhangup, &[]),
    call("uselib", libc::SYS_uselib, &[SHELL]),
    call("personality of old systems", libc::SYS_personality, &[libc::ADDR_NO_RANDOMIZE as u64]),
    call("socket of the hypervisor", libc::SYS_socket, &[libc::AF_VSOCK as u64, 1]),
    call("socket of cryptography", libc::SYS_socket, &[libc::AF_ALG as u64, 5]),
    call("the same, told otherwise", libc::SYS_socket, &[libc::AF_ALG as u64 | 1 << 32, 5]),
    call("unshare as x32", libc::SYS_unshare | 0x4000_0000, &[]),
    call("mount as x32", libc::SYS_mount | 0x4000_0000, &[BAD, BAD, BAD]),
];

/// Each must succeed.
const ALLOWED: &[Call] = &[
    call("clone", libc::SYS_clone, &[libc::SIGCHLD as u64]),
    call("fork", libc::SYS_fork, &[]),
    call("futex", libc::SYS_futex, &[BUFFER, libc::FUTEX_WAKE as u64, 1]),
    call("chown", libc::SYS_chown, &[DATA_FILE, 0, 0]),
    call("chroot", libc::SYS_chroot, &[ROOT]),
    call("getrandom", libc::SYS_getrandom, &[BUFFER, 16]),
    call("statx", libc::SYS_statx, &[libc::AT_FDCWD as u64, DATA_FILE, 0, 0x7ff, BUFFER]),
    call("setuid", libc::SYS_setuid, &[0]),
    call("memfd_create", libc::SYS_memfd_create, &[SHELL + 5]),
    call("personality", libc::SYS_personality, &[0xffff_ffff]),
    call("socket", libc::SYS_socket, &[libc::AF_UNIX as u64, libc::SOCK_STREAM as u64]),
    call("ip socket", libc::SYS_socket, &[libc::AF_INET as u64, libc::SOCK_DGRAM as u64]),
    call("prctl", libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1]),
    call("inotify_init1", libc::SYS_inotify_init1, &[]),
    call("epoll_create1", libc::SYS_epoll_create1, &[]),
    call("munlockall", libc::SYS_munlockall, &[]),
    call("modify_ldt", libc::SYS_modify_ldt, &[0, BUFFER, 0]),
];

pub fn dangerous_calls_are_refused(world: &World) {
    for &refused in REFUSED {
        assert_eq!(error_of(world, refused), libc::EPERM, "{}", refused.0);
    }
}

pub fn ordinary_calls_are_allowed(world: &World) {
    for &allowed in ALLOWED {
        assert_eq!(error_of(world, allowed), 0, "{}", allowed.0);
    }
    // Allowed by the filter, with an error of the kernel's own.
    let bad_handle = call("name_to_handle_at", libc::SYS_name_to_handle_at, &[99, SHELL + 1, BAD, BAD]);
    assert!([libc::EFAULT, libc::EBADF].contains(&error_of(world, bad_handle)));
    let nobody = call("ptrace", libc::SYS_ptrace, &[libc::PTRACE_ATTACH as u64, 9999]);
    assert_eq!(error_of(world, nobody), libc::ESRCH);
    let nobody = call("process_vm_readv", libc::SYS_process_vm_readv, &[9999]);
    assert!([libc::ESRCH, 0].contains(&error_of(world, nobody)));
}

pub fn unknown_calls_do_not_exist(world: &World) {
    for number in [libc::SYS_clone3, 467, 511, 1000, 0x3fff_ffff, 0x4000_0000 | 467, 0x7fff_ffff, -1] {
        assert_eq!(error_of(world, call("", number, &[BAD, 64])), libc::ENOSYS, "{number}");
    }
}

pub fn programs_of_32_bits_work_and_are_filtered(world: &World) {
    let outcome = run(world, &narrow(20, [0; 6]));
    if matches!(outcome.result, Err(SandboxError::NotExecutable { .. })) {
        println!("this kernel has no 32-bit programs");
        return;
    }
    outcome.assert_ok();
    let (buffer, file, bad) = (BUFFER as u32, DATA_FILE as u32, BAD as u32);
    // fork, chown32, getrandom, futex_time64, mmap2, socket
    for (number, arguments) in [
        (2, [0; 6]),
        (212, [file, 0, 0, 0, 0, 0]),
        (355, [buffer, 16, 0, 0, 0, 0]),
        (422, [buffer, 1, 1, 0, 0, 0]),
        (192, [0, 4096, 3, 0x22, u32::MAX, 0]),
        (359, [1, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(run(world, &narrow(number, arguments)).code(), 0, "{number}");
    }
    // mount, umount, umount2, unshare, clone, keyctl, add_key, bpf, init_module, reboot, stime, socket, io_uring_setup
    for (number, arguments) in [
        (21, [bad, bad, bad, 0, 0, 0]),
        (22, [file, 0, 0, 0, 0, 0]),
        (52, [file, 0xffff, 0, 0, 0, 0]),
        (310, [0; 6]),
        (120, [0x1000_0011, 0, 0, 0, 0, 0]),
        (288, [0, u32::MAX - 2, 0, 0, 0, 0]),
        (286, [bad, bad, 0, 0, 0, 0]),
        (357, [999, bad, 0, 0, 0, 0]),
        (128, [0; 6]),
        (88, [0; 6]),
        (25, [bad, 0, 0, 0, 0, 0]),
        (359, [38, 5, 0, 0, 0, 0]),
        (425, [0, bad, 0, 0, 0, 0]),
    ] {
        assert_eq!(run(world, &narrow(number, arguments)).code(), libc::EPERM, "{number}");
    }
    for number in [435, 467, 1000] {
        assert_eq!(run(world, &narrow(number, [bad, 64, 0, 0, 0, 0])).code(), libc::ENOSYS, "{number}");
    }
}

/// A 64-bit program may call the kernel the 32-bit way, which changes the meaning of numbers.
pub fn the_32_bit_way_in_is_filtered_for_all(world: &World) {
    // mov eax, 310 (unshare; 64 bits: process_vm_readv); xor ebx, ebx; int 0x80; neg eax; mov edi, eax;
    // mov eax, 60; syscall
    let mut code = vec![0xb8, 0x36, 0x01, 0, 0, 0x31, 0xdb, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc7];
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    let outcome = run(world, &program(&code, true));
    if !matches!(outcome.result, Ok(ExitStatus::Signal(_))) {
        assert_eq!(outcome.code(), libc::EPERM);
    }
}

pub fn setuid_programs_keep_working(world: &World) {
    let status = world.says("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr '\\n' ' '");
    assert_eq!(status.split_whitespace().collect::<Vec<_>>(), ["NoNewPrivs:", "0", "Seccomp:", "2"]);
    if world.single() {
        return;
    }
    let (_, number, arguments) = call("chown", libc::SYS_chown, &[DATA_FILE, 1, 1]);
    for (mode, expected) in [(0o755, libc::EPERM), (0o4755, 0)] {
        let mut spec = world.command(&["/probe"]);
        spec.root.lowers.push(world.layer(|root| install(root, &wide(number.cast_unsigned(), arguments), mode)));
        spec.user = User { uid: 1000, gid: 1000, groups: Vec::new() };
        assert_eq!(world.run(&spec).code(), expected, "{mode:o}");
    }
}
