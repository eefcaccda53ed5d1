//! The new layer as it will be: what a step changes above its base, in memory, before anything is written.

use std::collections::BTreeMap;
use std::io::Read;

use kiln_cache::{Device, Scratch, Store, Timestamp, View};
use kiln_solver::{Digest, Layer};

use super::base::{Base, Facts};
use super::tree::{Bytes, Origin};
use super::{Attributes, FileError, Kind, Metadata};
use crate::paths::{self, ResolveError, Seen};

const PLACE: &str = "the image";

/// A layer in the making above others.
pub(crate) struct Plan {
    /// What it builds on.
    pub(crate) layers: Vec<Layer>,
    base: Base,
    upper: BTreeMap<Vec<u8>, Planned>,
    /// When directories that it makes were made.
    now: Timestamp,
    /// How many groups of hard links there are.
    groups: u64,
    /// Where unpacked files lie until they are moved into place.
    scratch: Option<(Scratch, u64)>,
}

/// What is left of a plan when all is decided.
pub(crate) struct Finished {
    /// The paths of the new layer, each directory before what is in it.
    pub(crate) upper: BTreeMap<Vec<u8>, Planned>,
    /// What was asked of the base; `None` where it was too much to remember.
    pub(crate) facts: Option<Facts>,
    /// Keeps unpacked files until they are moved into place.
    pub(crate) scratch: Option<Scratch>,
}

/// One path of the new layer.
pub(crate) struct Planned {
    pub(crate) what: What,
    pub(crate) metadata: Metadata,
}

/// What a path of the new layer is.
pub(crate) enum What {
    /// A directory. A fresh one has nothing of the base in it; an opaque one hides what the base has there.
    Directory { fresh: bool, opaque: bool },
    /// A regular file; those with the same twin are names of one file.
    File { bytes: Bytes, twin: Option<Twin> },
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A named pipe or a device.
    Special(Kind, Device),
    /// What the base has at this path is gone.
    Whiteout,
}

/// What the names of one file have in common: a number of the plan and one within a copy.
pub(crate) type Twin = (u64, usize);

/// A regular file that gets another name.
pub(crate) struct Shared {
    pub(crate) bytes: Bytes,
    pub(crate) twin: Twin,
    pub(crate) metadata: Metadata,
}

