//! Everything that was observed of a union, as one sequence of bytes.
//!
//! ```text
//! 8 bytes   `kilnobs` and the version, 2
//! 1 byte    1 where it was observed that nothing has extended attributes, else 0
//! number    of facts, then each fact, sorted by path as an index is:
//!   number  how many bytes of the path before begin this path
//!   text    the rest of the path; that of the root is empty
//!   1 byte  what it is (`Kind`); if that is not nothing:
//!   1 byte  which aspects were seen: 1 content, 2 listing, 4 extended attributes
//!   numbers mode, uid, gid
//!   then    file: size, how many names, and 0 or 1 more than the place of an earlier fact about the same file · directory: 1 byte, opaque or not · symbolic link: target, a text · device: major, minor
//!   content 32 bytes of SHA-256
//!   listing number of names, each: 1 byte of kind, text
//!   xattrs  how many, each: text of the name, text of the value
//! ```
//!
//! A number has seven bits in a byte, the lowest first, the eighth bit saying that more follow. A text is its length,
//! a number, and its bytes.

use std::cmp::Ordering;
use std::collections::HashMap;

use kiln_cache::{Index, compare_paths};

use super::fact::{Aspects, Facts, Seen, XATTRS, aspects_of, put_number, put_text, take_number, take_text};
use super::mismatch::{Change, Mismatch};
use super::union::{Union, Walk};

const MAGIC: &[u8; 8] = b"kilnobs\x02";

/// The facts that a step observed of a [`Union`]: per path that it looked at, what it saw there. Of a path that the
/// union lacks there is one fact, at the first component that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observations {
    /// The binary form, known to be sound.
    bytes: Vec<u8>,
    count: usize,
    /// Where the facts begin.
    start: usize,
}

/// One thing that a step observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Where: relative, without leading slash; empty for the root of the union.
    pub path: Vec<u8>,
    /// What it saw there.
    pub seen: Seen,
}

/// Bytes that are no observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are of another version.
    #[error("observations of an unknown version")]
    Version,
    /// They do not follow the format.
    #[error("damaged observations")]
    Damaged,
}

/// What a step looked at, and how closely.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Paths that are there, and first missing components.
    pub(super) paths: HashMap<Vec<u8>, Aspects>,
    /// Whether it was told that there are no extended attributes anywhere.
    pub(super) no_xattrs: bool,
}

impl Looks {
    fn add(&mut self, path: &[u8], aspects: Aspects) {
        match self.paths.get_mut(path) {
            Some(known) => *known |= aspects,
            None => drop(self.paths.insert(path.to_vec(), aspects)),
        }
    }
}

impl Observations {
    /// What these looks show of a union.
    pub(super) fn new(union: &Union, looks: &Looks) -> Self {
        let mut paths: Vec<(&[u8], Aspects)> =
            looks.paths.iter().map(|(path, aspects)| (&path[..], *aspects)).collect();
        paths.sort_unstable_by(|a, b| compare_paths(a.0, b.0));
        let mut bytes = Vec::with_capacity(64 + paths.len() * 64);
        bytes.extend_from_slice(MAGIC);
        bytes.push(u8::from(looks.no_xattrs));
        put_number(&mut bytes, paths.len() as u64);
        let start = bytes.len();
        let mut facts = Facts::new(union);
        let mut before: &[u8] = &[];
        for (path, aspects) in &paths {
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            put_number(&mut bytes, shared as u64);
            put_text(&mut bytes, &path[shared..]);
            facts.put(&mut bytes, path, *aspects);
            before = path;
        }
        Self { bytes, count: paths.len(), start }
    }

    /// The binary form.
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// When the bytes are not what [`Observations::encode`] gave, in form.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(DecodeError::Damaged)?;
        if magic[..7] != MAGIC[..7] {
            return Err(DecodeError::Damaged);
        }
        if magic != MAGIC {
            return Err(DecodeError::Version);
        }
        let Some((0 | 1, mut rest)) = rest.split_first() else { return Err(DecodeError::Damaged) };
        let count = take_number(&mut rest).and_then(|count| usize::try_from(count).ok());
        let count = count.ok_or(DecodeError::Damaged)?;
        let start = bytes.len() - rest.len();
        let observations = Self { bytes, count, start };
        observations.validate().ok_or(DecodeError::Damaged)?;
        Ok(observations)
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it was observed that nothing in the union has extended attributes.
    pub fn saw_no_xattrs(&self) -> bool {
        self.bytes.get(MAGIC.len()) == Some(&1)
    }

