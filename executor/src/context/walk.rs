//! Walking a context: only what is asked for, each directory once, in parallel.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::Timestamp;
use kiln_parser::ignore::Verdict;
use kiln_solver::Cancel;
use rustix::io::Errno;

use super::listing::{self, Names, Node};
use super::{Context, ContextError};
use crate::files::{Attributes, Kind, attributes_of};
use crate::paths;

/// What a build has seen of a context.
#[derive(Default)]
pub(super) struct Seen {
    directories: HashMap<Vec<u8>, Arc<Directory>>,
    /// The directories below which everything has been seen.
    trees: HashSet<Vec<u8>>,
    /// What was looked at by itself.
    nodes: HashMap<Vec<u8>, Option<NodeRef>>,
}

/// A directory that has been read.
pub(crate) struct Directory {
    /// What is in it and not left out, sorted by name; ignored directories too, where a `!` pattern may match
    /// below.
    pub(crate) nodes: Vec<Node>,
    names: Names,
    pub(crate) attributes: Attributes,
    pub(crate) modified: Timestamp,
}

/// A node, in the directory that it was found in.
#[derive(Clone)]
pub(crate) struct NodeRef {
    directory: Arc<Directory>,
    position: usize,
}

impl NodeRef {
    /// What it is called in its directory.
    pub(crate) fn name(&self) -> &[u8] {
        self.directory.name(self)
    }
}

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.directory.nodes[self.position]
    }
}

impl Directory {
    fn get(self: &Arc<Self>, name: &[u8]) -> Option<NodeRef> {
        let position = self.nodes.binary_search_by(|node| self.name(node).cmp(name)).ok()?;
        Some(NodeRef { directory: self.clone(), position })
    }

    /// What one of its nodes is called.
    pub(crate) fn name(&self, node: &Node) -> &[u8] {
        node.name(&self.names)
    }

    /// All that is in it.
    pub(crate) fn iter(self: &Arc<Self>) -> impl Iterator<Item = NodeRef> {
        (0..self.nodes.len()).map(|position| NodeRef { directory: self.clone(), position })
    }
}

impl From<(Names, Node)> for NodeRef {
    /// One that was looked at by itself.
    fn from((names, node): (Names, Node)) -> Self {
        let (attributes, modified) = (Attributes::default(), Timestamp::default());
        Self { directory: Arc::new(Directory { nodes: vec![node], names, attributes, modified }), position: 0 }
    }
}

type Found = Mutex<Vec<(Vec<u8>, Result<Arc<Directory>, ContextError>)>>;

impl Context {
    /// Everything in one directory.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<Arc<Directory>, ContextError> {
        let mut seen = self.seen();
        if let Some(directory) = seen.directories.get(path) {
            return Ok(directory.clone());
        }
        let directory = self.read_directory(path, self.verdict(path))?;
        seen.directories.insert(path.to_vec(), directory.clone());
        Ok(directory)
    }

    /// Sees to it that a directory and all below it have been read.
    pub(crate) fn walk(&self, path: &[u8], cancel: &Cancel) -> Result<(), ContextError> {
        let mut seen = self.seen();
        let above = paths::ancestors(path).chain([&b""[..], path]);
        if above.into_iter().any(|above| seen.trees.contains(above)) {
            return Ok(());
        }
        let found = Found::default();
        let verdict = self.verdict(path);
        rayon::scope(|scope| self.visit(scope, &seen.directories, &found, path.to_vec(), verdict, cancel));
        if cancel.is_requested() {
            return Err(ContextError::Cancelled);
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by(|one, other| one.0.cmp(&other.0));
        for (path, directory) in found {
            seen.directories.insert(path, directory?);
        }
        seen.trees.insert(path.to_vec());
        Ok(())
    }

    fn visit<'scope>(
        &'scope self,
        scope: &rayon::Scope<'scope>,
        known: &'scope HashMap<Vec<u8>, Arc<Directory>>,
        found: &'scope Found,
        path: Vec<u8>,
        verdict: Verdict,
        cancel: &'scope Cancel,
    ) {
        if cancel.is_requested() {
            return;
        }
        let read = match known.get(&path) {
            Some(directory) => Ok(directory.clone()),
            None => self.read_directory(&path, verdict),
        };
        if let Ok(directory) = &read {
            for node in directory.nodes.iter().filter(|node| node.kind == Kind::Directory) {
                let (path, verdict) = (paths::join(&path, directory.name(node)), node.verdict);
                scope.spawn(move |scope| self.visit(scope, known, found, path, verdict, cancel));
            }
        }
        found.lock().unwrap_or_else(PoisonError::into_inner).push((path, read));
    }

    fn read_directory(&self, path: &[u8], verdict: Verdict) -> Result<Arc<Directory>, ContextError> {
        let failed = |source: io::Error| self.error("read the directory", path, source);
        let descriptor = listing::open_directory(self.descriptor(), path).map_err(|errno| match errno {
            Errno::NOTDIR => self.changed(path),
            errno => failed(errno.into()),
        })?;
        let (_, identity) = listing::look_at(&descriptor).map_err(|errno| failed(errno.into()))?;
        let wanted = |name: &[u8], directory: bool| self.wanted(path, name, directory, verdict);
        let (names, nodes) = listing::list(descriptor.as_fd(), &wanted, self.known()).map_err(failed)?;
        let attributes = attributes_of(&descriptor).map_err(|errno| failed(errno.into()))?;
        Ok(Arc::new(Directory { nodes, names, attributes, modified: identity.modified }))
    }

    /// The verdict over something in a directory, unless neither it nor anything below it can be part of the
    /// context.
    fn wanted(&self, path: &[u8], name: &[u8], directory: bool, above: Verdict) -> Option<Verdict> {
        if self.ignore.is_empty() {
            return Some(above);
        }
        let path = paths::join(path, name);
        let verdict = self.ignore.verdict(&path, above);
        let prune = verdict.is_ignored() && !(directory && self.ignore.may_include_below(&path));
        (!prune).then_some(verdict)
    }

    fn verdict(&self, path: &[u8]) -> Verdict {
        if path.is_empty() {
            return Verdict::default();
        }
        paths::ancestors(path).chain([path]).fold(Verdict::default(), |above, path| self.ignore.verdict(path, above))
    }

    /// What is at a path whose components above the last are no links; nothing where it is left out.
    pub(crate) fn node(&self, path: &[u8]) -> Result<Option<NodeRef>, ContextError> {
        let mut seen = self.seen();
        if let Some(directory) = seen.directories.get(paths::parent(path)) {
            return Ok(directory.get(paths::name(path)));
        }
        if let Some(node) = seen.nodes.get(path) {
            return Ok(node.clone());
        }
        let node = self.look(path)?.map(NodeRef::from);
        seen.nodes.insert(path.to_vec(), node.clone());
        Ok(node)
    }

    fn look(&self, path: &[u8]) -> Result<Option<(Names, Node)>, ContextError> {
        let failed = |source: io::Error| self.error("look at", path, source);
        let Ok(name) = CString::new(paths::name(path)) else { return Ok(None) };
        let parent = match listing::open_directory(self.descriptor(), paths::parent(path)) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let found = match listing::look(parent.as_fd(), &name, self.verdict(path)) {
            Ok(found) => found,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENAMETOOLONG | libc::ENOTDIR)) => None,
            Err(error) => return Err(failed(error)),
        };
        let left_out = |node: &Node| {
            node.verdict.is_ignored() && !(node.kind == Kind::Directory && self.ignore.may_include_below(path))
        };
        Ok(found.filter(|(_, node)| !left_out(node)))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
