//! What differs between two stacks of layers, for people who ask why a step ran.

use kiln_cache::{Entry, EntryKind, StoredLayer};
use kiln_solver::{Layer, Mismatch};

use crate::{Executor, paths};

/// So many differences tell enough.
const MOST: usize = 3;

/// The first differences between two stacks, as far as their layers are here; nothing where they are built so
/// differently that paths would say little.
pub(crate) fn differences(executor: &Executor, was: &[Layer], is: &[Layer]) -> Vec<Mismatch> {
    let mut found = Vec::new();
    if was.len() != is.len() {
        return found;
    }
    for (was, is) in was.iter().zip(is).filter(|(was, is)| was.diff_id != is.diff_id) {
        // What is no longer here cannot be compared.
        let stored = |layer: &Layer| executor.store().layer(&layer.diff_id).ok().flatten();
        let (Some(was), Some(is)) = (stored(was), stored(is)) else { continue };
        compare(&was, &is, &mut found);
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// Both indexes are sorted by path.
fn compare(was: &StoredLayer, is: &StoredLayer, found: &mut Vec<Mismatch>) {
    if was.content() == is.content() {
        return;
    }
    let mut new = is.index().entries().peekable();
    let mut old = was.index().entries().peekable();
    while found.len() < MOST {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => components(old.path).cmp(components(new.path)),
        };
        let (before, after) = match order {
            std::cmp::Ordering::Less => (old.next(), None),
            std::cmp::Ordering::Greater => (None, new.next()),
            std::cmp::Ordering::Equal => (old.next(), new.next()),
        };
        found.extend(difference(before.as_ref(), after.as_ref()));
    }
}

/// The order of an index: that of the paths' components.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

fn difference(was: Option<&Entry<'_>>, is: Option<&Entry<'_>>) -> Option<Mismatch> {
    let subject = paths::display(was.or(is)?.path);
    let (was, is) = match (was, is) {
        (Some(was), Some(is)) => aspect(was, is)?,
        (was, is) => (was.map_or_else(absent, kind), is.map_or_else(absent, kind)),
    };
    Some(Mismatch { subject, was, is })
}

fn absent() -> String {
    "absent".to_owned()
}

/// The first of what makes two entries differ; times do not count.
fn aspect(was: &Entry<'_>, is: &Entry<'_>) -> Option<(String, String)> {
    let content = |entry: &Entry<'_>| match entry.content {
        Some(content) => format!("content {}", content.short()),
        None => format!("`{}`", String::from_utf8_lossy(entry.target)),
    };
    let metadata = |entry: &Entry<'_>| format!("mode {:04o}, owner {}:{}", entry.mode, entry.uid, entry.gid);
    let attributes = |entry: &Entry<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        entry.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    if was.kind != is.kind {
        return Some((kind(was), kind(is)));
    }
    if was.content != is.content || was.target != is.target {
        return Some((content(was), content(is)));
    }
    if (was.mode, was.uid, was.gid) != (is.mode, is.uid, is.gid) {
        return Some((metadata(was), metadata(is)));
    }
    let other = attributes(was) != attributes(is) || was.device != is.device;
    other.then(|| ("extended attributes".to_owned(), "others".to_owned()))
}

fn kind(entry: &Entry<'_>) -> String {
    match entry.kind {
        EntryKind::File | EntryKind::HardLink => "a file",
        EntryKind::Directory { .. } => "a directory",
        EntryKind::Symlink => "a link",
        EntryKind::CharDevice | EntryKind::BlockDevice => "a device",
        EntryKind::Fifo => "a named pipe",
        EntryKind::Whiteout => "removed",
    }
    .to_owned()
}
