//! Entering control groups, and what a command sees of them.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;

use super::guard::{self, Devices};
use super::protocol::{Failure, errno, failed};
use super::system::{INERT, attach, filesystem};
use super::{ControlGroup, Phase, sys};

/// The group of version 2, if there is one: a process can be made in it right away.
pub(super) fn open_unified(groups: &[ControlGroup]) -> Result<Option<OwnedFd>, Failure> {
    let Some(group) = groups.iter().find(|group| group.controllers.is_empty()) else { return Ok(None) };
    guard::open(&group.directory).map(Some).map_err(refused(group))
}

fn refused(group: &ControlGroup) -> impl FnOnce(Errno) -> Failure {
    failed(Phase::ControlGroup, group.directory.to_string_lossy())
}

/// Moves this process into its own groups of version 1, and makes all its groups the roots of what it sees. In that of
/// version 2 it has been made: its own, or the one that guards the devices of all.
pub(super) fn enter(groups: &[ControlGroup], devices: Devices) -> Result<(), Failure> {
    if !has_any(groups, devices) {
        return Ok(());
    }
    for group in groups.iter().filter(|group| !group.controllers.is_empty()) {
        let processes = fs::OpenOptions::new().write(true).open(group.directory.join("cgroup.procs"));
        let entered = processes.and_then(|mut processes| processes.write_all(b"0"));
        entered.map_err(|error| refused(group)(errno(&error)))?;
    }
    sys::unshare(UnshareFlags::NEWCGROUP).map_err(failed(Phase::Namespaces, "the control group namespace"))
}

/// Whether a command is in another group than the helper: one of its own or the one that guards the devices of all.
pub(super) fn has_any(groups: &[ControlGroup], devices: Devices) -> bool {
    !groups.is_empty() || devices == Devices::Guarded
}

/// Shows them at `/sys/fs/cgroup` of `root`, where programs look for what they may use. That of all is shown where the
/// machine has nothing else there either.
pub(super) fn mount(root: &OwnedFd, groups: &[ControlGroup], insecure: bool, devices: Devices) -> Result<(), Failure> {
    let common = groups.is_empty() && devices == Devices::Guarded && is_unified();
    if groups.is_empty() && !common {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = match rustix::fs::openat2(root, "sys/fs/cgroup", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed(Phase::System, "/sys/fs/cgroup"))?,
    };
    let attributes = if insecure { INERT } else { INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY) };
    let shown = if groups.iter().all(|group| group.controllers.is_empty()) {
        filesystem("cgroup2", &[], attributes).and_then(|tree| attach(&tree, &place))
    } else {
        mount_legacy(&place, groups, attributes)
    };
    shown.map_err(failed(Phase::System, "/sys/fs/cgroup"))
}

/// Whether the machine has the hierarchy of version 2 where programs look for it.
fn is_unified() -> bool {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|tree| tree.f_type as u64 == CGROUP2_SUPER_MAGIC)
}

/// A directory for each hierarchy of version 1, named after what it controls, and `unified` for that of version 2.
fn mount_legacy(place: &OwnedFd, groups: &[ControlGroup], attributes: MountAttrFlags) -> Result<(), Errno> {
    let all = filesystem("tmpfs", &[("mode", "755")], INERT)?;
    attach(&all, place)?;
    for ControlGroup { controllers, .. } in groups {
        let (name, kind) = match controllers[..] {
            [] => ("unified".to_owned(), "cgroup2"),
            _ => (controllers.join(","), "cgroup"),
        };
        rustix::fs::mkdirat(&all, &name, Mode::from_raw_mode(0o755))?;
        let options: Vec<(&str, &str)> = controllers.iter().map(|controller| (controller.as_str(), "")).collect();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let place = rustix::fs::openat(&all, &name, flags, Mode::empty())?;
        attach(&filesystem(kind, &options, attributes)?, &place)?;
        for controller in controllers.iter().filter(|controller| **controller != name) {
            rustix::fs::symlinkat(&name, &all, controller)?;
        }
    }
    sys::set_mount_attributes(all.as_fd(), u64::from(attributes.bits()), false)
}

/// Removes the groups of a command that kiln will not look after any more.
pub(super) fn remove(groups: &[ControlGroup]) {
    for group in groups {
        // What cannot be removed is for the next kiln.
        let _ = crate::cgroup::remove(&group.directory);
    }
}
