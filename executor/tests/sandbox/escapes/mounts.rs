//! Mounts, roots and namespaces.

use libc::{EACCES, EBUSY, ENOENT, ENOSYS, EPERM};

use super::{Attempt, Ground, program, shell, special};

pub const ALL: &[Attempt] = &[
    program("memory", &["mount", "kiln-escape", "/tmp", "tmpfs", "0", ""], &[EPERM]),
    program("proc", &["mount", "kiln-escape", "/tmp", "proc", "0", ""], &[EPERM]),
    program("sysfs", &["mount", "kiln-escape", "/tmp", "sysfs", "0", ""], &[EPERM]),
    program("control_groups", &["mount", "kiln-escape", "/tmp", "cgroup", "0", "memory"], &[EPERM]),
    program("unified_control_groups", &["mount", "kiln-escape", "/tmp", "cgroup2", "0", ""], &[EPERM]),
    program("bind", &["mount", "/data", "/tmp", "", "0x1000", ""], &[EPERM]),
    program("recursive_bind", &["mount", "/", "/tmp", "", "0x5000", ""], &[EPERM]),
    program(
        "overlay",
        &["mount", "kiln-escape", "/tmp", "overlay", "0", "lowerdir=/data,upperdir=/tmp,workdir=/bin"],
        &[EPERM],
    ),
    program("devices", &["mount", "kiln-escape", "/tmp", "devtmpfs", "0", ""], &[EPERM]),
    program("debugging", &["mount", "kiln-escape", "/tmp", "debugfs", "0", ""], &[EPERM]),
    program("settings_writable", &["mount", "", "/proc/sys", "", "0x1020", ""], &[EPERM]),
    program("sysfs_writable", &["mount", "", "/sys", "", "0x20", ""], &[EPERM]),
    program("hosts_writable", &["mount", "", "/etc/hosts", "", "0x1020", ""], &[EPERM]),
    program("root_with_devices", &["mount", "", "/", "", "0x1020", ""], &[EPERM]),
    program("root_shared", &["mount", "", "/", "", "0x104000", ""], &[EPERM]),
    program("moving_a_mount", &["mount", "/dev", "/tmp", "", "0x2000", ""], &[EPERM]),
    program("unmounting_a_mask", &["unmount", "/proc/kcore", "0"], &[EPERM]),
    program("unmounting_settings", &["unmount", "/proc/sys", "2"], &[EPERM]),
    program("unmounting_proc", &["unmount", "/proc", "2"], &[EPERM]),
    program("unmounting_hosts", &["unmount", "/etc/hosts", "2"], &[EPERM]),
    program("unmounting_the_root", &["unmount", "/", "2"], &[EPERM]),
    program("new_interface", &["fsopen", "tmpfs"], &[EPERM]),
    program("new_interface_overlay", &["fsopen", "overlay"], &[EPERM]),
    program("reconfiguring", &["fspick", "/sys"], &[EPERM]),
    program("copying_a_mount", &["open-tree", "/"], &[EPERM]),
    program("moving_a_mount_the_new_way", &["move-mount", "/dev", "/tmp"], &[EPERM]),
    program("attributes", &["mount-setattr", "/proc/sys"], &[EPERM]),
    program("changing_the_root", &["pivot-root", "/new", "/new"], &[EPERM]),
    program("climbing_out_of_a_chroot", &["chroot", "{file}"], &[ENOENT]),
    program("unshared_users", &["unshare", "0x10000000"], &[EPERM]),
    program("unshared_mounts", &["unshare", "0x20000"], &[EPERM]),
    program("unshared_control_groups", &["unshare", "0x2000000"], &[EPERM]),
    program("unshared_names", &["unshare", "0x4000000"], &[EPERM]),
    program("unshared_queues", &["unshare", "0x8000000"], &[EPERM]),
    program("unshared_processes", &["unshare", "0x20000000"], &[EPERM]),
    program("unshared_network", &["unshare", "0x40000000"], &[EPERM]),
    program("unshared_clock", &["unshare", "0x80"], &[EPERM]),
    program("cloned_users", &["clone", "0x10000000"], &[EPERM]),
    program("cloned_users_and_mounts", &["clone", "0x10020000"], &[EPERM]),
    program("cloned_mounts", &["clone", "0x20000"], &[EPERM]),
    program("cloned_network", &["clone", "0x40000000"], &[EPERM]),
    program("cloned_users_the_new_way", &["clone3", "0x10000000"], &[ENOSYS]),
    program("cloned_mounts_the_new_way", &["clone3", "0x20000"], &[ENOSYS]),
    program("entering_the_own_mounts", &["setns", "/proc/self/ns/mnt"], &[EPERM]),
    program("entering_the_first_users", &["setns", "/proc/1/ns/user"], &[EPERM]),
    program("entering_the_parents_processes", &["setns", "/proc/1/ns/pid_for_children"], &[EPERM]),
    program("moving_proc_away", &["rename", "/proc", "/old"], &[EBUSY]),
    program("moving_over_devices", &["rename", "/tmp", "/dev"], &[EBUSY]),
    program("removing_a_mount_point", &["delete", "/proc"], &[EBUSY]),
    shell("unshare_of_busybox", "unshare -r true && echo ESCAPED"),
    shell("mount_of_busybox", "mount -o remount,rw /sys && echo ESCAPED"),
    special("disk_of_the_machine", disk_of_the_machine),
    special("links_in_place_of_mount_points", links_in_place_of_mount_points),
];

/// A file system that only needs its device's path.
fn disk_of_the_machine(ground: &Ground<'_>) {
    for kind in ["ext4", "xfs", "btrfs", "squashfs", "iso9660"] {
        let device = ["device", "/disk", "b", "{major}", "{minor}"];
        ground.is_stopped(&ground.spec(&device), &[EPERM, EACCES]);
        ground.is_stopped(&ground.spec(&["mount", "/disk", "/tmp", kind, "1", ""]), &[EPERM]);
    }
}

/// Nothing is mounted where a layer's link leads to, out of the root or into one of kiln's own mounts.
fn links_in_place_of_mount_points(ground: &Ground<'_>) {
    let outside = ground.machine.file().parent().unwrap().to_owned();
    for target in ["/proc/self/root", "/proc/1/root", "/proc/self/fd/3", "../../../../..", outside.to_str().unwrap()] {
        for point in ["proc", "sys", "dev", "etc"] {
            let mut spec = ground.world.spec("test ! -e /victim");
            spec.root.lowers.push(ground.world.layer(|root| {
                std::os::unix::fs::symlink(target, root.join(point)).unwrap();
            }));
            match &ground.world.run(&spec).result {
                Ok(status) => assert_eq!(*status, kiln_executor::sandbox::ExitStatus::Code(0), "{target} at {point}"),
                Err(error) => assert!(!error.to_string().contains("escape"), "{error}"),
            }
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{target} at {point}");
        }
    }
}
