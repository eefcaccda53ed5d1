//! Where things are mounted in a sandbox's root, without leaving a trace in its upper directory.
//!
//! The stub, the lowest layer of every root, has all mount points. Where an image hides one (a symlink to
//! nothing, a whiteout, a file in place of a directory), a *patch* makes up for it: one more layer, above all
//! others, that has the missing mount points and copies of the directories on the way to them. So nothing is
//! ever made in the upper directory that the command did not make.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::Phase;
use super::protocol::{Failure, failed};

/// A place to mount something at.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    /// Relative to the root.
    pub(super) path: &'a str,
    /// A directory; else a file.
    pub(super) directory: bool,
    /// Whether a symbolic link in its place is followed, inside the root.
    pub(super) follow: bool,
}

/// Those of every root, in the order of [`Points`]'s fields. A directory such as `/proc` must be what it says:
/// mounted elsewhere, it would not be what the command finds by its name.
const POINTS: [Point<'static>; 5] = [
    Point { path: "proc", directory: true, follow: false },
    Point { path: "sys", directory: true, follow: false },
    Point { path: "dev", directory: true, follow: false },
    Point { path: "etc/resolv.conf", directory: false, follow: true },
    Point { path: "etc/hosts", directory: false, follow: true },
];

/// More symlinks on one path are a loop.
const MAX_LINKS: usize = 40;

/// The mount points of every root, found.
pub(super) struct Points {
    pub(super) proc: OwnedFd,
    pub(super) sys: OwnedFd,
    pub(super) dev: OwnedFd,
    pub(super) resolv_conf: OwnedFd,
    pub(super) hosts: OwnedFd,
}

/// Puts the stub layer into an empty directory.
pub(super) fn make_stub(stub: &Path) -> std::io::Result<()> {
    for point in POINTS {
        let path = stub.join(point.path);
        if point.directory {
            std::fs::create_dir_all(path)?;
        } else {
            std::fs::create_dir_all(path.parent().unwrap_or(stub))?;
            std::fs::write(path, b"")?;
        }
    }
    Ok(())
}

impl Points {
    /// Finds the mount points of every root, or says which ones are missing, also of those that are `wanted`.
    pub(super) fn find<'a>(root: &OwnedFd, wanted: &[Point<'a>]) -> Result<Result<Self, Vec<Point<'a>>>, Failure> {
        let mut found = Vec::with_capacity(POINTS.len());
        let mut missing = Vec::new();
        for point in POINTS {
            match find(root, point).map_err(failed(Phase::MountPoint, point.path))? {
                Some(place) => found.push(place),
                None => missing.push(point),
            }
        }
        for (position, point) in wanted.iter().enumerate() {
            if is_missing(root, *point, &wanted[..position])
                .map_err(failed(Phase::MountPoint, format!("/{}", point.path)))?
            {
                missing.push(*point);
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        Ok(match <[OwnedFd; 5]>::try_from(found) {
            Ok([proc, sys, dev, resolv_conf, hosts]) => Ok(Self { proc, sys, dev, resolv_conf, hosts }),
            Err(_) => Err(missing),
        })
    }
}

/// Whether a point that the command wants has to be made in the root. One inside of another mount is looked for in
/// that, later.
fn is_missing(root: &OwnedFd, point: Point<'_>, before: &[Point<'_>]) -> Result<bool, Errno> {
    let place = resolve(root, point)?;
    if place.starts_with("proc") {
        // A command that could choose what is there could choose what it is told of itself.
        return Err(Errno::PERM);
    }
    if find(root, point)?.is_some() {
        return Ok(false);
    }
    if POINTS.iter().any(|system| place.starts_with(system.path)) {
        return Ok(false);
    }
    for other in before {
        if place.starts_with(resolve(root, *other)?) {
            return Ok(false);
        }
    }
    for (distance, part) in place.ancestors().filter(|part| !part.as_os_str().is_empty()).enumerate() {
        match open(root, part, OFlags::NOFOLLOW) {
            Ok(there) if distance == 0 => {
                let is_directory = kind(&rustix::fs::fstat(&there)?) == FileType::Directory;
                return Err(if is_directory { Errno::ISDIR } else { Errno::NOTDIR });
            }
            Ok(there) if kind(&rustix::fs::fstat(&there)?) != FileType::Directory => return Err(Errno::NOTDIR),
            Ok(_) => break,
            Err(_) => {}
        }
    }
    Ok(true)
}

/// What is at a point, if that is of the right kind.
pub(super) fn find(root: &OwnedFd, point: Point<'_>) -> Result<Option<OwnedFd>, Errno> {
    let follow = if point.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let place = match open(root, point.path, follow) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        other => other?,
    };
    let is_directory = kind(&rustix::fs::fstat(&place)?) == FileType::Directory;
    Ok((is_directory == point.directory).then_some(place))
}

