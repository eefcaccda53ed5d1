//! What is copied from: a build context or a stack of layers, behind one face.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{Device, EntryKind, Found, StoredLayer, Timestamp, View, ViewError};
use kiln_solver::{Cancel, Digest};

use super::{FileError, Kind, Metadata, NO_DEVICE, attributes};
use crate::Context;
use crate::context::{Directory, Node, NodeRef, open_file};
use crate::paths::{self, ResolveError, Seen};

/// A tree to copy from.
pub(crate) enum Tree {
    /// A directory of this machine.
    Context(Arc<Context>),
    /// Layers.
    Layers(View),
}

/// One path of a tree. There may be very many of them, so it holds little more than where to ask for the rest.
pub(crate) struct Item {
    /// The path in the tree.
    pub(crate) path: Box<[u8]>,
    /// Whether a directory was not asked for itself: only something below it was.
    pub(crate) implied: bool,
    source: ItemSource,
}

/// Where an item comes from.
enum ItemSource {
    /// The root of a tree, of which only the content is ever copied.
    Root,
    /// A context.
    Node(NodeRef),
    /// A directory of a context with what only its own listing tells; the root has no node.
    Listed(Option<NodeRef>, Arc<Directory>),
    /// Layers.
    Layer(Box<LayerItem>),
}

/// What a layer has at a path.
struct LayerItem {
    layer: StoredLayer,
    kind: Kind,
    metadata: Metadata,
    device: Device,
    target: Vec<u8>,
    /// The digest and size of a regular file, and the first of its names.
    content: Option<(Digest, u64, Vec<u8>)>,
}

/// The same for all names of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inode<'a> {
    Context(u64, u64),
    Layer(&'a Digest, &'a [u8]),
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
    Context(Arc<Context>, Box<[u8]>),
    /// In a layer, at this path.
    Layer(StoredLayer, Vec<u8>),
    /// In a file of our own, to be moved into place.
    Scratch(PathBuf),
}

impl Bytes {
    /// Opens the file.
    pub(crate) fn open(&self) -> Result<File, FileError> {
        match &self.origin {
            Origin::Context(context, path) => {
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
            Self::Context(context) => Ok(context.node(path)?.map(|node| seen(node.kind, node.target()))),
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
            return Ok(Some(Item::new(path, ItemSource::Root)));
        }
        match self {
            Self::Context(context) => Ok(context.node(path)?.map(|node| Item::new(path, ItemSource::Node(node)))),
            Self::Layers(view) => view.entry(path).map(|found| from_layer(path, &found)).transpose(),
        }
    }

    /// What is in a directory, sorted by name, each with whether it is there only for what lies below it.
    pub(crate) fn children(&self, path: &[u8]) -> Result<Vec<(Item, bool)>, FileError> {
        match self {
            Self::Context(context) => {
                let directory = context.directory(path)?;
                let child = |node: NodeRef| {
                    let only_for_below = node.verdict.is_ignored();
                    (Item::new(paths::join(path, node.name()), ItemSource::Node(node)), only_for_below)
                };
                Ok(directory.iter().map(child).collect())
            }
            Self::Layers(view) => {
                let child = |found: &Found<'_>| Ok((from_layer(found.entry.path, found)?, false));
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
            let node = match &item.source {
                ItemSource::Node(node) => Some(node.clone()),
                _ => None,
            };
            item.source = ItemSource::Listed(node, context.directory(&item.path)?);
        }
        Ok(())
    }

    /// Finds out what the files of a context hold; those of layers are known.
    pub(crate) fn hash<'a>(
        &self,
        items: impl Iterator<Item = &'a Item> + Clone,
        cancel: &Cancel,
    ) -> Result<(), FileError> {
        let Self::Context(context) = self else { return Ok(()) };
        let files = items.filter_map(|item| match &item.source {
            ItemSource::Node(node) if node.kind == Kind::File => Some((&*item.path, &**node)),
            _ => None,
        });
        Ok(context.hash(files, cancel)?)
    }

    /// What a regular file holds, once that is known, and where to read it.
    pub(crate) fn bytes(&self, item: &Item) -> Option<Bytes> {
        let (digest, size) = item.content()?;
        let origin = match (self, &item.source) {
            (Self::Context(context), _) => Origin::Context(context.clone(), item.path.clone()),
            (_, ItemSource::Layer(there)) => Origin::Layer(there.layer.clone(), item.path.to_vec()),
            _ => return None,
        };
        Some(Bytes { origin, digest, size })
    }
}

impl Item {
    fn new(path: impl Into<Box<[u8]>>, source: ItemSource) -> Self {
        Self { path: path.into(), implied: false, source }
    }

