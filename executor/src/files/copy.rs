//! Docker's rules of copying, as BuildKit applies them: from a selection to a plan.
//!
//! | source | destination | becomes |
//! |---|---|---|
//! | file | missing, no `/` behind it | that file |
//! | file | missing with `/`, or a directory | a file of the source's name in it |
//! | file | a file or link in a directory | replaced |
//! | directory | missing | a new directory with the source's contents |
//! | directory | a directory | merged into it, which keeps its metadata; those inside take the source's |
//! | directory | anything else | an error, as is a file over a directory |
//!
//! With `--parents` the selection is the directory that paths are kept from, with the directories on the way: one
//! that exists keeps its metadata, a new one takes the source's.
//!
//! Directories that a copy makes have the mode 0755, or what an octal `--chmod` of up to 777 says; any other is about
//! what is copied alone.
//!
//! Links of the destination are followed within the image, those inside a copied directory are not.

use kiln_cache::{Store, Timestamp};
use kiln_solver::{Cancel, CopyAction, FileMode};

use super::plan::{Ids, Plan, Twin, What};
use super::select::{Match, select};
use super::tree::Item;
use super::{FileError, Kind, Metadata, Tree, owner, unpack};
use crate::paths::{self, Seen};

/// What directories that a copy needs are made with where nothing else is said.
pub(super) const NEW_DIRECTORY: u32 = 0o755;

/// Plans one copy.
pub(crate) fn copy(
    plan: &mut Plan,
    tree: &Tree,
    action: &CopyAction,
    store: &Store,
    cancel: &Cancel,
) -> Result<(), FileError> {
    let matches = select(tree, action, cancel)?;
    if matches.is_empty() {
        return Ok(());
    }
    let owner = action.owner.as_ref().map(|owner| owner::look_up(plan, owner)).transpose()?;
    for found in matches {
        if action.unpack
            && let [item] = found.items.as_slice()
            && let Some(bytes) = tree.bytes(item)
            && unpack::is_archive(&bytes)?
        {
            let directory = plan.resolve(&paths::clean(action.destination.as_bytes()))?;
            plan.make_directories(&directory, NEW_DIRECTORY, owner.unwrap_or_default())?;
            unpack::unpack(plan, &directory, &bytes, &paths::display(&item.path), owner, store, cancel)?;
        } else {
            copy_match(plan, tree, &found, action, owner)?;
        }
    }
    Ok(())
}

fn copy_match(
    plan: &mut Plan,
    tree: &Tree,
    found: &Match,
    action: &CopyAction,
    owner: Option<Ids>,
) -> Result<(), FileError> {
    let target = target(plan, found, action, owner.unwrap_or_default())?;
    let contents_only = action.contents_only && found.is_directory();
    let group = if found.twins.is_empty() { 0 } else { plan.next_group() };
    let first = found.items.first().map(Item::modified);
    // The root of layers has no time of its own.
    let modified = first.filter(|modified| *modified != Timestamp::default());
    for (position, item) in found.items.iter().enumerate() {
        let path = paths::join(&target, found.below(item));
        let metadata = metadata(item, action, owner);
        match item.kind() {
            Kind::Directory => plan.merge(&path, metadata, position > 0 && !item.implied)?,
            _ => {
                let twin = found.twins.get(&position).map(|first| (group, *first));
                plan.put(path, what(tree, item, twin), metadata)?;
            }
        }
    }
    if let (true, Some(modified)) = (contents_only, modified) {
        plan.touch(&target, modified);
    }
    Ok(())
}

/// Where a match goes: resolved, with the directories above it made.
fn target(plan: &mut Plan, found: &Match, action: &CopyAction, owner: Ids) -> Result<Vec<u8>, FileError> {
    let written = action.destination.as_bytes();
    let cleaned = paths::clean(written);
    let is_directory = written.ends_with(b"/") || paths::name(written) == b".";
    let needed = if is_directory { &cleaned[..] } else { paths::parent(&cleaned) };
    let needed = plan.resolve(needed)?;
    let mode = new_directory(action);
    plan.make_directories(&needed, mode, owner)?;

    let mut target = plan.resolve(&cleaned)?;
    let there = plan.seen(&target);
    let goes_in =
        if found.is_directory() { !action.contents_only && there.is_some() } else { there == Some(Seen::Directory) };
    if goes_in {
        paths::push(&mut target, &found.name);
    }
    let makes_itself = found.is_directory() && action.contents_only && there.is_none();
    let needed = if makes_itself { &target[..] } else { paths::parent(&target) };
    plan.make_directories(needed, mode, owner)?;
    Ok(target)
}

fn new_directory(action: &CopyAction) -> u32 {
    match action.mode {
        Some(FileMode::Exact(bits)) if bits <= 0o777 => bits,
        _ => NEW_DIRECTORY,
    }
}

fn metadata(item: &Item, action: &CopyAction, owner: Option<Ids>) -> Metadata {
    let mut metadata = item.metadata();
    if let Some(Ids { uid, gid }) = owner {
        (metadata.uid, metadata.gid) = (uid, gid);
    }
    if let (Some(mode), true) = (&action.mode, item.kind() != Kind::Symlink) {
        metadata.mode = mode.apply(metadata.mode, item.kind() == Kind::Directory);
    }
    metadata
}

fn what(tree: &Tree, item: &Item, twin: Option<Twin>) -> What {
    match (tree.bytes(item), item.kind()) {
        (Some(bytes), _) => What::File { bytes, twin },
        (None, Kind::Symlink) => What::Symlink(item.target().to_vec()),
        (None, kind) => What::Special(kind, item.device()),
    }
}
