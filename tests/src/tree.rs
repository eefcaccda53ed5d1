//! The files of an image, all layers put together: read from the layers' archives alone, with rules of its own,
//! so that it can judge both what kiln writes and what others do.

use crate::layout::sha256;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex};

/// Every path of an image, relative and without slashes at the ends; the root is the empty path.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// By path.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

/// One file, directory or other thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The owning group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the bytes themselves only of small ones.
    File {
        /// In bytes.
        size: u64,
        /// In hexadecimal digits.
        sha256: String,
        /// All of them, where they are few.
        bytes: Option<Vec<u8>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Anything else: the type byte of the archive, and the device numbers.
    Special(u8, u32, u32),
}

/// One entry of a layer.
#[derive(Clone, Debug)]
enum Change {
    Add(Vec<u8>, Node),
    HardLink(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Empty(Vec<u8>),
}

/// Regular files up to this size are kept whole.
const SMALL: u64 = 65536;

impl Tree {
    /// Puts a layer on top: an uncompressed archive, known by its digest.
    pub fn apply(&mut self, diff_id: &str, archive: &[u8]) {
        static READ: LazyLock<Mutex<HashMap<String, Arc<Vec<Change>>>>> = LazyLock::new(Mutex::default);
        let known = READ.lock().unwrap().get(diff_id).cloned();
        let changes = known.unwrap_or_else(|| {
            let changes = Arc::new(read(archive));
            READ.lock().unwrap().insert(diff_id.to_owned(), Arc::clone(&changes));
            changes
        });
        // Whiteouts hide what is below this layer, wherever in the layer they stand.
        for change in changes.iter() {
            match change {
                Change::Remove(path) => self.remove(path, true),
                Change::Empty(path) => self.remove(path, false),
                Change::Add(..) | Change::HardLink(..) => {}
            }
        }
        for change in changes.iter() {
            match change {
                Change::Add(path, node) => self.add(path, node.clone()),
                Change::HardLink(path, target) => {
                    let node = self.nodes.get(target).cloned();
                    self.add(
                        path,
                        node.unwrap_or_else(|| panic!("a hard link to `{}`, which is not there", text(target))),
                    );
                }
                Change::Remove(_) | Change::Empty(_) => {}
            }
        }
    }

    fn add(&mut self, path: &[u8], node: Node) {
        if node.kind != Kind::Directory {
            self.remove(path, true);
        }
        self.nodes.insert(path.to_vec(), node);
    }

    fn remove(&mut self, path: &[u8], itself: bool) {
        let below = |other: &[u8]| {
            path.is_empty() && !other.is_empty() || other.starts_with(path) && other.get(path.len()) == Some(&b'/')
        };
        self.nodes.retain(|other, _| !(below(other) || itself && other == path));
    }

    /// The node at a path, if there is one. Links are not followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.as_bytes())
    }

    /// The node at a path; panics where there is none.
    pub fn node(&self, path: &str) -> &Node {
        self.get(path).unwrap_or_else(|| panic!("no `{path}` among {:?}", self.paths()))
    }

    /// Whether something is at a path.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// The text of a small regular file.
    pub fn text(&self, path: &str) -> String {
        match &self.node(path).kind {
            Kind::File { bytes: Some(bytes), .. } => text(bytes),
            other => panic!("`{path}` is no small file but {other:?}"),
        }
    }

    /// The target of a symbolic link.
    pub fn link(&self, path: &str) -> String {
        match &self.node(path).kind {
            Kind::Symlink(target) => text(target),
            other => panic!("`{path}` is no symbolic link but {other:?}"),
        }
    }

    /// Every path.
    pub fn paths(&self) -> Vec<String> {
        self.nodes.keys().map(|path| text(path)).collect()
    }

    /// Every path below a directory, relative to it.
    pub fn below(&self, directory: &str) -> Vec<String> {
        let prefix = format!("{directory}/");
        self.paths().iter().filter_map(|path| path.strip_prefix(&prefix).map(String::from)).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(archive: &[u8]) -> Vec<Change> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().expect("a layer archive").map(|entry| change(entry.expect("an entry of a layer"))).collect()
}

fn change(mut entry: tar::Entry<'_, &[u8]>) -> Change {
    let path = clean(&entry.path_bytes());
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], &path[..]),
    };
    if name == b".wh..wh..opq" {
        return Change::Empty(parent.to_vec());
    }
    if let Some(hidden) = name.strip_prefix(b".wh.") {
        let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
        return Change::Remove([parent, slash, hidden].concat());
    }
    let xattrs = xattrs(&mut entry);
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        tar::EntryType::Link => {
            return Change::HardLink(path, clean(&entry.link_name_bytes().expect("the target of a hard link")));
        }
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink(entry.link_name_bytes().expect("the target of a link").into_owned()),
        tar::EntryType::Regular | tar::EntryType::Continuous => file(&mut entry),
        other => {
            let number = |found: std::io::Result<Option<u32>>| found.ok().flatten().unwrap_or(0);
            Kind::Special(other.as_byte(), number(header.device_major()), number(header.device_minor()))
        }
    };
    let node = Node {
        kind,
        mode: header.mode().unwrap() & 0o7777,
        uid: header.uid().unwrap(),
        gid: header.gid().unwrap(),
        mtime: header.mtime().unwrap(),
        xattrs,
    };
    Change::Add(path, node)
}

fn file(entry: &mut tar::Entry<'_, &[u8]>) -> Kind {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).expect("the bytes of a file");
    let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
    Kind::File { size, sha256, bytes: (size <= SMALL).then_some(bytes) }
}

fn xattrs(entry: &mut tar::Entry<'_, &[u8]>) -> BTreeMap<String, Vec<u8>> {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return BTreeMap::new() };
    extensions
        .flatten()
        .filter_map(|extension| {
            let name = extension.key().ok()?.strip_prefix("SCHILY.xattr.")?;
            Some((name.to_owned(), extension.value_bytes().to_vec()))
        })
        .collect()
}

/// Without `./` in front and slashes at the ends.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")) {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    if path == b"." { Vec::new() } else { path.to_vec() }
}
