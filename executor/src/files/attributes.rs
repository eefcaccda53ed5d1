//! Extended attributes: those that a copy carries along and a key counts.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// Names and values, sorted by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The most that Linux lets a file's attributes take.
const MOST: usize = 64 * 1024;

/// Whether an attribute belongs to the file rather than to the machine that it is on: the marks of overlayfs, the
/// labels and signatures of security modules, and access lists in terms of this machine's users do not.
pub(crate) fn counts(name: &[u8]) -> bool {
    let machine: [&[u8]; 6] =
        [b"trusted.overlay.", b"user.overlay.", b"security.selinux", b"security.ima", b"security.evm", b"system."];
    !machine.iter().any(|prefix| name.starts_with(prefix))
}

/// The attributes of an open file that count.
pub(crate) fn attributes_of(file: impl AsFd) -> rustix::io::Result<Attributes> {
    let file = file.as_fd();
    let mut buffer = [0; 512];
    let names = match rustix::fs::flistxattr(file, &mut buffer[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        Ok(length) => buffer[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; MOST];
            let length = rustix::fs::flistxattr(file, &mut buffer[..])?;
            buffer.truncate(length);
            buffer
        }
        Err(error) => return Err(error),
    };
    let mut attributes = Attributes::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && counts(name)) {
        let mut value = vec![0; MOST];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                value.shrink_to_fit();
                attributes.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort();
    Ok(attributes)
}