    fn node(&self) -> Option<&Node> {
        match &self.source {
            ItemSource::Node(node) | ItemSource::Listed(Some(node), _) => Some(node),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.source {
            ItemSource::Root | ItemSource::Listed(..) => Kind::Directory,
            ItemSource::Node(node) => node.kind,
            ItemSource::Layer(there) => there.kind,
        }
    }

    /// Permission, set-id and sticky bits.
    pub(crate) fn mode(&self) -> u32 {
        match &self.source {
            ItemSource::Layer(there) => there.metadata.mode,
            _ => self.node().map_or(0o755, |node| node.mode),
        }
    }

    /// User and group. Files of a context belong to root, as Docker has it.
    pub(crate) fn owner(&self) -> (u32, u32) {
        match &self.source {
            ItemSource::Layer(there) => (there.metadata.uid, there.metadata.gid),
            _ => (0, 0),
        }
    }

    pub(crate) fn modified(&self) -> Timestamp {
        match &self.source {
            ItemSource::Root => Timestamp::default(),
            ItemSource::Node(node) => node.identity.modified,
            ItemSource::Listed(_, directory) => directory.modified,
            ItemSource::Layer(there) => there.metadata.modified,
        }
    }

    /// The extended attributes that count, as far as they are known: those of a file with its content.
    pub(crate) fn attributes(&self) -> &[(Vec<u8>, Vec<u8>)] {
        match &self.source {
            ItemSource::Root => &[],
            ItemSource::Node(node) => node
                .content
                .get()
                .and_then(|content| content.attributes.as_ref())
                .map_or(&[], |attributes| &attributes[..]),
            ItemSource::Listed(_, directory) => &directory.attributes,
            ItemSource::Layer(there) => &there.metadata.attributes,
        }
    }

    /// All of that.
    pub(crate) fn metadata(&self) -> Metadata {
        let (uid, gid) = self.owner();
        let (mode, modified, attributes) = (self.mode(), self.modified(), self.attributes().to_vec());
        Metadata { mode, uid, gid, modified, attributes }
    }

    /// The number of a device.
    pub(crate) fn device(&self) -> Device {
        match &self.source {
            ItemSource::Layer(there) => there.device,
            _ => self.node().map_or(NO_DEVICE, Node::device),
        }
    }

    /// Where a symbolic link points to.
    pub(crate) fn target(&self) -> &[u8] {
        match &self.source {
            ItemSource::Layer(there) => &there.target,
            _ => self.node().map_or(&[], Node::target),
        }
    }

    /// The digest and the size of what a regular file holds, once that is known.
    pub(crate) fn content(&self) -> Option<(Digest, u64)> {
        match &self.source {
            ItemSource::Node(node) => node.content.get().map(|content| (content.digest, content.size)),
            ItemSource::Layer(there) => there.content.as_ref().map(|(digest, size, _)| (*digest, *size)),
            ItemSource::Root | ItemSource::Listed(..) => None,
        }
    }

    /// What tells a regular file from others, where it may have several names.
    pub(crate) fn inode(&self) -> Option<Inode<'_>> {
        match &self.source {
            ItemSource::Node(node) if node.kind == Kind::File && node.links > 1 => {
                Some(Inode::Context(node.identity.device, node.identity.inode))
            }
            ItemSource::Layer(there) => {
                let (_, _, first) = there.content.as_ref()?;
                Some(Inode::Layer(there.layer.diff_id(), first))
            }
            _ => None,
        }
    }
}

fn seen(kind: Kind, target: &[u8]) -> Seen {
    match kind {
        Kind::Directory => Seen::Directory,
        Kind::Symlink => Seen::Link(target.to_vec()),
        _ => Seen::Other,
    }
}

fn from_layer(path: &[u8], found: &Found<'_>) -> Result<Item, FileError> {
    let entry = &found.entry;
    let kind = kind(entry.kind);
    let content = if kind == Kind::File {
        let digest = entry.content.ok_or_else(|| ViewError::NotAFile(path.to_vec()))?;
        let first = if entry.kind == EntryKind::HardLink { entry.target } else { entry.path };
        Some((digest, entry.size, first.to_vec()))
    } else {
        None
    };
    let target = if kind == Kind::Symlink { entry.target.to_vec() } else { Vec::new() };
    let (layer, metadata) = (found.layer.clone(), metadata(found));
    let there = LayerItem { layer, kind, metadata, device: entry.device, target, content };
    Ok(Item::new(path, ItemSource::Layer(Box::new(there))))
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
