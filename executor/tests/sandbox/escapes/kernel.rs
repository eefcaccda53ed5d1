//! What belongs to the kernel as a whole.

use libc::{EACCES, EAFNOSUPPORT, EINVAL, ENOSYS, EPERM};

use super::{Attempt, Ground, program, special};

pub const ALL: &[Attempt] = &[
    program("adding_a_key", &["add-key"], &[EPERM]),
    program("asking_for_a_key", &["request-key"], &[EPERM]),
    program("session_keyring", &["session-keyring"], &[EPERM]),
    program("joining_a_keyring", &["join-keyring"], &[EPERM]),
    program("programs_in_the_kernel", &["bpf"], &[EPERM]),
    program("performance_events", &["perf"], &[EPERM]),
    program("page_faults", &["userfaultfd"], &[EPERM]),
    program("new_kernel", &["kexec"], &[EPERM]),
    program("new_kernel_from_a_file", &["kexec-file"], &[EPERM]),
    program("module_from_memory", &["init-module"], &[EPERM]),
    program("module_from_a_file", &["finit-module"], &[EPERM]),
    program("module_removal", &["delete-module"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("ports", &["iopl"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("one_port", &["ioperm"], &[EPERM]),
    program("reboot", &["reboot"], &[EPERM]),
    program("swap_on", &["swapon", "/data/file"], &[EPERM]),
    program("swap_off", &["swapoff", "/data/file"], &[EPERM]),
    program("day", &["settimeofday"], &[EPERM]),
    program("clock", &["clock-settime"], &[EPERM]),
    program("clock_offset", &["clock-adjtime"], &[EPERM]),
    program("clock_tick", &["adjtimex"], &[EPERM]),
    program("host_name", &["sethostname"], &[EPERM]),
    program("domain_name", &["setdomainname"], &[EPERM]),
    program("accounting", &["acct", "/log"], &[EPERM]),
    program("quotas", &["quotactl"], &[EPERM]),
    program("kernel_log", &["syslog"], &[EPERM]),
    program("watching_everything", &["fanotify"], &[EPERM]),
    program("rings", &["io-uring"], &[EPERM]),
    program("fixed_addresses", &["personality", "0x40000"], &[EPERM]),
    program("executable_data", &["personality", "0x400000"], &[EPERM]),
    program("memory_map", &["set-mm"], &[EPERM]),
    program("hanging_up", &["vhangup"], &[EPERM]),
    program("hypervisor_socket", &["socket", "40", "1"], &[EPERM]),
    program("cryptography_socket", &["socket", "38", "5"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    special("mount_the_32_bit_way", mount_the_32_bit_way),
    #[cfg(target_arch = "x86_64")]
    program("mount_the_x32_way", &["x32", "165"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("unshare_the_x32_way", &["x32", "272"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("key_the_x32_way", &["x32", "248"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("old_ptrace_of_x32", &["x32", "521"], &[EPERM, ENOSYS]),
    program("weaker_filter", &["weaken-filter"], &[EPERM]),
    program("no_filter", &["switch-filter-off"], &[EINVAL]),
    program("higher_priority", &["nice", "-20"], &[EACCES, EPERM]),
    program("real_time", &["real-time"], &[EPERM]),
    program("more_open_files", &["raise-nofile"], &[EPERM]),
    program("all_capabilities", &["capset"], &[EPERM]),
    program("ambient_system_administration", &["ambient", "21"], &[EPERM]),
    program("physical_addresses", &["pagemap"], &[EPERM]),
    special("raw_network_without_a_network", raw_network_without_a_network),
];

/// A kernel without 32-bit programs kills who tries.
#[cfg(target_arch = "x86_64")]
fn mount_the_32_bit_way(ground: &Ground<'_>) {
    let outcome = ground.run(&["int80"]);
    if !matches!(outcome.result, Ok(kiln_executor::sandbox::ExitStatus::Signal(_))) {
        assert!([EPERM, ENOSYS].contains(&outcome.code()), "{outcome:?}");
    }
}

/// Sockets of odd families are made or refused, and never load anything.
fn raw_network_without_a_network(ground: &Ground<'_>) {
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let count = modules.lines().count();
    for family in ["9", "21", "30", "35", "44"] {
        let mut spec = ground.spec(&["socket", family, "3"]);
        spec.network = kiln_executor::sandbox::Network::None;
        let code = ground.world.run(&spec).code();
        assert!(
            [0, EAFNOSUPPORT, EPERM, EACCES, libc::ESOCKTNOSUPPORT, libc::EPROTONOSUPPORT].contains(&code),
            "{family}: {code}"
        );
    }
    assert_eq!(std::fs::read_to_string("/proc/modules").unwrap_or_default().lines().count(), count);
}
