//! Entering control groups, and what a command sees of them. Only for commands that have some of their own.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;

use super::protocol::{Failure, errno, failed};
use super::system::{INERT, attach, filesystem};
use super::{ControlGroup, Phase, sys};

/// The group of version 2, if there is one: a process can be made in it right away.
pub(super) fn open_unified(groups: &[ControlGroup]) -> Result<Option<OwnedFd>, Failure> {
    let Some(group) = groups.iter().find(|group| group.controllers.is_empty()) else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, &group.directory, flags, Mode::empty()).map(Some).map_err(refused(group))
}

fn refused(group: &ControlGroup) -> impl FnOnce(Errno) -> Failure {
    failed(Phase::ControlGroup, group.directory.to_string_lossy())
}

/// Moves this process into the groups of version 1, and makes all its groups the roots of what it sees.
pub(super) fn enter(groups: &[ControlGroup]) -> Result<(), Failure> {
    if groups.is_empty() {
        return Ok(());
    }
    for group in groups.iter().filter(|group| !group.controllers.is_empty()) {
        let processes = fs::OpenOptions::new().write(true).open(group.directory.join("cgroup.procs"));
        let entered = processes.and_then(|mut processes| processes.write_all(b"0"));
        entered.map_err(|error| refused(group)(errno(&error)))?;
    }
    sys::unshare(UnshareFlags::NEWCGROUP).map_err(failed(Phase::Namespaces, "the control group namespace"))
}

/// Shows them at `/sys/fs/cgroup` of `root`, where programs look for what they may use.
pub(super) fn mount(root: &OwnedFd, groups: &[ControlGroup], insecure: bool) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = match rustix::fs::openat2(root, "sys/fs/cgroup", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed(Phase::System, "/sys/fs/cgroup"))?,
    };
    let attributes = if insecure { INERT } else { INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY) };
    let shown = match groups {
        [] => Ok(()),
        [group] if group.controllers.is_empty() => {
            filesystem("cgroup2", &[], attributes).and_then(|tree| attach(&tree, &place))
        }
        _ => mount_legacy(&place, groups, attributes),
    };
    shown.map_err(failed(Phase::System, "/sys/fs/cgroup"))
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
