//! The files of an image in a directory.

use std::io;
use std::path::Path;

use kiln_cache::{EntryKind, Found, View};
use kiln_solver::Cancel;

use super::LocalOptions;
use super::output::directory_beside;
use super::tree::Tree;
use crate::ImageError;

/// Writes all files into a directory: beside its place where it does not exist yet, else where it is.
pub(super) fn write(view: &View, directory: &Path, options: LocalOptions, cancel: &Cancel) -> Result<(), ImageError> {
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => fill(view, directory, options, cancel),
        Ok(_) => Err(ImageError::io("create", directory)(io::Error::from(io::ErrorKind::NotADirectory))),
        Err(_) => {
            let beside = directory_beside(directory)?;
            fill(view, beside.path(), options, cancel)?;
            std::fs::rename(beside.path(), directory).map_err(ImageError::io("create", directory))?;
            // It is not there any more to be removed.
            let _ = beside.keep();
            Ok(())
        }
    }
}

/// Files first, then the links to them, and the metadata of directories when nothing in them changes any more.
fn fill(view: &View, directory: &Path, options: LocalOptions, cancel: &Cancel) -> Result<(), ImageError> {
    let tree = Tree::open(directory, options)?;
    let found = view.walk(b"")?;
    let mut links: Vec<(&Found<'_>, &[u8])> = Vec::new();
    for found in &found {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        match (found.entry.kind, view.link_target(found)) {
            (EntryKind::Directory { .. }, _) => tree.make_directory(&found.entry)?,
            (EntryKind::HardLink, Some(target)) => links.push((found, target)),
            (EntryKind::File | EntryKind::HardLink, _) => {
                tree.write_file(&found.entry, found.layer.open(&found.entry)?)?
            }
            _ => tree.make_other(&found.entry)?,
        }
    }
    for (link, target) in links {
        if !tree.link(&link.entry, target)? {
            tree.write_file(&link.entry, link.layer.open(&link.entry)?)?;
        }
    }
    let mut directories = found.iter().rev().filter(|found| found.entry.is_directory());
    directories.try_for_each(|found| tree.finish_directory(&found.entry))
}