    /// All facts about paths, sorted by path as an index is.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let mut reader = self.reader();
        std::iter::from_fn(move || {
            reader.next_path()?;
            let seen = Seen::take(&mut reader.rest)?;
            Some(Fact { path: reader.path.clone(), seen })
        })
    }

    /// The first fact, in the order of paths, that does not hold for this union; nothing where all hold. Only indexes
    /// are read.
    pub fn check(&self, union: &Union) -> Option<Mismatch> {
        let mut reader = self.reader();
        let mut facts = Facts::new(union);
        let mut today = Vec::new();
        for _ in 0..self.count {
            if reader.next_path().is_none() {
                return Some(Mismatch { path: reader.path, change: Change::Unreadable });
            }
            today.clear();
            facts.put(&mut today, &reader.path, aspects_of(reader.rest));
            let Some(rest) = reader.rest.strip_prefix(&today[..]) else {
                let (before, now) = (Seen::take(&mut reader.rest), Seen::take(&mut &today[..]));
                return Some(Mismatch::between(reader.path, before.as_ref(), now.as_ref()));
            };
            reader.rest = rest;
        }
        let xattrs = self.saw_no_xattrs() && union.has_xattrs();
        xattrs.then(|| Mismatch { path: Vec::new(), change: Change::SomeXattrs })
    }

    /// These observations of `union` and those that the step's own result implies: of each path that its new layer
    /// has, what the union has there. A directory that was written to came up with its metadata, and a whiteout is
    /// there because there was something to remove.
    #[must_use]
    pub fn with_result(&self, union: &Union, result: &Index) -> Self {
        let mut looks = Looks { paths: HashMap::with_capacity(self.count), no_xattrs: self.saw_no_xattrs() };
        let mut reader = self.reader();
        while reader.next_path().is_some() {
            let aspects = aspects_of(reader.rest);
            looks.add(&reader.path, aspects);
            if Seen::take(&mut reader.rest).is_none() {
                break;
            }
        }
        let mut missing: Option<&[u8]> = None;
        let mut walk = Walk::new(union);
        for entry in result.entries() {
            // What is below a missing component is missing with it.
            if missing
                .is_some_and(|missing| entry.path.starts_with(missing) && entry.path.get(missing.len()) == Some(&b'/'))
            {
                continue;
            }
            let node = walk.node(entry.path);
            // Nothing can be below what is no directory there.
            missing = node.as_ref().is_none_or(|node| !node.entry.is_directory()).then_some(entry.path);
            looks.add(entry.path, if entry.is_directory() { XATTRS } else { 0 });
        }
        Self::new(union, &looks)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { rest: self.bytes.get(self.start..).unwrap_or_default(), left: self.count, path: Vec::new() }
    }

    /// Reads all of it once: nothing if it is not sound.
    fn validate(&self) -> Option<()> {
        let mut reader = self.reader();
        let mut before: Option<Vec<u8>> = None;
        for _ in 0..self.count {
            reader.next_path()?;
            let ascends = |before: &Vec<u8>| compare_paths(before, &reader.path) == Ordering::Less;
            if !(before.as_ref().is_none_or(ascends) && is_proper(&reader.path)) {
                return None;
            }
            Seen::take(&mut reader.rest)?;
            let kept = before.get_or_insert_default();
            kept.clone_from(&reader.path);
        }
        reader.rest.is_empty().then_some(())
    }
}

/// Whether a path is that of the root, or one without empty, `.` and `..` components and without NUL.
fn is_proper(path: &[u8]) -> bool {
    path.is_empty()
        || (!path.contains(&0) && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")))
}

/// Reads facts one after the other.
struct Reader<'o> {
    rest: &'o [u8],
    left: usize,
    path: Vec<u8>,
}

impl Reader<'_> {
    /// Goes on to the next path; what was seen there is in front of `rest` then, and must be taken.
    fn next_path(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let shared = usize::try_from(take_number(&mut self.rest)?).ok()?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(take_text(&mut self.rest)?);
        Some(())
    }
}
