//! What a command asks to be mounted: each mount is made ready before the root is, and attached when all else is.
//!
//! A mount that has no place in the root gets one in a layer of the run's own, low down (see `points.rs`); one inside
//! of another mount is made in that, which is then its owner's to keep.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::child::attach_traced;
use super::guard::Devices;
use super::overlay::{Overlay, WorkDirectories};
use super::points::{self, Point};
use super::protocol::{Failure, Request, failed};
use super::system::{INERT, attach, attach_at, clone_tree, filesystem};
use super::{Mount, MountSource, Phase, Root, Secret, sys};

/// Where file systems of memory for shared memory are looked for, which nobody executes anything from.
const SHARED_MEMORY: &str = "dev/shm";

/// The file of a secret in the file system that it has for itself.
const SECRET: &str = "secret";

/// A mount that is not attached anywhere yet.
pub(super) struct Staged<'a> {
    pub(super) point: Point<'a>,
    mount: OwnedFd,
}

/// Makes all mounts ready, and the layer with the places for them.
pub(super) fn stage(request: &Request) -> Result<Vec<Staged<'_>>, Failure> {
    let mounts = &request.spec.mounts;
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let mut staged = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let stager = Stager { request, mount };
        let made = stager.make()?;
        stager.protect(&made).map_err(failed(Phase::Mount, &mount.destination))?;
        let stat = rustix::fs::fstat(&made).map_err(failed(Phase::Mount, &mount.destination))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let path = relative(&mount.destination).map_err(failed(Phase::MountPoint, &mount.destination))?;
        staged.push(Staged { point: Point { path, directory, follow: true }, mount: made });
    }
    let stub = WorkDirectories::below(&request.spec.root.work).stub;
    points::make_points(&stub, &points_of(&staged))?;
    Ok(staged)
}

/// Below the root, and nowhere else.
fn relative(destination: &str) -> Result<&str, Errno> {
    let path = destination.strip_prefix('/').ok_or(Errno::INVAL)?;
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !path.is_empty() { Ok(path) } else { Err(Errno::INVAL) }
}

/// Where they go.
pub(super) fn points_of<'a>(staged: &[Staged<'a>]) -> Vec<Point<'a>> {
    staged.iter().map(|staged| staged.point).collect()
}

