//! A file of our own as bytes in memory.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file that kiln wrote and only ever replaces by a rename. `None` where there is no such file.
pub(super) fn map(path: &Path) -> io::Result<Option<Mmap>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: kiln never writes to the file nor shortens it once it has this name; a newer one takes its place
    // by a rename, which leaves this mapping as it is.
    unsafe { Mmap::map(&file) }.map(Some)
}
