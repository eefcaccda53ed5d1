//! How much of the disk things take, as `du` counts it.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rayon::prelude::*;

/// The size of the units that the kernel counts in, whatever the file system.
const BLOCK: u64 = 512;

/// The bytes of disk that a file, or a directory with all below it, takes. What goes away meanwhile does not count.
pub(super) fn taken(path: &Path) -> io::Result<u64> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        metadata => metadata?,
    };
    let own = metadata.blocks() * BLOCK;
    if !metadata.is_dir() {
        return Ok(own);
    }
    Ok(own + below(path, &mut HashSet::new())?)
}

/// The bytes of disk that a file or a directory takes itself.
pub(super) fn own(path: &Path) -> io::Result<u64> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        metadata => Ok(metadata?.blocks() * BLOCK),
    }
}

/// Files of several names count once.
fn below(directory: &Path, seen: &mut HashSet<u64>) -> io::Result<u64> {
    let mut open = vec![directory.to_owned()];
    let mut total = 0;
    while let Some(directory) = open.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() > 1 && !seen.insert(metadata.ino()) {
                continue;
            }
            total += metadata.blocks() * BLOCK;
        }
    }
    Ok(total)
}

/// The same for many, in parallel.
pub(super) fn taken_each(paths: &[std::path::PathBuf]) -> io::Result<Vec<u64>> {
    paths.par_iter().map(|path| taken(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_du_says() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("a/b/c")).unwrap();
        std::fs::write(path("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(path("a/file"), path("a/b/again")).unwrap();
        std::fs::write(path("a/b/small"), "x").unwrap();
        std::fs::File::create(path("a/sparse")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("nowhere", path("a/link")).unwrap();
        let du = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(root.path()).output().unwrap();
        let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(taken(root.path()).unwrap(), du);
        assert_eq!(taken(&path("missing")).unwrap(), 0);
    }
}
