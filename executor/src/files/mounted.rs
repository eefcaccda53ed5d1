//! Parts of a tree as something to mount: a layer made of what one path of a build context leads to, and a copy of
//! what a cache mount begins with.

use kiln_cache::{LayerDraft, StoredLayer, View};
use kiln_solver::{Cancel, CopyAction, Digest};

use super::{FileError, Plan, Tree, copy, digest, timestamp, write};
use crate::sources::Memory;
use crate::{Executor, ExecutorError};

/// Where the memory of such layers is kept.
const MEMORY: &str = "mounts";

/// The copy of a path, with all below it, to another that does not exist yet. Links that lead to it are followed.
pub(crate) fn copy_of_path(selector: &str, destination: &str) -> CopyAction {
    CopyAction {
        source: selector.to_owned(),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        wildcard: false,
        allow_empty_wildcard: false,
        unpack: false,
        contents_only: destination == "/",
        parents: false,
        exclude: Vec::new(),
        linked: false,
    }
}

/// A layer that has at `selector` (absolute and clean) what the tree has there, links followed. One that was made of
/// the very same files, their times included, is taken again.
pub(crate) fn layer_of(
    executor: &Executor,
    tree: &Tree,
    selector: &str,
    cancel: &Cancel,
) -> Result<StoredLayer, ExecutorError> {
    let copy = copy_of_path(selector, selector);
    let seen = digest::selected_with_times(tree, &copy, cancel)?;
    let memory = Memory::new(executor.store(), MEMORY, &seen)?;
    if let Some((layer, _)) = memory.recall()? {
        return Ok(layer);
    }
    let draft = executor.store().begin_layer()?;
    write_copy(executor, tree, &copy, &draft, cancel)?;
    let layer = draft.commit(executor.created())?;
    memory.remember(&layer, &[])?;
    Ok(layer)
}

/// Writes a copy into an empty draft.
pub(crate) fn write_copy(
    executor: &Executor,
    tree: &Tree,
    copy: &CopyAction,
    draft: &LayerDraft,
    cancel: &Cancel,
) -> Result<(), ExecutorError> {
    let store = executor.store();
    let mut plan = Plan::new(Vec::new(), View::new(Vec::new()), timestamp(executor.created()));
    copy::copy(&mut plan, tree, copy, store, cancel)?;
    write(plan, draft, store.whiteouts(), cancel)?;
    if cancel.is_requested() { Err(ExecutorError::Cancelled) } else { Ok(()) }
}

/// The digest of what a tree has at some paths: equal only where all of it is equal but for modification times.
pub(crate) fn seen_at(tree: &Tree, selectors: &[&str], cancel: &Cancel) -> Result<Digest, FileError> {
    let copies: Vec<CopyAction> = selectors.iter().map(|selector| copy_of_path(selector, "/mount")).collect();
    digest::selected(tree, &copies.iter().collect::<Vec<_>>(), cancel)
}
