//! What is copied from: a build context or a stack of layers, behind one face.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{Device, EntryKind, Found, StoredLayer, Timestamp, View, ViewError};
use kiln_solver::{Cancel, Digest};

use super::{Attributes, FileError, Kind, Metadata, NO_DEVICE, attributes};
use crate::Context;
use crate::context::{Node, open_file};
use crate::paths::{self, ResolveError, Seen};

/// A tree to copy from.
pub(crate) enum Tree {
    /// A directory of this machine.
    Context(Arc<Context>),
    /// Layers.
    Layers(View),
}

/// One path of a tree, with all that a copy of it needs.
#[derive(Clone)]
pub(crate) struct Item {
    /// The path in the tree.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    pub(crate) device: Device,
    /// Where a symbolic link points to.
    pub(crate) target: Vec<u8>,
    /// What a regular file holds.
    pub(crate) bytes: Option<Bytes>,
    /// What tells the file from others, where it may have several names.
    pub(crate) inode: Option<Inode>,
    /// Whether a directory was not asked for itself: only something below it was.
    pub(crate) implied: bool,
}

/// The same for all names of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inode {
    Context(u64, u64),
    Layer(Digest, Vec<u8>),
}

/// The content of a regular file, and where to read it.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) origin: Origin,
    /// What it must turn out to be.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Where the bytes of a file are.
#[derive(Clone)]
pub(crate) enum Origin {
    /// In a context, at this path.
    Context(Arc<Context>, Arc<[u8]>, Arc<Node>),
    /// In a layer, at this path.
    Layer(StoredLayer, Vec<u8>),
    /// In a file of our own, to be moved into place.
    Scratch(PathBuf),
}

impl Bytes {
    /// Opens the file.
    pub(crate) fn open(&self) -> Result<File, FileError> {
        match &self.origin {
            Origin::Context(context, path, _) => {
                Ok(open_file(context.descriptor(), path).map_err(|errno| context.error("open", path, errno))?)
            }
            Origin::Layer(layer, path) => {
                let entry = layer.index().get(path).ok_or_else(|| ViewError::Missing(path.clone()))?;
                Ok(layer.open(&entry)?)
            }
            Origin::Scratch(path) => {
                File::open(path).map_err(|source| FileError::Scratch { action: "open", path: path.clone(), source })
            }
        }
    }
}

impl Tree {
    /// What to call it in an error.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Context(context) => format!("the build context `{}`", context.name()),
            Self::Layers(_) => "the image or stage that it comes from".to_owned(),
        }
    }

    /// Follows the symbolic links of a path within the tree.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<(Vec<u8>, Option<Seen>), FileError> {
        paths::resolve(path, true, |path| self.seen(path)).map_err(|error| match error {
            ResolveError::Lookup(error) => error,
            ResolveError::Loop(path) => FileError::Loop { path: paths::display(&path), place: self.place() },
            ResolveError::NotADirectory(path) => {
                FileError::NotADirectory { path: paths::display(&path), place: self.place() }
            }
        })
    }

    pub(crate) fn seen(&self, path: &[u8]) -> Result<Option<Seen>, FileError> {
        match self {
            Self::Context(context) => Ok(context.node(path)?.map(|node| seen(node.kind, &node.target))),
            Self::Layers(view) => Ok(view.entry(path).map(|found| seen(kind(found.entry.kind), found.entry.target))),
        }
    }

    /// Reads ahead, in parallel, all that lies below a directory.
    pub(crate) fn walk(&self, path: &[u8], cancel: &Cancel) -> Result<(), FileError> {
        match self {
            Self::Context(context) => Ok(context.walk(path, cancel)?),
            Self::Layers(_) => Ok(()),
        }
    }

    /// What is at a resolved path. Files of a context have no bytes yet.
    pub(crate) fn item(&self, path: &[u8]) -> Result<Option<Item>, FileError> {
        if path.is_empty() {
            return Ok(Some(root()));
        }
        match self {
            Self::Context(context) => Ok(context.node(path)?.map(|node| from_node(context, path.to_vec(), &node))),
            Self::Layers(view) => view.entry(path).map(|found| from_layer(path.to_vec(), &found)).transpose(),
        }
    }

    /// What is in a directory, sorted by name, each with whether it is there only for what lies below it.
    pub(crate) fn children(&self, path: &[u8]) -> Result<Vec<(Item, bool)>, FileError> {
        match self {
            Self::Context(context) => {
                let directory = context.directory(path)?;
                let child = |node: &Arc<Node>| {
                    (from_node(context, paths::join(path, &node.name), node), node.verdict.is_ignored())
                };
                Ok(directory.nodes.iter().map(child).collect())
            }
            Self::Layers(view) => {
                let child = |found: &Found<'_>| Ok((from_layer(found.entry.path.to_vec(), found)?, false));
                view.list(path)?.iter().map(child).collect()
            }
        }
    }

    /// Whether a directory is part of the tree only for the sake of what lies below it.
    pub(crate) fn only_for_below(&self, path: &[u8]) -> Result<bool, FileError> {
        match self {
            Self::Context(context) if !path.is_empty() => {
                Ok(context.node(path)?.is_some_and(|node| node.verdict.is_ignored()))
            }
            _ => Ok(false),
        }
    }

    /// Completes an item for a directory with what only its own listing tells.
    pub(crate) fn complete(&self, item: &mut Item) -> Result<(), FileError> {
        if let Self::Context(context) = self {
            let directory = context.directory(&item.path)?;
            item.metadata.attributes.clone_from(&directory.attributes);
            item.metadata.modified = directory.modified;
        }
        Ok(())
    }

    /// Finds out what the files of a context hold; those of layers are known.
    pub(crate) fn hash(&self, items: &mut [&mut Item], cancel: &Cancel) -> Result<(), FileError> {
        let Self::Context(context) = self else { return Ok(()) };
        let file = |item: &'_ &mut Item| match &item.bytes {
            Some(Bytes { origin: Origin::Context(_, path, node), .. }) => Some((path.clone(), node.clone())),
            _ => None,
        };
        let files: Vec<_> = items.iter().filter_map(file).collect();
        context.hash(&files, cancel)?;
        for item in items {
            let Some(bytes) = &mut item.bytes else { continue };
            if let Origin::Context(_, _, node) = &bytes.origin
                && let Some(content) = node.content.get()
            {
                (bytes.digest, bytes.size) = (content.digest, content.size);
                item.metadata.attributes.clone_from(&content.attributes);
            }
        }
        Ok(())
    }
}

