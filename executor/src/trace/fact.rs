//! What can be observed of one path, and its binary form.

use std::collections::HashMap;

use kiln_cache::{Device, EntryKind};
use kiln_solver::Digest;

use super::union::{Node, Union, Walk};

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: what lies beneath the traced layers shows.
    Absent,
    /// Nothing: a whiteout hides what lies beneath.
    Removed,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// What was observed of a path. Inode numbers and times never are; how many names a file has, and which of those that
/// were looked at are one file, is: `ls -l` and `tar` see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is. Nothing else counts where nothing is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of a regular file in bytes, else 0.
    pub size: u64,
    /// How many names a regular file has in its layer, else 0.
    pub links: u32,
    /// Of another name of a regular file that was looked at before: the place of that fact, the first being 0.
    pub same_as: Option<u64>,
    /// The number of a device, else 0:0.
    pub device: Device,
    /// Whether a directory hides what lies beneath the traced layers.
    pub opaque: bool,
    /// Where a symbolic link points to, else empty.
    pub target: Vec<u8>,
    /// The digest of a file's content, where it was opened.
    pub content: Option<Digest>,
    /// The names in a directory with what they are, sorted, where it was listed.
    pub listing: Option<Vec<(Vec<u8>, Kind)>>,
    /// The extended attributes, sorted by name, where any was asked for.
    pub xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Which parts of a [`Seen`] were looked at, beside those that any look-up shows: a set of the flags below.
pub(super) type Aspects = u8;
/// The content of a file.
pub(super) const CONTENT: Aspects = 1;
/// The listing of a directory.
pub(super) const LISTING: Aspects = 2;
/// The extended attributes.
pub(super) const XATTRS: Aspects = 4;

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::Removed => 1,
            Self::File => 2,
            Self::Directory => 3,
            Self::Symlink => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
            Self::Fifo => 7,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Absent,
            1 => Self::Removed,
            2 => Self::File,
            3 => Self::Directory,
            4 => Self::Symlink,
            5 => Self::CharDevice,
            6 => Self::BlockDevice,
            7 => Self::Fifo,
            _ => return None,
        })
    }
}

impl From<EntryKind> for Kind {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::File | EntryKind::HardLink => Self::File,
            EntryKind::Directory { .. } => Self::Directory,
            EntryKind::Symlink => Self::Symlink,
            EntryKind::CharDevice => Self::CharDevice,
            EntryKind::BlockDevice => Self::BlockDevice,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Whiteout => Self::Removed,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "absent",
            Self::Removed => "removed",
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Fifo => "a named pipe",
        })
    }
}

impl Seen {
    fn nothing(kind: Kind) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            links: 0,
            same_as: None,
            device: Device::default(),
            opaque: false,
            target: Vec::new(),
            content: None,
            listing: None,
            xattrs: None,
        }
    }

    /// Reads one from the front of `bytes`, which is left with what follows.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut seen = Self::nothing(Kind::from_byte(take_byte(bytes)?)?);
        if matches!(seen.kind, Kind::Absent | Kind::Removed) {
            return Some(seen);
        }
        let aspects = take_byte(bytes)?;
        let number = |bytes: &mut &[u8]| u32::try_from(take_number(bytes)?).ok();
        (seen.mode, seen.uid, seen.gid) = (number(bytes)?, number(bytes)?, number(bytes)?);
        match seen.kind {
            Kind::File => {
                seen.size = take_number(bytes)?;
                seen.links = number(bytes)?;
                seen.same_as = take_number(bytes)?.checked_sub(1);
            }
            Kind::Directory => seen.opaque = take_byte(bytes)? != 0,
            Kind::Symlink => seen.target = take_text(bytes)?.to_vec(),
            Kind::CharDevice | Kind::BlockDevice => {
                seen.device = Device { major: number(bytes)?, minor: number(bytes)? };
            }
            Kind::Fifo | Kind::Absent | Kind::Removed => {}
        }
        if aspects & CONTENT != 0 {
            let (digest, rest) = bytes.split_first_chunk::<32>()?;
            *bytes = rest;
            seen.content = Some(Digest::from_bytes(*digest));
        }
        if aspects & LISTING != 0 {
            let mut listing = Vec::new();
            for _ in 0..take_number(bytes)? {
                let kind = Kind::from_byte(take_byte(bytes)?)?;
                listing.push((take_text(bytes)?.to_vec(), kind));
            }
            seen.listing = Some(listing);
        }
        if aspects & XATTRS != 0 {
            let mut xattrs = Vec::new();
            for _ in 0..take_number(bytes)? {
                xattrs.push((take_text(bytes)?.to_vec(), take_text(bytes)?.to_vec()));
            }
            seen.xattrs = Some(xattrs);
        }
        (aspects & !(CONTENT | LISTING | XATTRS) == 0).then_some(seen)
    }
}

