//! A layer in memory while it is unpacked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::archive::ArchiveError;
use crate::index::{Builder, EntryKind, Record, join};

/// As many symbolic links as Linux follows on one path.
const MOST_LINKS: usize = 40;
/// The longest path that Linux takes, without the NUL.
const LONGEST_PATH: usize = 4095;

/// Names a node of a [`Tree`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(usize);

/// The root of every tree.
pub(crate) const ROOT: NodeId = NodeId(0);

struct Node {
    parent: NodeId,
    name: Rc<[u8]>,
    /// Its path and content of a link's target are left empty until the end.
    record: Record,
    children: BTreeMap<Rc<[u8]>, NodeId>,
    /// Names of one file have the same number.
    file: usize,
}

/// The tree.
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Nodes that were removed and may be used again.
    free: Vec<NodeId>,
    /// How many files there have been.
    files: usize,
}

/// Makes a directory on disk: its parent, its name, and whether it takes the place of a whiteout.
type MakeDirectory<'a> = dyn FnMut(&Tree, NodeId, &[u8], bool) -> Result<(), ArchiveError> + 'a;

/// What becomes of the end of a path that does not exist.
enum Missing<'a> {
    Make(&'a mut MakeDirectory<'a>),
    Fail,
}

impl Tree {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let record = Record::new(Vec::new(), EntryKind::Directory { opaque: false }, 0o755);
        let root = Node { parent: ROOT, name: Rc::default(), record, children: BTreeMap::new(), file: 0 };
        Self { nodes: vec![root], free: Vec::new(), files: 0 }
    }

    /// How many nodes take up room.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// What is at a node.
    pub(crate) fn record(&self, node: NodeId) -> &Record {
        &self.nodes[node.0].record
    }

    /// Changes what is at a node, keeping what is below it.
    pub(crate) fn replace_record(&mut self, node: NodeId, record: Record) {
        self.nodes[node.0].record = record;
    }

    /// Makes a directory hide what lower layers have there.
    pub(crate) fn set_opaque(&mut self, node: NodeId) {
        self.nodes[node.0].record.kind = EntryKind::Directory { opaque: true };
    }

    /// The node of this name in a directory.
    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes[directory.0].children.get(name).copied()
    }

    /// Adds something that is not there.
    pub(crate) fn insert(&mut self, parent: NodeId, name: &[u8], record: Record) -> NodeId {
        self.files += 1;
        self.insert_node(parent, name, record, self.files)
    }

    /// Adds one more name of something.
    pub(crate) fn insert_link(&mut self, parent: NodeId, name: &[u8], to: NodeId) -> NodeId {
        let Node { record, file, .. } = &self.nodes[to.0];
        let (record, file) = (record.clone(), *file);
        self.insert_node(parent, name, record, file)
    }

    fn insert_node(&mut self, parent: NodeId, name: &[u8], record: Record, file: usize) -> NodeId {
        let name: Rc<[u8]> = name.into();
        let new = Node { parent, name: Rc::clone(&name), record, children: BTreeMap::new(), file };
        let node = match self.free.pop() {
            Some(node) => {
                self.nodes[node.0] = new;
                node
            }
            None => {
                self.nodes.push(new);
                NodeId(self.nodes.len() - 1)
            }
        };
        self.nodes[parent.0].children.insert(name, node);
        node
    }

    /// Takes something out, with all below it.
    pub(crate) fn remove(&mut self, parent: NodeId, name: &[u8]) {
        let mut removed: Vec<NodeId> = self.nodes[parent.0].children.remove(name).into_iter().collect();
        while let Some(node) = removed.pop() {
            removed.extend(std::mem::take(&mut self.nodes[node.0].children).into_values());
            self.free.push(node);
        }
    }

    /// The path of a node.
    pub(crate) fn path(&self, node: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            names.push(&self.nodes[at.0].name[..]);
            at = self.nodes[at.0].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The directory at the end of this path, symbolic links followed. `make` makes a missing one on disk; its
    /// last argument tells whether it takes the place of a whiteout.
    pub(crate) fn find_directory(
        &mut self,
        components: &[&[u8]],
        path: &[u8],
        mut make: impl FnMut(&Tree, NodeId, &[u8], bool) -> Result<(), ArchiveError>,
    ) -> Result<NodeId, ArchiveError> {
        match self.descend(components, &mut Missing::Make(&mut make)) {
            Ok(Some(node)) => Ok(node),
            Ok(None) => Err(ArchiveError::Refused { path: path.to_vec(), reason: "its directory does not exist" }),
            Err(Stop::Refused(reason)) => Err(ArchiveError::Refused { path: path.to_vec(), reason }),
            Err(Stop::Made(error)) => Err(error),
        }
    }

    /// The directory at the end of this path, if there is one.
    pub(crate) fn look_up_directory(&mut self, components: &[&[u8]]) -> Option<NodeId> {
        self.descend(components, &mut Missing::Fail).ok().flatten()
    }

    fn descend(&mut self, components: &[&[u8]], missing: &mut Missing<'_>) -> Result<Option<NodeId>, Stop> {
        let mut rest: Vec<Vec<u8>> = components.iter().rev().map(|component| component.to_vec()).collect();
        let mut at = ROOT;
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = self.nodes[at.0].parent;
                continue;
            }
            let child = self.child(at, &name);
            match child.map(|child| (child, self.record(child).kind)) {
                Some((child, EntryKind::Directory { .. })) => at = child,
                Some((child, EntryKind::Symlink)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Stop::Refused("there are too many symbolic links on its way"));
                    }
                    let target = &self.record(child).target;
                    if target.first() == Some(&b'/') {
                        at = ROOT;
                    }
                    let parts = target.rsplit(|byte| *byte == b'/');
                    let parts: Vec<_> = parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect();
                    rest.extend(parts);
                }
                None | Some((_, EntryKind::Whiteout)) => match missing {
                    Missing::Fail => return Ok(None),
                    Missing::Make(make) => {
                        if self.path(at).len() + name.len() >= LONGEST_PATH {
                            return Err(Stop::Refused("its path is too long"));
                        }
                        let replaces = child.is_some();
                        make(self, at, &name, replaces).map_err(Stop::Made)?;
                        let kind = EntryKind::Directory { opaque: replaces };
                        at = self.insert(at, &name, Record::new(Vec::new(), kind, 0o755));
                    }
                },
                Some(_) => return Err(Stop::Refused("something on its way is not a directory")),
            }
        }
        Ok(Some(at))
    }

    /// Visits every directory but the root after all that is in it.
    pub(crate) fn directories_inside_out<E>(
        &self,
        mut visit: impl FnMut(&[u8], &Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut directories = Vec::new();
        self.walk(|path, node| {
            if matches!(node.record.kind, EntryKind::Directory { .. }) {
                directories.push((path.to_vec(), node));
            }
        });
        directories.iter().rev().try_for_each(|(path, node)| visit(path, &node.record))
    }

    /// The records of the index. The first name of a file in order is the file, the others are its hard links.
    pub(crate) fn into_builder(mut self) -> Builder {
        let mut builder = Builder::default();
        let mut first_names: HashMap<usize, Vec<u8>> = HashMap::new();
        let shared = self.files_of_many_names();
        let mut waiting = Vec::new();
        push_children(&mut waiting, &[], &self.nodes[ROOT.0]);
        while let Some((path, id)) = waiting.pop() {
            push_children(&mut waiting, &path, &self.nodes[id.0]);
            // A tree of millions need not be there twice.
            let node = &mut self.nodes[id.0];
            node.children = BTreeMap::new();
            let file = node.file;
            let mut record = std::mem::replace(&mut node.record, Record::whiteout(Vec::new()));
            if record.kind == EntryKind::File && shared.contains(&file) {
                match first_names.get(&file) {
                    Some(first) => {
                        record.kind = EntryKind::HardLink;
                        record.target.clone_from(first);
                    }
                    None => drop(first_names.insert(file, path.clone())),
                }
            }
            record.path = path;
            builder.push(record);
        }
        builder
    }

    /// The numbers of files that more than one node has.
    fn files_of_many_names(&self) -> HashSet<usize> {
        let mut seen = vec![false; self.files + 1];
        self.nodes.iter().filter(|node| std::mem::replace(&mut seen[node.file], true)).map(|node| node.file).collect()
    }

    /// Visits every node but the root in the order of the index.
    fn walk<'t>(&'t self, mut visit: impl FnMut(&[u8], &'t Node)) {
        let mut waiting = Vec::new();
        push_children(&mut waiting, &[], &self.nodes[ROOT.0]);
        while let Some((path, node)) = waiting.pop() {
            let node = &self.nodes[node.0];
            visit(&path, node);
            push_children(&mut waiting, &path, node);
        }
    }
}

fn push_children(waiting: &mut Vec<(Vec<u8>, NodeId)>, path: &[u8], node: &Node) {
    waiting.extend(node.children.iter().rev().map(|(name, child)| (join(path, name), *child)));
}

enum Stop {
    Refused(&'static str),
    /// A directory could not be made.
    Made(ArchiveError),
}