fn seen(kind: Kind, target: &[u8]) -> Seen {
    match kind {
        Kind::Directory => Seen::Directory,
        Kind::Symlink => Seen::Link(target.to_vec()),
        _ => Seen::Other,
    }
}

/// The root of a tree, of which only the content is ever copied.
fn root() -> Item {
    let metadata =
        Metadata { mode: 0o755, uid: 0, gid: 0, modified: Timestamp::default(), attributes: Attributes::new() };
    let path = Vec::new();
    let target = Vec::new();
    Item { path, kind: Kind::Directory, metadata, device: NO_DEVICE, target, bytes: None, inode: None, implied: false }
}

/// Files of a context belong to root, as Docker has it.
fn from_node(context: &Arc<Context>, path: Vec<u8>, node: &Arc<Node>) -> Item {
    let identity = &node.identity;
    let metadata =
        Metadata { mode: node.mode, uid: 0, gid: 0, modified: identity.modified, attributes: Attributes::new() };
    let bytes = (node.kind == Kind::File).then(|| Bytes {
        origin: Origin::Context(context.clone(), path.as_slice().into(), node.clone()),
        digest: Digest::from_bytes([0; 32]),
        size: identity.size,
    });
    let linked = node.kind == Kind::File && node.links > 1;
    let inode = linked.then_some(Inode::Context(identity.device, identity.inode));
    let target = node.target.to_vec();
    Item { path, kind: node.kind, metadata, device: node.device, target, bytes, inode, implied: false }
}

fn from_layer(path: Vec<u8>, found: &Found<'_>) -> Result<Item, FileError> {
    let entry = &found.entry;
    let kind = kind(entry.kind);
    let (bytes, inode) = if kind == Kind::File {
        let digest = entry.content.ok_or_else(|| ViewError::NotAFile(path.clone()))?;
        let first = if entry.kind == EntryKind::HardLink { entry.target } else { entry.path };
        let origin = Origin::Layer(found.layer.clone(), entry.path.to_vec());
        (Some(Bytes { origin, digest, size: entry.size }), Some(Inode::Layer(*found.layer.diff_id(), first.to_vec())))
    } else {
        (None, None)
    };
    let target = if kind == Kind::Symlink { entry.target.to_vec() } else { Vec::new() };
    Ok(Item { path, kind, metadata: metadata(found), device: entry.device, target, bytes, inode, implied: false })
}

/// What a layer says of a path.
pub(super) fn metadata(found: &Found<'_>) -> Metadata {
    let entry = &found.entry;
    let counted = entry.xattrs().filter(|(name, _)| attributes::counts(name));
    Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: entry.mtime,
        attributes: counted.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
    }
}

/// A whiteout is never asked for: views do not show them.
pub(super) fn kind(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::File | EntryKind::HardLink => Kind::File,
        EntryKind::Directory { .. } => Kind::Directory,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::BlockDevice => Kind::BlockDevice,
        EntryKind::CharDevice | EntryKind::Whiteout => Kind::CharDevice,
    }
}
