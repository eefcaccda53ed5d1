//! The files of an image in a directory.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use kiln_cache::{EntryKind, Found, View};
use kiln_solver::Cancel;

use super::LocalOptions;
use super::output::directory_beside;
use super::tree::Tree;
use crate::ImageError;

/// Writes the files of each tree into the directory, or below it where the tree has a name: beside its place where it
/// does not exist yet, else where it is.
pub(super) fn write(
    trees: &[(&str, &View)],
    directory: &Path,
    options: LocalOptions,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {
            fill_all(trees, directory, options, cancel)?;
            if options.is_mirror { remove_others(trees, directory, options, cancel) } else { Ok(()) }
        }
        Ok(_) => Err(ImageError::io("create", directory)(io::Error::from(io::ErrorKind::NotADirectory))),
        Err(_) => {
            let beside = directory_beside(directory)?;
            fill_all(trees, beside.path(), options, cancel)?;
            std::fs::rename(beside.path(), directory).map_err(ImageError::io("create", directory))?;
            // It is not there any more to be removed.
            let _ = beside.keep();
            Ok(())
        }
    }
}

fn fill_all(
    trees: &[(&str, &View)],
    directory: &Path,
    options: LocalOptions,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    for (name, view) in trees {
        if !name.is_empty() {
            Tree::open(directory, options)?.make_folder(name)?;
        }
        fill(view, &directory.join(name), options, cancel)?;
    }
    Ok(())
}

/// Removes what is in the directory and in none of the trees.
fn remove_others(
    trees: &[(&str, &View)],
    directory: &Path,
    options: LocalOptions,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let mut kept: HashSet<Vec<u8>> = HashSet::new();
    for (name, view) in trees {
        if !name.is_empty() {
            kept.insert(name.as_bytes().to_vec());
        }
        let below = if name.is_empty() { String::new() } else { format!("{name}/") };
        kept.extend(view.walk(b"")?.iter().map(|found| [below.as_bytes(), found.entry.path].concat()));
    }
    let tree = Tree::open(directory, options)?;
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        for (path, is_folder) in tree.list(&folder)? {
            match (kept.contains(&path), is_folder) {
                (false, _) => tree.remove(&path)?,
                (true, true) => folders.push(path),
                (true, false) => {}
            }
        }
    }
    Ok(())
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
