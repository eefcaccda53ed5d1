//! What the kernel shows of itself in files.

use libc::{EACCES, EBUSY, ENOENT, EPERM, EROFS};

use super::{Attempt, Ground, program, shell, special};

/// Read-only; in a user namespace the files are not even the sandbox's root's.
const SHUT: &[i32] = &[EROFS, EACCES];

pub const ALL: &[Attempt] = &[
    program("core_pattern", &["write", "/proc/sys/kernel/core_pattern", "|/tmp/kiln-escape"], SHUT),
    program("modprobe", &["write", "/proc/sys/kernel/modprobe", "/tmp/kiln-escape"], SHUT),
    program("host_name_setting", &["write", "/proc/sys/kernel/hostname", "kiln-escape"], SHUT),
    program("domain_name_setting", &["write", "/proc/sys/kernel/domainname", "kiln-escape"], SHUT),
    program("panic_setting", &["write", "/proc/sys/kernel/panic", "86400"], SHUT),
    program("sysrq_setting", &["write", "/proc/sys/kernel/sysrq", "511"], SHUT),
    program("overcommit_setting", &["write", "/proc/sys/vm/overcommit_memory", "2"], SHUT),
    program("forwarding_setting", &["write", "/proc/sys/net/ipv4/ip_forward", "1"], SHUT),
    program("shared_memory_setting", &["write", "/proc/sys/kernel/shmmax", "4096"], SHUT),
    program("suid_dumpable_setting", &["write", "/proc/sys/fs/suid_dumpable", "2"], SHUT),
    // Where it is mounted on the machine, a command does not see it.
    program(
        "binary_formats",
        &["write", "/proc/sys/fs/binfmt_misc/register", ":kiln-escape:M::x::/x:"],
        &[ENOENT, EROFS, EACCES],
    ),
    program("setting_through_a_process", &["write", "/proc/1/root/proc/sys/kernel/panic", "86400"], SHUT),
    program("setting_through_a_task", &["write", "/proc/self/task/1/cwd/proc/sys/kernel/panic", "86400"], SHUT),
    program("mode_of_a_setting", &["chmod", "/proc/sys/kernel/panic", "666"], SHUT),
    // `h` only prints a help text to the kernel's log.
    program("sysrq", &["write", "/proc/sysrq-trigger", "h"], SHUT),
    program("interrupts", &["write", "/proc/irq/default_smp_affinity", "1"], SHUT),
    program("hotplug_helper", &["write", "/sys/kernel/uevent_helper", "/tmp/kiln-escape"], SHUT),
    program("huge_pages", &["write", "/sys/kernel/mm/transparent_hugepage/enabled", "never"], SHUT),
    program("power_state", &["open-write", "/sys/power/state"], SHUT),
    program("module_parameters", &["write", "/sys/module/kernel/parameters/panic", "86400"], SHUT),
    program(
        "block_device_settings",
        &["open-write", "/sys/block/../module/loop/parameters/max_loop"],
        &[EROFS, EACCES],
    ),
    program("files_in_sys", &["nameless", "/sys"], &[libc::EOPNOTSUPP, EROFS]),
    program("control_group_of_the_machine", &["open-write", "/sys/fs/cgroup/devices/cgroup.procs"], &[ENOENT]),
    program("release_agent", &["open-write", "/sys/fs/cgroup/memory/release_agent"], &[ENOENT]),
    program("second_control_groups", &["open-write", "/sys/fs/cgroup/cgroup.procs"], &[ENOENT, EROFS]),
    program("kernel_memory_file", &["write", "/proc/kcore", "x"], SHUT),
    program("ids_of_the_namespace", &["write", "/proc/self/uid_map", "0 0 4294967295"], &[EPERM]),
    program("groups_of_the_namespace", &["write", "/proc/self/setgroups", "allow"], &[EPERM, EACCES]),
    program("safety_from_lack_of_memory", &["write", "/proc/self/oom_score_adj", "-1000"], &[EACCES]),
    program("removal_of_a_mask", &["delete", "/proc/kcore"], &[EPERM, EACCES, EBUSY]),
    program("removal_of_a_mount", &["delete", "/proc/sys"], &[EPERM, EACCES, EBUSY]),
    program("kernel_messages", &["open-read", "/dev/kmsg"], &[ENOENT]),
    shell("dynamic_debug", "echo 'module kernel +p' > /proc/dynamic_debug/control"),
    shell("making_control_groups", "mkdir /sys/fs/cgroup/kiln-escape && echo ESCAPED"),
    shell("making_files_in_proc", "touch /proc/kiln-escape && echo ESCAPED"),
    special("masked_files_are_empty", masked_files_are_empty),
    special("kernel_addresses_are_hidden", kernel_addresses_are_hidden),
    special("own_control_group_is_the_root", own_control_group_is_the_root),
];

fn masked_files_are_empty(ground: &Ground<'_>) {
    let script = "cd /proc; for f in kcore keys timer_list timer_stats interrupts latency_stats sched_debug kmsg; do \
                  test -e $f && cat $f; done; ls acpi asound scsi /sys/firmware /sys/devices/virtual/powercap";
    let outcome = ground.world.sh(&format!("({script}) 2> /dev/null; true"));
    let shown: Vec<&str> = outcome.stdout.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
    assert!(shown.is_empty(), "{outcome:?}");
}

fn kernel_addresses_are_hidden(ground: &Ground<'_>) {
    let outcome = ground.world.sh("head -n 3 /proc/kallsyms; cat /proc/self/stack");
    let shown = outcome.stdout.split_whitespace().any(|word| word.len() == 16 && word.starts_with("ffff"));
    assert!(!shown, "{outcome:?}");
}

fn own_control_group_is_the_root(ground: &Ground<'_>) {
    let groups = ground.world.says("cat /proc/self/cgroup");
    assert!(!groups.is_empty());
    assert!(groups.lines().all(|group| group.ends_with(":/")), "{groups}");
}
