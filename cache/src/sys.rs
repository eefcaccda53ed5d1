//! System calls behind safe faces: the one place with unsafe code.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Maps a whole file for reading.
pub(crate) fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: only index files are mapped. They are written below `tmp/`, renamed into place and never
    // written again, so the bytes do not change and the file does not shrink while it is mapped.
    unsafe { memmap2::Mmap::map(file) }
}

/// Names the current boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Opens a path below a directory: through no symbolic link at all and never above the directory.
pub(crate) fn open_below(directory: impl AsFd, path: &[u8], flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(directory.as_fd(), path, flags, Mode::from_raw_mode(mode), resolve) {
            // The kernel could not rule out a race with a rename somewhere: try again, as openat2(2) says.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// Opens a directory that was named by the store itself.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Has a file system, where it knows of such a thing, lay what is made in one directory of this one apart from what is
/// made in another. Without a journal, ext4 looks at each inode that was removed near by in the last minutes before it
/// gives out a new one: 20,000 files that take 0.3 s take 15 s where as many were removed.
pub(crate) fn spread_out(directory: &Path) {
    let spread = || {
        let directory = open_directory(directory)?;
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        Ok::<_, io::Error>(rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR)?)
    };
    // It is only slower without.
    let _ = spread();
}

/// A path to an entry of an open directory for calls that take no descriptor.
pub(crate) fn proc_path(directory: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// The names of a file's extended attributes; none where the file system has no such thing.
pub(crate) fn list_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut small = [0_u8; 1024];
    let names = match rustix::fs::flistxattr(file, &mut small[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(count) => small[..count].to_vec(),
        Err(Errno::RANGE) => {
            // The kernel's own limit.
            let mut large = vec![0_u8; 64 << 10];
            let count = rustix::fs::flistxattr(file, &mut large[..])?;
            large.truncate(count);
            large
        }
        Err(error) => return Err(error.into()),
    };
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The value of an extended attribute.
pub(crate) fn get_xattr(file: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    // The kernel's own limit.
    let mut value = vec![0_u8; 64 << 10];
    let count = rustix::fs::fgetxattr(file, name, &mut value[..])?;
    value.truncate(count);
    Ok(value)
}

/// Makes what has been written to the file system of this directory survive a power loss.
pub(crate) fn sync_file_system(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open_directory(directory)?)?)
}

/// Random digits for a name that nobody else picks.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// Random letters and digits for a name that people type: as many as 128 bits need.
pub(crate) fn random_id() -> io::Result<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let mut rest = u128::from_le_bytes(bytes);
    let digits = (0..25).map(|_| {
        let digit = DIGITS[usize::try_from(rest % 36).unwrap_or(0)];
        rest /= 36;
        char::from(digit)
    });
    Ok(digits.collect())
}
