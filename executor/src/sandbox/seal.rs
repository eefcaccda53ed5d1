//! Keeping commands from overwriting kiln.
//!
//! A command can have the kernel execute `/proc/self/exe`, as a script's interpreter for one, in the moment when
//! that is still the helper; the new process's `/proc/PID/exe` is then a way to the helper's file, and root may
//! write to it once nobody executes it (CVE-2019-5736). So the helper runs from a place that nobody can write to:
//! its own file, seen through a read-only mount that is attached nowhere, or else a sealed copy in memory.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::{HELPER_NAME, sys};

const OWN_FILE: &str = "/proc/self/exe";

/// The argument that tells a helper that it is where it should be.
pub(super) const SEALED: &str = "sealed";

/// Starts this program again, with standard input, from a place that nobody can write to. Returns why it could
/// not.
pub(super) fn execute_sealed() -> Errno {
    let file = match read_only_view().or_else(|_| sealed_copy()) {
        Ok(file) => file,
        Err(error) => return error,
    };
    let Ok(arguments) = [HELPER_NAME, SEALED].into_iter().map(CString::new).collect::<Result<Vec<_>, _>>() else {
        return Errno::INVAL;
    };
    sys::execute_file(file.as_fd(), &arguments)
}

/// The file goes by its path, which belongs to this mount namespace; what is executed may belong to another one.
fn read_only_view() -> Result<OwnedFd, Errno> {
    let path = rustix::fs::readlink(OWN_FILE, Vec::new())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = open_tree(CWD, path.as_c_str(), flags)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    sys::set_mount_attributes(view.as_fd(), u64::from(attributes.bits()), false)?;
    let (seen, own) = (rustix::fs::fstat(&view)?, rustix::fs::statat(CWD, OWN_FILE, AtFlags::empty())?);
    // Another file may have taken its place since.
    if (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino) { Ok(view) } else { Err(Errno::STALE) }
}

fn sealed_copy() -> Result<OwnedFd, Errno> {
    let own = rustix::fs::open(OWN_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::fs::memfd_create(HELPER_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while rustix::fs::sendfile(&copy, &own, None, 1 << 30)? > 0 {}
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_is_whole_and_cannot_be_written_to() {
        let copy = sealed_copy().unwrap();
        let size = rustix::fs::statat(CWD, OWN_FILE, AtFlags::empty()).unwrap().st_size;
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_size, size);
        assert_eq!(rustix::io::pwrite(&copy, b"x", 0), Err(Errno::PERM));
    }
}
