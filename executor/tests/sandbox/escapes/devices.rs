//! Devices and terminals.

use libc::{EACCES, EIO, ENODEV, ENOENT, ENOTTY, ENXIO, EPERM};

use super::{Attempt, Ground, program, special};

/// As root the node can be made, as with Docker, but not opened: its control group refuses (EPERM) or, without one, the
/// mount (EACCES). In a user namespace it cannot even be made.
const SHUT: &[i32] = &[EPERM, EACCES];

pub const ALL: &[Attempt] = &[
    program("disk", &["device", "/disk", "b", "{major}", "{minor}"], SHUT),
    program("disk_in_dev", &["device", "/dev/disk", "b", "{major}", "{minor}"], SHUT),
    program("disk_in_shared_memory", &["device", "/dev/shm/disk", "b", "{major}", "{minor}"], SHUT),
    program("disk_over_another", &["device", "/dev/pts/disk", "b", "{major}", "{minor}"], SHUT),
    program("memory", &["device", "/mem", "c", "1", "1"], SHUT),
    program("ports", &["device", "/port", "c", "1", "4"], SHUT),
    program("kernel_messages", &["device", "/kmsg", "c", "1", "11"], SHUT),
    program("kernel_messages_in_dev", &["device", "/dev/kmsg", "c", "1", "11"], SHUT),
    program("first_terminal", &["device", "/tty1", "c", "4", "1"], SHUT),
    program("serial_line", &["device", "/ttyS0", "c", "4", "64"], SHUT),
    program("console", &["device", "/console", "c", "5", "1"], SHUT),
    // It leads to the terminals beside it, and there are none.
    program("terminal_multiplexer", &["device", "/ptmx", "c", "5", "2"], &[EPERM, EACCES, ENOENT, ENODEV]),
    program("loop", &["device", "/loop0", "b", "7", "0"], SHUT),
    program("loop_control", &["device", "/loop-control", "c", "10", "237"], SHUT),
    program("fuse", &["device", "/fuse", "c", "10", "229"], SHUT),
    program("fuse_in_dev", &["device", "/dev/fuse", "c", "10", "229"], SHUT),
    program("tunnel", &["device", "/tun", "c", "10", "200"], SHUT),
    program("virtual_machines", &["device", "/kvm", "c", "10", "232"], SHUT),
    program("device_mapper", &["device", "/control", "c", "10", "236"], SHUT),
    program("input", &["device", "/event0", "c", "13", "64"], SHUT),
    program("whiteout", &["device", "/whiteout", "c", "0", "0"], &[EPERM]),
    program("typing", &["type"], &[ENOTTY]),
    program("pasting", &["paste"], &[ENOTTY]),
    program("controlling_terminal", &["open-write", "/dev/tty"], &[ENXIO]),
    program("another_ones_terminal", &["steal-terminal", "/dev/pts/0"], &[ENOENT, EIO]),
    program("terminal_multiplexer_of_the_machine", &["open-write", "/dev/../dev/pts/../pts/0"], &[ENOENT, EIO]),
    special("devices_of_an_image", devices_of_an_image),
    special("moved_devices", moved_devices),
    special("own_terminal", own_terminal),
];

/// A layer can hold any device (as root: nobody else can make one).
fn devices_of_an_image(ground: &Ground<'_>) {
    if ground.world.identity.in_user_namespace() {
        return;
    }
    let (major, minor) = ground.machine.disk();
    let layer = ground.world.layer(|root| {
        let make = |name: &str, kind, major, minor| {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(rustix::fs::CWD, root.join(name), kind, mode, device).unwrap();
        };
        make("disk", rustix::fs::FileType::BlockDevice, major, minor);
        make("kmsg", rustix::fs::FileType::CharacterDevice, 1, 11);
        std::fs::create_dir(root.join("dev")).unwrap();
        make("dev/disk", rustix::fs::FileType::BlockDevice, major, minor);
    });
    for (path, errors) in [("/disk", SHUT), ("/kmsg", SHUT), ("/dev/disk", &[ENOENT])] {
        for way in ["read-device", "write-device"] {
            let mut spec = ground.spec(&[way, path]);
            spec.root.lowers.push(layer.clone());
            ground.is_stopped(&spec, errors);
        }
    }
}

/// Neither the name nor the place of a device makes it another one.
fn moved_devices(ground: &Ground<'_>) {
    let (major, minor) = ground.machine.disk();
    let script = format!(
        "for place in / /dev/ /tmp/ /dev/shm/; do \
         mknod ${{place}}made b {major} {minor} && mv ${{place}}made ${{place}}moved && ln ${{place}}moved ${{place}}linked; \
         for f in ${{place}}moved ${{place}}linked /proc/self/root${{place}}linked; do \
         head -c 1 $f > /dev/null && echo ESCAPED; done; done; exit 1"
    );
    let outcome = ground.world.sh(&script);
    assert!(!outcome.stdout.contains("ESCAPED"), "{outcome:?}");
}

/// A terminal of one's own is not one of the machine's.
fn own_terminal(ground: &Ground<'_>) {
    let before = terminals();
    let outcome = ground.world.sh("exec 3<> /dev/ptmx; ls /dev/pts");
    assert_eq!(outcome.assert_ok().stdout, "0\nptmx\n");
    assert!(terminals() <= before + 64, "they are counted elsewhere");
}

fn terminals() -> usize {
    std::fs::read_dir("/dev/pts").map_or(0, Iterator::count)
}