/// Attaches them, in order, to a root that has everything else in it.
pub(super) fn attach_all(root: &OwnedFd, staged: &[Staged<'_>]) -> Result<(), Failure> {
    for Staged { point, mount } in staged {
        let place = match points::find(root, *point) {
            Ok(Some(place)) => Ok(place),
            Ok(None) => points::make_inside(root, *point),
            Err(error) => Err(error),
        };
        place
            .and_then(|place| if is_proc(&place)? { Err(Errno::PERM) } else { Ok(place) })
            .map_err(|error| Failure { phase: Phase::MountPoint, what: explain(*point, error), error })
            .and_then(|place| attach(mount, &place).map_err(failed(Phase::Mount, format!("/{}", point.path))))?;
    }
    Ok(())
}

fn explain(point: Point<'_>, error: Errno) -> String {
    let path = point.path;
    match error {
        Errno::ROFS => format!("`/{path}` is not there, and the mount that it would be in is read-only"),
        Errno::XDEV => format!("`/{path}` leads out of the mount that it is in, to where nothing is"),
        _ => format!("`/{path}`"),
    }
}

/// A command that could choose what is in `/proc` could choose what it is told of itself.
fn is_proc(place: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(place)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

struct Stager<'a> {
    request: &'a Request,
    mount: &'a Mount,
}

impl Stager<'_> {
    fn make(&self) -> Result<OwnedFd, Failure> {
        let failed = || failed(Phase::Mount, &self.mount.destination);
        match &self.mount.source {
            MountSource::Layers { tree, selector } => self.layers(tree, selector),
            MountSource::Directory(path) | MountSource::Socket(path) => clone_tree(CWD, path, false).map_err(failed()),
            MountSource::Tmpfs { size } => {
                let size = size.map(|size| size.to_string());
                let mut options = vec![("mode", "1777")];
                options.extend(size.as_deref().map(|size| ("size", size)));
                filesystem("tmpfs", &options, MountAttrFlags::empty()).map_err(failed())
            }
            MountSource::Secret { content, uid, gid, mode } => {
                self.secret(content, (*uid, *gid), *mode).map_err(failed())
            }
        }
    }

    /// An overlay like the root's. What it is of is cut out of it.
    fn layers(&self, tree: &Root, selector: &str) -> Result<OwnedFd, Failure> {
        let in_it = |error| failed(Phase::Mount, format!("`{selector}` at {}", self.mount.destination))(error);
        let cut = |whole: &OwnedFd| points::open(whole, selector.trim_start_matches('/'), OFlags::empty());
        if tree.lowers.is_empty() && tree.traced.is_none() {
            // There is nothing to lay over.
            let whole = clone_tree(CWD, &tree.upper, false).map_err(in_it)?;
            return if is_whole(selector) { Ok(whole) } else { Err(in_it(Errno::NOENT)) };
        }
        attach_traced(self.request, tree).map_err(in_it)?;
        let traced = tree.traced.is_some().then_some(self.request.house.traced.as_path());
        let overlay = Overlay {
            lowers: traced.into_iter().chain(tree.lowers.iter().rev().map(|lower| lower.as_path())).collect(),
            upper: &tree.upper,
            work: &WorkDirectories::below(&tree.work).overlay,
            user_attributes: self.request.house.user_namespace,
            devices: self.request.devices != Devices::Mounted,
        };
        let whole = overlay.mount(self.stage())?;
        if let Some(traced) = traced {
            // The overlay has it for itself now, and others want the place.
            rustix::mount::unmount(traced, UnmountFlags::DETACH).map_err(in_it)?;
        }
        let part = if is_whole(selector) {
            clone_tree(&whole, "", false)
        } else {
            cut(&whole).and_then(|part| clone_tree(&part, "", false))
        };
        self.clear_stage().and(part).map_err(in_it)
    }

    /// A file in a file system of its own, of the kind that is never swapped out.
    fn secret(&self, content: &Secret, owner: (u32, u32), mode: u32) -> Result<OwnedFd, Errno> {
        let memory = filesystem("ramfs", &[("mode", "700")], INERT)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        attach_at(&memory, CWD, self.stage())?;
        let written = rustix::fs::openat(&memory, SECRET, flags, Mode::RUSR | Mode::WUSR).and_then(|file| {
            write_all(&file, content.expose())?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
        });
        let file = written.and_then(|()| clone_tree(&memory, SECRET, false));
        self.clear_stage().and(file)
    }

    /// Where mounts are for a moment: only what is mounted somewhere can be cut to pieces. The root is not there yet.
    fn stage(&self) -> &Path {
        &self.request.house.stub
    }

    fn clear_stage(&self) -> Result<(), Errno> {
        rustix::mount::unmount(self.stage(), UnmountFlags::DETACH)
    }

    /// What a mount must not be good for.
    fn protect(&self, made: &OwnedFd) -> Result<(), Errno> {
        let mut attributes = MountAttrFlags::empty();
        let shared_memory = Path::new(&self.mount.destination).strip_prefix("/") == Ok(Path::new(SHARED_MEMORY));
        match &self.mount.source {
            MountSource::Secret { .. } => attributes |= INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY),
            MountSource::Socket(_) => attributes |= INERT,
            MountSource::Tmpfs { .. } if shared_memory => attributes |= INERT,
            MountSource::Tmpfs { .. } => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            MountSource::Layers { .. } | MountSource::Directory(_) => {}
        }
        if self.request.devices == Devices::Mounted {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
        if self.mount.readonly {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        if attributes.is_empty() {
            return Ok(());
        }
        sys::set_mount_attributes(made.as_fd(), u64::from(attributes.bits()), false)
    }
}

fn is_whole(selector: &str) -> bool {
    selector.bytes().all(|byte| byte == b'/')
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