/// The owner of what is made, as ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Plan {
    /// Nothing yet, above these layers.
    pub(crate) fn new(layers: Vec<Layer>, view: View, now: Timestamp) -> Self {
        Self { layers, base: Base::new(view), upper: BTreeMap::new(), now, groups: 0, scratch: None }
    }

    /// All of it.
    pub(crate) fn finish(self) -> Finished {
        Finished { upper: self.upper, facts: self.base.into_facts(), scratch: self.scratch.map(|(scratch, _)| scratch) }
    }

    /// What is at a path, the new layer and its base taken together.
    pub(crate) fn seen(&self, path: &[u8]) -> Option<Seen> {
        if path.is_empty() {
            return Some(Seen::Directory);
        }
        match self.upper.get(path).map(|planned| &planned.what) {
            Some(What::Directory { .. }) => Some(Seen::Directory),
            Some(What::Symlink(target)) => Some(Seen::Link(target.clone())),
            Some(What::Whiteout) => None,
            Some(What::File { .. } | What::Special(..)) => Some(Seen::Other),
            None if self.base_is_hidden(path) => None,
            None => self.base.seen(path),
        }
    }

    /// Whether the new layer, by something above this path, hides what the base has here.
    fn base_is_hidden(&self, path: &[u8]) -> bool {
        let mut above = paths::parent(path);
        while !above.is_empty() {
            if let Some(planned) = self.upper.get(above) {
                return !matches!(planned.what, What::Directory { fresh: false, .. });
            }
            above = paths::parent(above);
        }
        false
    }

    /// Follows the symbolic links of a path within the tree.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        self.resolve_below(b"", path)
    }

    /// Follows the symbolic links of a path as if a directory were the root.
    pub(crate) fn resolve_below(&self, root: &[u8], path: &[u8]) -> Result<Vec<u8>, FileError> {
        let look = |path: &[u8]| Ok::<_, std::convert::Infallible>(self.seen(&paths::join(root, path)));
        let resolved = paths::resolve(path, true, look).map_err(|error| match error {
            ResolveError::Loop(path) => FileError::Loop { path: paths::display(&path), place: PLACE.into() },
            ResolveError::NotADirectory(path) => {
                FileError::NotADirectory { path: paths::display(&paths::join(root, &path)), place: PLACE.into() }
            }
            ResolveError::Lookup(never) => match never {},
        })?;
        Ok(paths::join(root, &resolved.0))
    }

    /// Makes a directory and those above it, as far as they are not there. The path must be resolved.
    pub(crate) fn make_directories(&mut self, path: &[u8], mode: u32, owner: Ids) -> Result<(), FileError> {
        for directory in paths::ancestors(path).chain([path]) {
            match self.seen(directory) {
                Some(Seen::Directory) => {}
                None => {
                    let Ids { uid, gid } = owner;
                    let metadata = Metadata { mode, uid, gid, modified: self.now, attributes: Attributes::new() };
                    self.put(directory.to_vec(), What::Directory { fresh: true, opaque: false }, metadata)?;
                }
                Some(_) => {
                    return Err(FileError::NotADirectory { path: paths::display(directory), place: PLACE.into() });
                }
            }
        }
        Ok(())
    }

    /// Puts something where nothing is, or in the place of what is no directory.
    pub(crate) fn put(&mut self, path: Vec<u8>, what: What, metadata: Metadata) -> Result<(), FileError> {
        if self.seen(&path) == Some(Seen::Directory) {
            return Err(FileError::ReplacesDirectory(paths::display(&path)));
        }
        self.carry(paths::parent(&path))?;
        // A directory where the base's was taken away must not let the base's show through again.
        let gone = matches!(self.upper.get(&path), Some(Planned { what: What::Whiteout, .. }));
        let what = match what {
            What::Directory { .. } => What::Directory { fresh: true, opaque: gone },
            other => other,
        };
        self.upper.insert(path, Planned { what, metadata });
        Ok(())
    }

    /// A file that holds these bytes.
    pub(crate) fn make_file(
        &mut self,
        path: Vec<u8>,
        content: &[u8],
        mode: u32,
        owner: Ids,
        store: &Store,
    ) -> Result<(), FileError> {
        let scratch = self.scratch_file(store)?;
        let failed = |source| FileError::Scratch { action: "write", path: scratch.clone(), source };
        std::fs::write(&scratch, content).map_err(failed)?;
        let origin = Origin::Scratch(scratch);
        let bytes = Bytes { origin, digest: Digest::of(content), size: content.len() as u64 };
        let Ids { uid, gid } = owner;
        let metadata = Metadata { mode, uid, gid, modified: self.now, attributes: Attributes::new() };
        self.put(path, What::File { bytes, twin: None }, metadata)
    }

    /// A directory from elsewhere: made, or merged into the one that is there, whose metadata then change only
    /// where `overwrite` is set.
    pub(crate) fn merge(&mut self, path: &[u8], metadata: Metadata, overwrite: bool) -> Result<(), FileError> {
        match self.seen(path) {
            None => self.put(path.to_vec(), What::Directory { fresh: true, opaque: false }, metadata),
            Some(Seen::Directory) if !overwrite || path.is_empty() => Ok(()),
            Some(Seen::Directory) => {
                self.carry(path)?;
                if let Some(planned) = self.upper.get_mut(path) {
                    let mut attributes = std::mem::take(&mut planned.metadata.attributes);
                    attributes.retain(|(name, _)| metadata.attributes.iter().all(|(other, _)| other != name));
                    attributes.extend_from_slice(&metadata.attributes);
                    attributes.sort();
                    planned.metadata = Metadata { attributes, ..metadata };
                }
                Ok(())
            }
            Some(_) => Err(FileError::ToNonDirectory(paths::display(path))),
        }
    }

    /// Takes away what is at a path, with all below it.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), FileError> {
        let below: Vec<Vec<u8>> = self
            .upper
            .range(path.to_vec()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(path))
            .cloned()
            .collect();
        for key in below.iter().filter(|key| key.len() == path.len() || key.get(path.len()) == Some(&b'/')) {
            self.upper.remove(key);
        }
        if self.seen(path).is_some() {
            self.carry(paths::parent(path))?;
            let nothing = Metadata { mode: 0, uid: 0, gid: 0, modified: self.now, attributes: Attributes::new() };
            self.upper.insert(path.to_vec(), Planned { what: What::Whiteout, metadata: nothing });
        }
        Ok(())
    }

    /// Takes a directory of the base, and those above it, into the new layer as they are: overlayfs shows the
    /// metadata of the topmost.
    fn carry(&mut self, path: &[u8]) -> Result<(), FileError> {
        if path.is_empty() || self.upper.contains_key(path) {
            return Ok(());
        }
        for directory in paths::ancestors(path).chain([path]) {
            if self.upper.contains_key(directory) {
                continue;
            }
            let not = || FileError::NotADirectory { path: paths::display(directory), place: PLACE.into() };
            let metadata = self.base.directory(directory).ok_or_else(not)?;
            let what = What::Directory { fresh: false, opaque: false };
            self.upper.insert(directory.to_vec(), Planned { what, metadata });
        }
        Ok(())
    }

    /// Sets when a directory of the new layer was modified; one that the layer does not have stays as it is.
    pub(crate) fn touch(&mut self, path: &[u8], modified: Timestamp) {
        if let Some(planned) = self.upper.get_mut(path) {
            planned.metadata.modified = modified;
        }
    }

    /// A number for the hard links of one copy.
    pub(crate) fn next_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups
    }

    /// The regular file at a path, so that it can get another name: taken into the new layer if it is not there.
    pub(crate) fn share(&mut self, path: &[u8]) -> Result<Option<Shared>, FileError> {
        if !self.upper.contains_key(path)
            && self.seen(path) == Some(Seen::Other)
            && let Some((bytes, metadata)) = self.base.file(path)
        {
            self.put(path.to_vec(), What::File { bytes, twin: None }, metadata)?;
        }
        let group = self.next_group();
        let Some(Planned { what: What::File { bytes, twin }, metadata }) = self.upper.get_mut(path) else {
            return Ok(None);
        };
        let twin = *twin.get_or_insert((group, 0));
        Ok(Some(Shared { bytes: bytes.clone(), twin, metadata: metadata.clone() }))
    }

    /// The same once more of what the layer has at a path that is neither a file nor a directory. A second name could
    /// not be told from it.
    pub(crate) fn again(&self, path: &[u8]) -> Option<(What, Metadata)> {
        let Planned { what, metadata } = self.upper.get(path)?;
        let what = match what {
            What::Symlink(target) => What::Symlink(target.clone()),
            What::Special(kind, device) => What::Special(*kind, *device),
            _ => return None,
        };
        Some((what, metadata.clone()))
    }

    /// A name for a new file outside of the layer, on the same file system.
    pub(crate) fn scratch_file(&mut self, store: &Store) -> Result<std::path::PathBuf, FileError> {
        if self.scratch.is_none() {
            self.scratch = Some((store.scratch()?, 0));
        }
        let Some((scratch, count)) = &mut self.scratch else { return Err(FileError::Cancelled) };
        *count += 1;
        Ok(scratch.path().join(count.to_string()))
    }

    /// The content of a file, links followed; nothing where there is none.
    pub(crate) fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.resolve(path)?;
        match self.upper.get(&path) {
            Some(Planned { what: What::File { bytes, .. }, .. }) => {
                let mut content = Vec::new();
                let read = bytes.open()?.take(bytes.size).read_to_end(&mut content);
                read.map_err(|source| FileError::Write { action: "read", path: paths::display(&path), source })?;
                Ok(Some(content))
            }
            Some(_) => Ok(None),
            None if self.seen(&path).is_none() => Ok(None),
            None => Ok(self.base.read(&path)?),
        }
    }
}