pub(super) fn open(root: &OwnedFd, path: impl rustix::path::Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel could not rule out that something on the way up was being moved, anywhere on the machine:
            // try again, as openat2(2) says.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Makes the patch for these mount points, which `root` lacks, in the empty directory `patch`.
pub(super) fn make_patch(root: &OwnedFd, patch: &Path, missing: &[Point<'_>]) -> Result<(), Failure> {
    let mut copied = Vec::new();
    for point in missing {
        make_point(root, patch, *point, &mut copied).map_err(failed(Phase::MountPoint, point.path))?;
    }
    for (path, stat) in copied.iter().rev() {
        copy_times(path, stat).map_err(failed(Phase::MountPoint, path.to_string_lossy()))?;
    }
    Ok(())
}

fn make_point(root: &OwnedFd, patch: &Path, point: Point<'_>, copied: &mut Vec<(PathBuf, Stat)>) -> Result<(), Errno> {
    let place = resolve(root, point)?;
    let parents = place.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let parents: Vec<&Path> = parents.collect();
    for parent in parents.iter().rev() {
        if make_directory(&patch.join(parent))? {
            copy_metadata(root, parent, &patch.join(parent), copied)?;
        }
    }
    make_place(&patch.join(place), point.directory)
}

/// Makes an empty directory or file; that it is there already is fine.
fn make_place(place: &Path, directory: bool) -> Result<(), Errno> {
    if directory {
        return make_directory(place).map(drop);
    }
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Makes these points, and the directories above them, in an empty directory that is to be a layer.
pub(super) fn make_points(stub: &Path, points: &[Point<'_>]) -> Result<(), Failure> {
    make_directory(stub).map_err(failed(Phase::MountPoint, stub.to_string_lossy()))?;
    for point in points {
        let place = stub.join(point.path);
        let mut parents: Vec<&Path> = place.ancestors().skip(1).take_while(|parent| *parent != stub).collect();
        parents.reverse();
        parents
            .into_iter()
            .try_for_each(|parent| make_directory(parent).map(drop))
            .and_then(|()| make_place(&place, point.directory))
            .map_err(failed(Phase::MountPoint, format!("/{}", point.path)))?;
    }
    Ok(())
}

/// Makes a point in what is mounted around it, as far as it is not there; never in the root itself.
pub(super) fn make_inside(root: &OwnedFd, point: Point<'_>) -> Result<OwnedFd, Errno> {
    let device = rustix::fs::fstat(root)?.st_dev;
    let place = resolve(root, point)?;
    let mut here = open(root, ".", OFlags::DIRECTORY)?;
    let mut names = place.iter().peekable();
    while let Some(name) = names.next() {
        let directory = point.directory || names.peek().is_some();
        here = match open(&here, name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => {
                if rustix::fs::fstat(&here)?.st_dev == device {
                    return Err(Errno::XDEV);
                }
                if directory {
                    rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755))?;
                } else {
                    rustix::fs::mknodat(&here, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
                }
                open(&here, name, OFlags::NOFOLLOW)?
            }
            other => other?,
        };
        if (kind(&rustix::fs::fstat(&here)?) == FileType::Directory) != directory {
            return Err(if directory { Errno::NOTDIR } else { Errno::ISDIR });
        }
    }
    Ok(here)
}

/// Whether it was not there before.
fn make_directory(path: &Path) -> Result<bool, Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where the path of a mount point leads inside the root, whether or not that exists.
fn resolve(root: &OwnedFd, point: Point<'_>) -> Result<PathBuf, Errno> {
    let mut resolved: Vec<OsString> = Vec::new();
    let mut pending: VecDeque<OsString> = components(point.path.as_ref());
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(name);
        if pending.is_empty() && !point.follow || links >= MAX_LINKS {
            continue;
        }
        let path: PathBuf = resolved.iter().collect();
        let Ok(here) = open(root, path.as_path(), OFlags::NOFOLLOW) else { continue };
        if kind(&rustix::fs::fstat(&here)?) == FileType::Symlink {
            links += 1;
            let target = OsString::from_vec(rustix::fs::readlinkat(&here, "", Vec::new())?.into_bytes());
            resolved.pop();
            if target.as_bytes().starts_with(b"/") {
                resolved.clear();
            }
            for part in components(&target).into_iter().rev() {
                pending.push_front(part);
            }
        }
    }
    if resolved.is_empty() { Err(Errno::ISDIR) } else { Ok(resolved.iter().collect()) }
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

/// Gives a directory of the patch the owner, mode and attributes of the one that it stands for, if that exists;
/// its times come last, when nothing is made in it any more.
fn copy_metadata(root: &OwnedFd, path: &Path, copy: &Path, copied: &mut Vec<(PathBuf, Stat)>) -> Result<(), Errno> {
    let Ok(original) = open(root, path, OFlags::NOFOLLOW | OFlags::DIRECTORY) else { return Ok(()) };
    let stat = rustix::fs::fstat(&original)?;
    rustix::fs::chown(copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::chmod(copy, Mode::from_raw_mode(stat.st_mode))?;
    copy_attributes(root, path, copy)?;
    copied.push((copy.to_owned(), stat));
    Ok(())
}

fn copy_attributes(root: &OwnedFd, path: &Path, copy: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let original = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    let mut names = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(&original, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; 64 * 1024];
        let length = rustix::fs::fgetxattr(&original, name, value.as_mut_slice())?;
        rustix::fs::lsetxattr(copy, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

fn copy_times(path: &Path, stat: &Stat) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}
