//! The tree that a stack of layers makes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::time::SystemTime;

use crate::archive::{Block, Blocks, Head, end, put_entry};
use crate::index::join;
use crate::{Entry, EntryKind, StoreError, StoredLayer, Timestamp};

/// The merged tree over layers, as a container would see it, known from their indexes alone.
/// Paths are bytes; leading, trailing and doubled slashes do not matter; the empty path is the root.
pub struct View {
    layers: Vec<StoredLayer>,
}

/// What is at a path of a [`View`], and which layer has it.
#[derive(Clone, Copy)]
pub struct Found<'v> {
    /// The entry: never a whiteout. A [`crate::EntryKind::HardLink`] may have a target that a higher layer
    /// hides or replaces, see [`View::link_target`].
    pub entry: Entry<'v>,
    /// The layer that it comes from.
    pub layer: &'v StoredLayer,
}

/// Where a path leads once symbolic links on the way have been followed.
#[derive(Clone)]
pub struct Resolved<'v> {
    /// The path without symbolic links, `.` or `..`: relative, no leading slash.
    pub path: Vec<u8>,
    /// What is there.
    pub target: Target<'v>,
}

/// What a resolved path names.
#[derive(Clone, Copy)]
pub enum Target<'v> {
    /// The root directory.
    Root,
    /// An entry.
    Entry(Found<'v>),
    /// Nothing: the path, or the rest of it from some component on, does not exist.
    Missing,
}

/// Why a path of a [`View`] leads nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// More symbolic links on the way than Linux follows.
    #[error("`/{}`: too many levels of symbolic links", String::from_utf8_lossy(.0))]
    Loop(Vec<u8>),
    /// Something on the way is not a directory.
    #[error("`/{}` is not a directory", String::from_utf8_lossy(.0))]
    NotADirectory(Vec<u8>),
    /// There is nothing there.
    #[error("`/{}` does not exist", String::from_utf8_lossy(.0))]
    Missing(Vec<u8>),
    /// It is not a regular file.
    #[error("`/{}` is not a regular file", String::from_utf8_lossy(.0))]
    NotAFile(Vec<u8>),
    /// It is larger than its reader allows.
    #[error("`/{}` has {size} bytes, more than the {limit} allowed here", String::from_utf8_lossy(path))]
    TooLarge {
        /// The file.
        path: Vec<u8>,
        /// Its size.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<'v> Resolved<'v> {
    /// What is there; `None` for the root, which has no entry, and where nothing is.
    pub fn found(&self) -> Option<Found<'v>> {
        match self.target {
            Target::Entry(found) => Some(found),
            Target::Root | Target::Missing => None,
        }
    }

    /// Whether something is there and is a directory.
    pub fn is_directory(&self) -> bool {
        match self.target {
            Target::Root => true,
            Target::Entry(found) => found.entry.is_directory(),
            Target::Missing => false,
        }
    }
}

/// As many symbolic links as Linux follows on one path.
const MOST_LINKS: usize = 40;

/// One name of a directory, merged over the layers.
struct Merged<'v> {
    /// What is to be seen; nothing under a whiteout.
    found: Option<Found<'v>>,
    /// The layers that a directory is merged of, the highest first.
    layers: Vec<usize>,
    /// Whether lower layers can still add to it.
    open: bool,
}

impl<'v> Merged<'v> {
    /// What the highest layer that knows the name says of it.
    fn new(number: usize, found: Found<'v>) -> Self {
        let open = found.entry.kind == (EntryKind::Directory { opaque: false });
        let is_whiteout = found.entry.kind == EntryKind::Whiteout;
        Self { found: (!is_whiteout).then_some(found), layers: vec![number], open }
    }

    /// What a lower layer says of it.
    fn add(&mut self, number: usize, entry: &Entry<'_>) {
        if !self.open {
            return;
        }
        if entry.is_directory() {
            self.layers.push(number);
        }
        self.open = entry.kind == (EntryKind::Directory { opaque: false });
    }
}

impl View {
    /// The tree of these layers, the lowest first. None at all make the empty tree.
    pub fn new(layers: Vec<StoredLayer>) -> Self {
        Self { layers }
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    /// What is at a path, without following any symbolic link. The root has no entry.
    pub fn entry(&self, path: &[u8]) -> Option<Found<'_>> {
        self.look_up(path)?.found
    }

