//! Drafts that nothing was put into can be used again.

use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::sys;

/// What overlayfs may have left on the directory: a mark that tells file systems apart, and nothing else.
const HARMLESS: [&[u8]; 2] = [b"trusted.overlay.uuid", b"user.overlay.uuid"];

/// Whether both directories of a draft are as they were made. In doubt they are not.
pub(super) fn is_unused(files: &Path, work: &Path) -> bool {
    let check = || -> std::io::Result<bool> {
        let (files, work) = (sys::open_directory(files)?, sys::open_directory(work)?);
        let (stat, reference) = (rustix::fs::fstat(&files)?, rustix::fs::fstat(&work)?);
        let unchanged = stat.st_mode == FileType::Directory.as_raw_mode() | 0o755
            && (stat.st_uid, stat.st_gid) == (reference.st_uid, reference.st_gid);
        Ok(unchanged && is_empty(&files)? && is_empty(&work)? && has_no_attributes(&files)?)
    };
    check().unwrap_or(false)
}

fn is_empty(directory: &rustix::fd::OwnedFd) -> std::io::Result<bool> {
    let again =
        rustix::fs::openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::new(again)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_no_attributes(directory: &rustix::fd::OwnedFd) -> std::io::Result<bool> {
    let mut names = [0_u8; 1024];
    let length = match rustix::fs::flistxattr(directory, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(true),
        other => other?,
    };
    let mut names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.all(|name| HARMLESS.contains(&name)))
}