/// The aspects in the second byte of an encoded [`Seen`].
pub(super) fn aspects_of(encoded: &[u8]) -> Aspects {
    match encoded {
        [kind, aspects, ..] if *kind > Kind::Removed.to_byte() => *aspects,
        _ => 0,
    }
}

/// Puts facts of one union down, one after the other in the order of an index.
pub(super) struct Facts<'u> {
    union: &'u Union,
    walk: Walk<'u>,
    /// How many were put down.
    count: u64,
    /// The place of the first fact about a name of each file, by the number of the entry that stands for all its names.
    files: HashMap<u64, u64>,
}

impl<'u> Facts<'u> {
    /// None yet.
    pub(super) fn new(union: &'u Union) -> Self {
        Self { union, walk: Walk::new(union), count: 0, files: HashMap::new() }
    }

    /// Appends what there is to be seen of a path, in these aspects. Equal bytes are equal facts.
    pub(super) fn put(&mut self, bytes: &mut Vec<u8>, path: &[u8], aspects: Aspects) {
        let node = self.walk.node(path);
        let file = node.as_ref().and_then(|node| self.union.file(node));
        let first = file.map(|file| *self.files.entry(file).or_insert(self.count));
        let same_as = first.filter(|first| *first != self.count);
        self.count += 1;
        let names = Names { count: file.map_or(0, |file| self.union.survey().link(file).1), same_as };
        put_seen(bytes, self.union, path, node.as_ref(), names, aspects);
    }
}

/// The names of a regular file.
struct Names {
    count: u32,
    same_as: Option<u64>,
}

fn put_seen(bytes: &mut Vec<u8>, union: &Union, path: &[u8], node: Option<&Node<'_>>, names: Names, aspects: Aspects) {
    let Some(node) = node else {
        if path.is_empty() {
            put_root(bytes, union, aspects);
        } else {
            bytes.push(Kind::Absent.to_byte());
        }
        return;
    };
    let entry = &node.entry;
    let kind = Kind::from(entry.kind);
    bytes.push(kind.to_byte());
    if kind == Kind::Removed {
        return;
    }
    let possible = match kind {
        Kind::File => CONTENT | XATTRS,
        Kind::Directory => LISTING | XATTRS,
        _ => XATTRS,
    };
    let content = entry.content.filter(|_| aspects & CONTENT != 0 && kind == Kind::File);
    let aspects = aspects & possible & if content.is_some() { !0 } else { !CONTENT };
    bytes.push(aspects);
    for number in [entry.mode, entry.uid, entry.gid] {
        put_number(bytes, u64::from(number));
    }
    match kind {
        Kind::File => {
            put_number(bytes, entry.size);
            put_number(bytes, u64::from(names.count));
            put_number(bytes, names.same_as.map_or(0, |place| place.saturating_add(1)));
        }
        Kind::Directory => bytes.push(u8::from(node.opaque)),
        Kind::Symlink => put_text(bytes, entry.target),
        Kind::CharDevice | Kind::BlockDevice => {
            put_number(bytes, u64::from(entry.device.major));
            put_number(bytes, u64::from(entry.device.minor));
        }
        Kind::Fifo | Kind::Absent | Kind::Removed => {}
    }
    if let Some(content) = content {
        bytes.extend_from_slice(content.as_bytes());
    }
    if aspects & LISTING != 0 {
        let numbers = node.directory().map(|directory| union.list(&directory)).unwrap_or_default();
        put_listing(bytes, union, &numbers);
    }
    if aspects & XATTRS != 0 {
        put_number(bytes, entry.xattrs().count() as u64);
        for (name, value) in entry.xattrs() {
            put_text(bytes, name);
            put_text(bytes, value);
        }
    }
}

/// The root has no entry: all that is known of it is what is in it.
fn put_root(bytes: &mut Vec<u8>, union: &Union, aspects: Aspects) {
    bytes.extend_from_slice(&[Kind::Directory.to_byte(), aspects & LISTING, 0, 0, 0, 0]);
    if aspects & LISTING != 0 {
        put_listing(bytes, union, &union.list(&union.root()));
    }
}

fn put_listing(bytes: &mut Vec<u8>, union: &Union, numbers: &[u64]) {
    put_number(bytes, numbers.len() as u64);
    for (_, entry) in numbers.iter().filter_map(|number| union.entry(*number)) {
        bytes.push(Kind::from(entry.kind).to_byte());
        put_text(bytes, entry.name());
    }
}

/// Appends a number: seven bits a byte, the lowest first.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a text behind its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

/// Takes a number from the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a text from the front.
pub(super) fn take_text<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(text)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}