    /// Follows the symbolic links of a path as if the tree were the root of a process, also the last component
    /// where `follow_last` is set. A path that does not exist is no error: see [`Target::Missing`].
    ///
    /// # Errors
    /// When links go in a circle, or a component on the way is not a directory.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Resolved<'_>, ViewError> {
        let mut rest: Vec<&[u8]> = components(path).rev().collect();
        // From below the root to where the path has led so far; nothing for what does not exist.
        let mut trail: Vec<(&[u8], Option<Merged<'_>>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let here = trail_path(&trail);
            if let Some((_, Some(Merged { found: Some(found), .. }))) = trail.last()
                && !found.entry.is_directory()
            {
                return Err(ViewError::NotADirectory(here));
            }
            if name == b".." {
                trail.pop();
                continue;
            }
            let child = match trail.last() {
                None => self.child(&self.all_layers(), &here, name),
                Some((_, Some(directory))) => self.child(&directory.layers, &here, name),
                Some((_, None)) => None,
            };
            let child = child.filter(|child| child.found.is_some());
            let entry = child.as_ref().and_then(|child| child.found).map(|found| found.entry);
            match entry {
                Some(entry) if entry.kind == EntryKind::Symlink && (follow_last || !rest.is_empty()) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(ViewError::Loop(path.to_vec()));
                    }
                    if entry.target.first() == Some(&b'/') {
                        trail.clear();
                    }
                    rest.extend(components(entry.target).rev());
                }
                _ => trail.push((name, child)),
            }
        }
        let path = trail_path(&trail);
        let target = match trail.pop() {
            None => Target::Root,
            Some((_, Some(Merged { found: Some(found), .. }))) => Target::Entry(found),
            Some(_) => Target::Missing,
        };
        Ok(Resolved { path, target })
    }

    /// What is directly in a directory, sorted by name; no symbolic link is followed.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn list(&self, directory: &[u8]) -> Result<Vec<Found<'_>>, ViewError> {
        let layers = self.directory_layers(directory)?;
        Ok(self.children(&layers, &clean(directory)).into_values().filter_map(|child| child.found).collect())
    }

    /// Everything below a directory, each directory before what is in it, siblings sorted by name.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn walk(&self, directory: &[u8]) -> Result<Vec<Found<'_>>, ViewError> {
        let layers = self.directory_layers(directory)?;
        let mut all = Vec::new();
        let mut waiting: Vec<Merged<'_>> = self.children(&layers, &clean(directory)).into_values().rev().collect();
        while let Some(Merged { found, layers, .. }) = waiting.pop() {
            let Some(found) = found else { continue };
            all.push(found);
            if found.entry.is_directory() {
                waiting.extend(self.children(&layers, found.entry.path).into_values().rev());
            }
        }
        Ok(all)
    }

    /// For a hard link, the path that it is linked to, if that is still to be seen there.
    pub fn link_target<'v>(&self, found: &Found<'v>) -> Option<&'v [u8]> {
        if found.entry.kind != EntryKind::HardLink {
            return None;
        }
        let there = self.entry(found.entry.target)?;
        (there.layer.diff_id() == found.layer.diff_id()).then_some(found.entry.target)
    }

    /// Opens a regular file, following symbolic links.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(&self, path: &[u8]) -> Result<File, ViewError> {
        let resolved = self.resolve(path, true)?;
        match resolved.target {
            Target::Entry(found) if found.entry.is_file() => Ok(found.layer.open(&found.entry)?),
            Target::Missing => Err(ViewError::Missing(resolved.path)),
            Target::Root | Target::Entry(_) => Err(ViewError::NotAFile(resolved.path)),
        }
    }

    /// The content of a regular file of at most `limit` bytes, following symbolic links; `None` where there
    /// is nothing at the path.
    ///
    /// # Errors
    /// When it is something else or larger.
    pub fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, ViewError> {
        let resolved = self.resolve(path, true)?;
        let found = match resolved.target {
            Target::Missing => return Ok(None),
            Target::Entry(found) if found.entry.is_file() => found,
            Target::Root | Target::Entry(_) => return Err(ViewError::NotAFile(resolved.path)),
        };
        let size = found.entry.size;
        if size > limit {
            return Err(ViewError::TooLarge { path: resolved.path, size, limit });
        }
        let mut bytes = Vec::new();
        let read = found.layer.open(&found.entry)?.take(size).read_to_end(&mut bytes);
        read.map_err(StoreError::io("read", found.layer.mount_source().join(OsStr::from_bytes(found.entry.path))))?;
        Ok(Some(bytes))
    }

    /// Writes the whole tree as one archive: no whiteouts, no opaque marks.
    ///
    /// # Errors
    /// When a layer cannot be read or `output` fails.
    pub fn write_archive(&self, output: &mut dyn Write) -> Result<(), ViewError> {
        Self::write_archives(&[(&b""[..], self)], None, output)
    }

    /// Writes several trees as one archive, each in a directory of its own; where that has no name, they come in at
    /// the top. Everything is said to have changed at `mtime`, where there is one.
    ///
    /// # Errors
    /// When a layer cannot be read or `output` fails.
    pub fn write_archives(
        trees: &[(&[u8], &Self)],
        mtime: Option<SystemTime>,
        output: &mut dyn Write,
    ) -> Result<(), ViewError> {
        let mtime = mtime.map(|time| Timestamp::from(time).seconds);
        let mut blocks = Blocks::new(|block| {
            output.write_all(block.filled())?;
            Ok(block)
        });
        let failed = || StoreError::io("write", "the archive of an image");
        for (directory, tree) in trees {
            if !directory.is_empty() {
                let mut bytes = Vec::new();
                put_entry(&Head::directory(directory, mtime.unwrap_or_default()), &mut bytes);
                blocks.put(&bytes).map_err(failed())?;
            }
            for found in tree.walk(b"")? {
                tree.write_found(&found, directory, mtime, &mut blocks)?;
            }
        }
        let ended = blocks.put(&end()).and_then(|()| blocks.finish());
        Ok(ended.map_err(failed())?)
    }

    fn write_found<F: FnMut(Block) -> io::Result<Block>>(
        &self,
        found: &Found<'_>,
        directory: &[u8],
        mtime: Option<i64>,
        blocks: &mut Blocks<F>,
    ) -> Result<(), StoreError> {
        let mut head = Head::from(&found.entry);
        head.kind = match head.kind {
            EntryKind::Directory { .. } => EntryKind::Directory { opaque: false },
            EntryKind::HardLink if self.link_target(found).is_none() => EntryKind::File,
            kind => kind,
        };
        head.mtime = mtime.unwrap_or(head.mtime);
        let path = join(directory, head.path);
        let target = join(directory, head.target);
        head.path = &path;
        match head.kind {
            EntryKind::File => head.target = &[],
            EntryKind::HardLink => head.target = &target,
            _ => {}
        }
        found.layer.reader()?.write_entry(&head, &found.entry, blocks)
    }

    fn all_layers(&self) -> Vec<usize> {
        (0..self.layers.len()).rev().collect()
    }

    /// What a path without symbolic links names; nothing for the root.
    fn look_up(&self, path: &[u8]) -> Option<Merged<'_>> {
        let mut here = Vec::new();
        let mut at: Option<Merged<'_>> = None;
        for name in components(path) {
            let child = match &at {
                None => self.child(&self.all_layers(), &here, name),
                Some(directory) => self.child(&directory.layers, &here, name),
            };
            at = Some(child.filter(|child| child.found.is_some())?);
            here = join(&here, name);
        }
        at
    }

    /// The layers that a directory is merged of.
    fn directory_layers(&self, path: &[u8]) -> Result<Vec<usize>, ViewError> {
        if components(path).next().is_none() {
            return Ok(self.all_layers());
        }
        match self.look_up(path) {
            Some(Merged { found: Some(found), layers, .. }) if found.entry.is_directory() => Ok(layers),
            Some(_) => Err(ViewError::NotADirectory(clean(path))),
            None => Err(ViewError::Missing(clean(path))),
        }
    }

    /// One name of the directory that these layers make at this path.
    fn child(&self, layers: &[usize], directory: &[u8], name: &[u8]) -> Option<Merged<'_>> {
        let path = join(directory, name);
        let mut merged: Option<Merged<'_>> = None;
        for number in layers {
            let Some(layer) = self.layers.get(*number) else { continue };
            let Some(entry) = layer.index().get(&path) else { continue };
            match &mut merged {
                None => merged = Some(Merged::new(*number, Found { entry, layer })),
                Some(merged) => merged.add(*number, &entry),
            }
            if merged.as_ref().is_some_and(|merged| !merged.open) {
                break;
            }
        }
        merged
    }

    /// All names of the directory that these layers make at this path.
    fn children(&self, layers: &[usize], directory: &[u8]) -> BTreeMap<&[u8], Merged<'_>> {
        let mut all: BTreeMap<&[u8], Merged<'_>> = BTreeMap::new();
        for number in layers {
            let Some(layer) = self.layers.get(*number) else { continue };
            for entry in layer.index().children(directory) {
                match all.get_mut(entry.name()) {
                    Some(merged) => merged.add(*number, &entry),
                    None => drop(all.insert(entry.name(), Merged::new(*number, Found { entry, layer }))),
                }
            }
        }
        all
    }
}

/// The components of a path, but `.` and empty ones.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

fn clean(path: &[u8]) -> Vec<u8> {
    components(path).collect::<Vec<_>>().join(&b'/')
}

fn trail_path(trail: &[(&[u8], Option<Merged<'_>>)]) -> Vec<u8> {
    trail.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests;
