//! The root of a sandbox: overlayfs over any number of layers.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::protocol::Failure;
use super::{Phase, Root, RunSpec};

/// What an overlay is made of.
pub(super) struct Overlay<'a> {
    /// Layers, the highest first.
    pub(super) lowers: Vec<&'a Path>,
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// Whether marks are in `user.*` attributes.
    pub(super) user_attributes: bool,
    /// Whether device nodes in it can be opened. A capability lets a command make the node of any disk, so that takes
    /// a control group that guards them.
    pub(super) devices: bool,
}

/// `volatile`: unmounting need not wait for the disk. The others: layers must not depend on what lies below
/// them, nor on inode numbers, and no mark that an image brings along may lead anywhere.
const OPTIONS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

/// fsconfig takes no longer text.
const LONGEST: usize = 255;

/// How many layers one overlayfs takes (`OVL_MAX_STACK` of the kernel). One may lie over another, and no more.
const MOST_LAYERS: usize = 500;

impl Overlay<'_> {
    /// Mounts it at `target`; returns its root.
    pub(super) fn mount(&self, target: &Path) -> Result<OwnedFd, Failure> {
        match self.mount_new(target) {
            // Kernels before 6.8 do not know `lowerdir+`; they say so here or there.
            Err(failure) if failure.error == Errno::INVAL => self.mount_old(target).map_err(|_| failure),
            done => done,
        }
    }

    fn attributes(&self) -> MountAttrFlags {
        if self.devices { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV }
    }

    fn mount_new(&self, target: &Path) -> Result<OwnedFd, Failure> {
        let at_target = |error| self.failure(&target.to_string_lossy(), error);
        let attach = |mount: &OwnedFd| super::system::attach_at(mount, CWD, target).map_err(at_target);
        if self.lowers.len() <= MOST_LAYERS {
            let mount = self.make(&self.lowers, true)?;
            attach(&mount)?;
            return Ok(mount);
        }
        // The lowest ones become one layer: what they hide is below them, and so among them.
        let (above, below) = self.lowers.split_at(MOST_LAYERS - 1);
        if below.len() > MOST_LAYERS {
            return Err(self.failure("overlayfs", Errno::TOOBIG));
        }
        attach(&self.make(below, false)?)?;
        let lowers: Vec<&Path> = above.iter().copied().chain([target]).collect();
        let mount = self.make(&lowers, true);
        // The new overlay has it for itself now.
        rustix::mount::unmount(target, UnmountFlags::DETACH).map_err(at_target)?;
        let mount = mount?;
        attach(&mount)?;
        Ok(mount)
    }

    /// An overlay of these layers, attached nowhere.
    fn make(&self, lowers: &[&Path], writable: bool) -> Result<OwnedFd, Failure> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| self.failure("overlay", error))?;
        self.configure(context.as_fd(), lowers, writable)
            .map_err(|(what, error)| self.failure(&explain(&what, &context), error))?;
        fsconfig_create(&context)
            .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes()))
            .map_err(|error| self.failure(&explain("overlayfs", &context), error))
    }

    fn configure(&self, context: BorrowedFd<'_>, lowers: &[&Path], writable: bool) -> Result<(), (String, Errno)> {
        let mut held = Vec::new();
        let mut set = |name: &str, path: &Path| {
            let failed = |error| (path.to_string_lossy().into_owned(), error);
            if path.as_os_str().len() <= LONGEST {
                return fsconfig_set_string(context, name, path).map_err(failed);
            }
            let directory = open(path).map_err(failed)?;
            let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
            held.push(directory);
            fsconfig_set_string(context, name, short).map_err(failed)
        };
        for lower in lowers {
            set("lowerdir+", lower)?;
        }
        if writable {
            set("upperdir", self.upper)?;
            set("workdir", self.work)?;
        }
        let refused = |name: &str| {
            let name = name.to_owned();
            move |error| (format!("overlayfs option `{name}`"), error)
        };
        for (name, value) in OPTIONS {
            fsconfig_set_string(context, name, value).map_err(refused(name))?;
        }
        if writable {
            fsconfig_set_flag(context, "volatile").map_err(refused("volatile"))?;
        }
        if self.user_attributes {
            fsconfig_set_flag(context, "userxattr").map_err(refused("userxattr"))?;
        }
        Ok(())
    }

    /// The same through the old interface, which takes all layers in one text of at most a page: each is named by a
    /// file descriptor, so that a long path costs no more than a short one.
    fn mount_old(&self, target: &Path) -> Result<OwnedFd, Failure> {
        let held = |path: &Path| open(path).map_err(|error| self.failure(&path.to_string_lossy(), error));
        let lowers = self.lowers.iter().map(|path| held(path)).collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (held(self.upper)?, held(self.work)?);
        let mut options = String::from("volatile,");
        for (name, value) in OPTIONS {
            let _ = write!(options, "{name}={value},");
        }
        if self.user_attributes {
            options.push_str("userxattr,");
        }
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lowers: Vec<String> = lowers.iter().map(name).collect();
        let _ = write!(options, "upperdir={},workdir={},lowerdir={}", name(&upper), name(&work), lowers.join(":"));
        let options = std::ffi::CString::new(options).map_err(|_| self.failure("overlayfs options", Errno::INVAL))?;
        let flags = if self.devices { MountFlags::empty() } else { MountFlags::NODEV };
        rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
            .and_then(|()| open(target))
            .map_err(|error| self.failure(&format!("overlayfs at {}", target.display()), error))
    }

    fn failure(&self, what: &str, error: Errno) -> Failure {
        let what = format!("{what} ({} layers)", self.lowers.len());
        Failure { phase: Phase::Root, what, error }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Adds to `what` what the kernel says about a mount that it refused.
fn explain(what: &str, context: &OwnedFd) -> String {
    let mut what = what.to_owned();
    let mut line = [0_u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut line) {
        if length == 0 {
            break;
        }
        let _ = write!(what, ": {}", String::from_utf8_lossy(&line[..length]).trim_end());
    }
    what
}

/// The directories that one run needs in a work directory.
pub(super) struct WorkDirectories {
    /// overlayfs's own: the work directory itself where nothing else is in it, which saves making another. No layer may
    /// be inside of it.
    pub(super) overlay: PathBuf,
    /// The layer of mount points that the image hides (see `points.rs`).
    pub(super) patch: PathBuf,
    /// The lowest layer but one: places for what this command asks to be mounted.
    pub(super) stub: PathBuf,
}

impl WorkDirectories {
    /// Those of a tree that a command mounts.
    pub(super) fn of(spec: &RunSpec, tree: &Root) -> Self {
        let is_plain = spec.mounts.is_empty() && tree.work == spec.root.work;
        if is_plain { Self::bare(&tree.work) } else { Self::below(&tree.work) }
    }

    /// With room for layers beside overlayfs's own.
    pub(super) fn below(work: &Path) -> Self {
        let [overlay, patch, stub, _] = Self::all(work);
        Self { overlay, patch, stub }
    }

    fn bare(work: &Path) -> Self {
        Self { overlay: work.to_owned(), ..Self::below(work) }
    }

    /// All that there may be afterwards; the last is what overlayfs makes in a directory of its own.
    pub(super) fn all(work: &Path) -> [PathBuf; 4] {
        ["overlay", "patch", "stub", "work"].map(|name| work.join(name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::mount::MountPropagationFlags;
    use rustix::thread::UnshareFlags;

    use super::*;
    use crate::sandbox::sys;

    #[test]
    fn both_interfaces_give_the_same_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // A mount namespace belongs to a thread.
        let mounting = std::thread::spawn(|| {
            sys::unshare(UnshareFlags::NEWNS).unwrap();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            for old in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let at = |name: &str| directory.path().join(name);
                for name in ["a:b", "c,d", "upper", "work", "target"] {
                    fs::create_dir(at(name)).unwrap();
                }
                fs::write(at("a:b/low"), "low").unwrap();
                fs::write(at("c,d/high"), "high").unwrap();
                let (low, high, upper, work) = (at("a:b"), at("c,d"), at("upper"), at("work"));
                let lowers: Vec<&Path> = vec![&high, &low];
                let overlay = Overlay { lowers, upper: &upper, work: &work, user_attributes: false, devices: false };
                let root = if old { overlay.mount_old(&at("target")) } else { overlay.mount_new(&at("target")) };
                let root = root.map_err(|failure| failure.what).unwrap();
                rustix::fs::openat(&root, "high", OFlags::PATH, Mode::empty()).unwrap();
                let flags = rustix::fs::statvfs(at("target")).unwrap().f_flag;
                assert!(flags.contains(rustix::fs::StatVfsMountFlags::NODEV));
                assert_eq!(fs::read_to_string(at("target/low")).unwrap(), "low");
                fs::write(at("target/new"), "new").unwrap();
                assert_eq!(fs::read_to_string(at("upper/new")).unwrap(), "new");
                drop(root);
                rustix::mount::unmount(at("target"), rustix::mount::UnmountFlags::DETACH).unwrap();
            }
        });
        mounting.join().unwrap();
    }
}
