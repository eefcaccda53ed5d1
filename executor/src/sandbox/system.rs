//! What Linux shows of itself in a sandbox: `/proc`, `/sys` and `/dev`, as Docker gives them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::guard::Devices;
use super::points::Points;
use super::protocol::{Failure, House, Request, failed};
use super::{Phase, devices, sys};

/// Below `/proc`, not to be written to.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Below `/proc`, not to be seen: they tell of the machine, or reach into it.
const MASKED_PROC: [&str; 11] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
    "kmsg",
];

/// Below `/sys`, not to be seen.
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// Device nodes: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Symlinks in `/dev`: name, target.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

pub(super) const INERT: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Mounts all of it. `own_network` says that the command has a network namespace of its own; where it is insecure
/// nothing is hidden or read-only.
pub(super) fn mount(points: &Points, request: &Request, own_network: bool) -> Result<(), Failure> {
    let (house, insecure) = (&request.house, request.spec.insecure);
    let proc = filesystem("proc", &[], INERT).map_err(failed(Phase::System, "/proc"))?;
    attach(&proc, &points.proc).map_err(failed(Phase::System, "/proc"))?;
    let attributes = if insecure { INERT } else { INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY) };
    // The kernel shows a sysfs only to those who own the network namespace that it tells of.
    let sys = if house.user_namespace && !own_network {
        let sys = clone_tree(CWD, "/sys", true).map_err(failed(Phase::System, "/sys"))?;
        sys::set_mount_attributes(sys.as_fd(), u64::from(attributes.bits()), true)
            .map_err(failed(Phase::System, "/sys"))?;
        sys
    } else {
        filesystem("sysfs", &[], attributes).map_err(failed(Phase::System, "/sys"))?
    };
    attach(&sys, &points.sys).map_err(failed(Phase::System, "/sys"))?;
    let dev = mount_dev(&points.dev, house, request.devices)?;
    if insecure {
        return if house.user_namespace { Ok(()) } else { devices::add_insecure(&dev) };
    }
    for name in READ_ONLY {
        protect(&proc, name).map_err(failed(Phase::System, format!("/proc/{name}")))?;
    }
    let mut mask = Mask { null: child(&dev, "null").map_err(failed(Phase::System, "/dev/null"))?, empty: None };
    for name in MASKED_PROC {
        mask.hide(&proc, name).map_err(failed(Phase::System, format!("/proc/{name}")))?;
    }
    for name in MASKED_SYS {
        mask.hide(&sys, name).map_err(failed(Phase::System, format!("/sys/{name}")))?;
    }
    if house.user_namespace && !own_network {
        // The machine's own control groups came along with its /sys.
        mask.hide(&sys, "fs/cgroup").map_err(failed(Phase::System, "/sys/fs/cgroup"))?;
    }
    Ok(())
}

/// Shows the file at `source` at `point`, read-only.
pub(super) fn bind_file(source: &Path, point: &OwnedFd) -> Result<(), Errno> {
    let file = clone_tree(CWD, source, false)?;
    let attributes = INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
    sys::set_mount_attributes(file.as_fd(), u64::from(attributes.bits()), false)?;
    attach(&file, point)
}

/// Attaches a mount at the place that `point` is open on.
pub(super) fn attach(mount: &OwnedFd, point: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags)
}

/// Attaches a mount at a path.
pub(super) fn attach_at(mount: &OwnedFd, directory: impl AsFd, path: &Path) -> Result<(), Errno> {
    move_mount(mount, "", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn mount_dev(point: &OwnedFd, house: &House, devices: Devices) -> Result<OwnedFd, Failure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = filesystem("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes)
        .map_err(failed(Phase::System, "/dev"))?;
    attach(&dev, point).map_err(failed(Phase::System, "/dev"))?;
    for (name, major, minor) in DEVICES {
        let made = if house.user_namespace {
            bind_device(&dev, name)
        } else {
            make_device(&dev, name, (major, minor), devices)
        };
        made.map_err(failed(Phase::System, format!("/dev/{name}")))?;
    }
    if devices == Devices::Mounted {
        // What a command makes here itself is no device.
        sys::set_mount_attributes(dev.as_fd(), u64::from(MountAttrFlags::MOUNT_ATTR_NODEV.bits()), false)
            .map_err(failed(Phase::System, "/dev"))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(failed(Phase::System, format!("/dev/{name}")))?;
    }
    // The group of terminals; a namespace with a single id does not have it.
    let pts: &[(&str, &str)] = &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let pts = if house.single_id { &pts[..3] } else { pts };
    let not_device = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let shm = [("mode", "1777"), ("size", "65536k")];
    mount_below(&dev, "pts", "devpts", pts, not_device).map_err(failed(Phase::System, "/dev/pts"))?;
    mount_below(&dev, "shm", "tmpfs", &shm, INERT).map_err(failed(Phase::System, "/dev/shm"))?;
    mount_below(&dev, "mqueue", "mqueue", &[], INERT).map_err(failed(Phase::System, "/dev/mqueue"))?;
    Ok(dev)
}

fn mount_below(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<(), Errno> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    attach(&filesystem(kind, options, attributes)?, &child(dev, name)?)
}

/// A device that works where no others do has a mount of its own.
fn make_device(dev: &OwnedFd, name: &str, (major, minor): (u32, u32), devices: Devices) -> Result<(), Errno> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
    if devices != Devices::Mounted {
        return Ok(());
    }
    attach(&clone_tree(dev, name, false)?, &child(dev, name)?)
}

/// No device can be made in a user namespace; the machine's own is shown instead.
fn bind_device(dev: &OwnedFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
    attach(&clone_tree(CWD, Path::new("/dev").join(name), false)?, &file)
}

/// Makes a part of `/proc` read-only.
fn protect(proc: &OwnedFd, name: &str) -> Result<(), Errno> {
    let part = match clone_tree(proc, name, true) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    sys::set_mount_attributes(part.as_fd(), u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), true)?;
    attach(&part, &child(proc, name)?)
}

/// What hides things: `/dev/null` hides files, an empty directory directories.
struct Mask {
    null: OwnedFd,
    empty: Option<OwnedFd>,
}

impl Mask {
    fn hide(&mut self, directory: &OwnedFd, name: &str) -> Result<(), Errno> {
        let place = match child(directory, name) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) != FileType::Directory {
            return attach(&clone_tree(&self.null, "", false)?, &place);
        }
        if let Some(empty) = &self.empty {
            return attach(&clone_tree(empty, "", false)?, &place);
        }
        let attributes = INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let empty = self.empty.insert(filesystem("tmpfs", &[("mode", "755"), ("size", "0")], attributes)?);
        attach(empty, &place)
    }
}

/// A new mount that is not attached anywhere yet.
pub(super) fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *name)?;
        } else {
            fsconfig_set_string(&context, *name, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of what is mounted at a path, not attached anywhere yet.
pub(super) fn clone_tree(directory: impl AsFd, path: impl AsRef<Path>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path.as_ref(), flags)
}

fn child(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}
