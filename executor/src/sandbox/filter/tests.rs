//! The program does what the profile says: it is interpreted for every number of each architecture.

use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter};

use super::calls::ALLOWED;
use super::profile::{Abi, NEWEST, SPECIAL, X32_BIT, X32_OWN, aarch64, x86_64};
use super::program::generate;

const EPERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const ABIS: [(Abi, u32); 5] = [
    (Abi::X86_64, 0xc000_003e),
    (Abi::I386, 0x4000_0003),
    (Abi::X32, 0xc000_003e),
    (Abi::Aarch64, 0xc000_00b7),
    (Abi::Arm, 0x4000_0028),
];

/// As the kernel would run it, of what there is in it.
fn interpret(program: &[sock_filter], number: u32, audit: u32, first: u64) -> u32 {
    let (mut position, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[position];
        position += 1;
        let holds = match code {
            0x06 => return k,
            0x20 => {
                accumulator = match k {
                    0 => number,
                    4 => audit,
                    16 => first as u32,
                    20 => (first >> 32) as u32,
                    _ => panic!("loads from {k}"),
                };
                continue;
            }
            0x05 => {
                position += k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => panic!("code {code:#x}"),
        };
        position += usize::from(if holds { jt } else { jf });
    }
}

fn program(abi: Abi) -> Vec<sock_filter> {
    generate(&if matches!(abi, Abi::Aarch64 | Abi::Arm) { aarch64() } else { x86_64() })
}

fn verdict(abi: Abi, number: u32, first: u64) -> u32 {
    let audit = ABIS.iter().find(|(other, _)| *other == abi).unwrap().1;
    let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
    interpret(&program(abi), number | bit, audit, first)
}

fn number(name: &str, abi: Abi) -> u32 {
    let allowed = ALLOWED.iter().map(|(name, numbers)| (*name, numbers));
    let mut all = allowed.chain(SPECIAL.iter().map(|(name, numbers, _)| (*name, numbers)));
    all.find(|(other, _)| *other == name).unwrap().1[abi as usize]
}

#[test]
fn every_number_is_decided_as_in_the_table() {
    for (abi, audit) in ABIS {
        let program = program(abi);
        let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
        let special = SPECIAL.map(|(_, numbers, _)| numbers[abi as usize]);
        for number in (0..1024).chain(0xf_0000..0xf_0010) {
            if special.contains(&number) {
                continue;
            }
            let expected = match () {
                () if ALLOWED.iter().any(|(_, numbers)| numbers[abi as usize] == number) => SECCOMP_RET_ALLOW,
                () if number <= NEWEST || abi == Abi::X32 && X32_OWN.contains(&number) => EPERM,
                () => ENOSYS,
            };
            for first in [0, 38, NAMESPACE, u64::MAX] {
                let verdict = interpret(&program, number | bit, audit, first);
                assert_eq!(verdict, expected, "{abi:?} {number} {verdict:#x}");
            }
        }
    }
}

const NAMESPACE: u64 = libc::CLONE_NEWUSER as u64;

#[test]
fn arguments_are_looked_at() {
    for (abi, _) in ABIS {
        let call = |name, first| verdict(abi, number(name, abi), first);
        let threads = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SETTLS;
        assert_eq!(call("clone", libc::SIGCHLD as u64), SECCOMP_RET_ALLOW);
        assert_eq!(call("clone", threads as u64), SECCOMP_RET_ALLOW);
        for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, NAMESPACE, 0x2000_0000, 0x4000_0000] {
            assert_eq!(call("clone", flag | 17), EPERM, "{flag:#x}");
        }
        assert_eq!(call("clone3", 0), ENOSYS);
        for allowed in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(call("personality", allowed), SECCOMP_RET_ALLOW, "{allowed:#x}");
        }
        for refused in [1, 0x4_0000, 0x40_0000, 0xffff_fffe, u64::MAX, 1 << 32] {
            assert_eq!(call("personality", refused), EPERM, "{refused:#x}");
        }
        for allowed in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, 39, 41, 45] {
            assert_eq!(call("socket", allowed as u64), SECCOMP_RET_ALLOW, "{allowed}");
        }
        for refused in [libc::AF_ALG, libc::AF_VSOCK] {
            assert_eq!(call("socket", refused as u64), EPERM);
            assert_eq!(call("socket", refused as u64 | 1 << 32), EPERM);
        }
    }
}

#[test]
fn extreme_numbers_do_not_exist() {
    for (abi, audit) in ABIS {
        for number in [0x3fff_ffff, 0x4fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            assert_eq!(interpret(&program(abi), number, audit, 0), ENOSYS, "{abi:?} {number:#x}");
        }
    }
}

#[test]
fn other_architectures_are_killed() {
    for audit in [0, 1, 0x4000_0028, 0x8000_0016] {
        assert_eq!(interpret(&program(Abi::X86_64), 0, audit, 0), SECCOMP_RET_KILL_PROCESS);
    }
    assert_eq!(interpret(&program(Abi::Aarch64), 0, 0xc000_003e, 0), SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn programs_are_short_enough_for_the_kernel() {
    assert!(program(Abi::X86_64).len() < 1024, "{}", program(Abi::X86_64).len());
    assert!(program(Abi::Aarch64).len() < 1024, "{}", program(Abi::Aarch64).len());
}

#[test]
fn no_name_comes_twice() {
    let mut names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    names.extend(SPECIAL.map(|(name, _, _)| name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// The table's numbers against those of the C library, which somebody else has written down.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn native_numbers_are_the_c_librarys() {
    let abi = if cfg!(target_arch = "x86_64") { Abi::X86_64 } else { Abi::Aarch64 };
    let known = [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("execve", libc::SYS_execve),
        ("futex", libc::SYS_futex),
        ("statx", libc::SYS_statx),
        ("getrandom", libc::SYS_getrandom),
        ("chroot", libc::SYS_chroot),
        ("ptrace", libc::SYS_ptrace),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("personality", libc::SYS_personality),
        ("socket", libc::SYS_socket),
        ("seccomp", libc::SYS_seccomp),
        ("mseal", libc::SYS_mseal),
    ];
    for (name, call) in known {
        assert_eq!(i64::from(number(name, abi)), call, "{name}");
    }
    let refused = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_bpf,
        libc::SYS_kexec_load,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_open_by_handle_at,
        libc::SYS_io_uring_setup,
        libc::SYS_fsopen,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_syslog,
        libc::SYS_acct,
        libc::SYS_sethostname,
    ];
    for call in refused {
        assert_eq!(verdict(abi, call as u32, 0), EPERM, "{call}");
    }
}
