//! Reads the index of a layer.

use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use kiln_solver::Digest;
use memmap2::Mmap;

use super::{Device, ENTRY, EntryKind, HEADER, MAGIC, Timestamp, compare_paths, is_below, split};
use crate::{StoreError, sys};

/// What is in a layer: entries sorted by path, component by component, so that what a directory holds follows it.
#[derive(Debug)]
pub struct Index {
    map: Mmap,
    count: usize,
    content: Digest,
}

impl Index {
    /// Maps an index and checks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        let map = sys::map(&file).map_err(StoreError::io("read", path))?;
        let damaged = |reason| StoreError::DamagedIndex { path: path.to_owned(), reason };
        let (count, content) = check_header(&map).map_err(damaged)?;
        let index = Self { map, count, content };
        index.check().map_err(damaged)?;
        Ok(index)
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The digest of all that the layer holds but modification times.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// All entries, in order.
    pub fn entries(&self) -> Entries<'_> {
        Entries { index: self, range: 0..self.count }
    }

    /// The entry with this path (relative, no leading or trailing slash).
    pub fn get(&self, path: &[u8]) -> Option<Entry<'_>> {
        let position = self.first_not_before(path);
        (position < self.count && self.path(position) == path).then(|| self.entry(position))
    }

    /// What lies directly in a directory (the empty path is the root), in order.
    pub fn children(&self, path: &[u8]) -> Children<'_> {
        Children { index: self, range: self.range_below(path) }
    }

    /// The entry at a position of [`Index::entries`].
    pub fn at(&self, position: usize) -> Option<Entry<'_>> {
        (position < self.count).then(|| self.entry(position))
    }

    /// The path of the entry at a position of [`Index::entries`]; empty where there is none.
    pub fn path_at(&self, position: usize) -> &[u8] {
        if position < self.count { self.path(position) } else { &[] }
    }

    /// The positions of what lies below the entry at a position: nothing unless it is a directory.
    pub fn positions_below(&self, position: usize) -> Range<usize> {
        let start = position.saturating_add(1).min(self.count);
        let directory = self.path_at(position);
        start..self.gallop(start..self.count, |candidate| is_below(candidate, directory))
    }

    /// The position of what is directly in a directory under a name, looked for among `positions`, all of which lie
    /// below the directory. It costs the less the nearer it is to their start.
    pub fn position_in(&self, positions: Range<usize>, directory: &[u8], name: &[u8]) -> Option<usize> {
        let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let below = |candidate: &[u8]| compare_paths(candidate.get(skip..).unwrap_or_default(), name) == Ordering::Less;
        let end = positions.end.min(self.count);
        let position = self.gallop(positions.start..end, below);
        (position < end && self.path(position).get(skip..) == Some(name)).then_some(position)
    }

    /// Everything below a directory, in order.
    pub fn below(&self, path: &[u8]) -> Entries<'_> {
        Entries { index: self, range: self.range_below(path) }
    }

    fn range_below(&self, path: &[u8]) -> Range<usize> {
        if path.is_empty() {
            return 0..self.count;
        }
        let start = self.partition(0, |candidate| compare_paths(candidate, path) != Ordering::Greater);
        start..self.partition(start, |candidate| is_below(candidate, path))
    }

    fn first_not_before(&self, path: &[u8]) -> usize {
        self.partition(0, |candidate| compare_paths(candidate, path) == Ordering::Less)
    }

    /// The first position from `low` on whose path does not hold; all that hold come before all that do not.
    fn partition(&self, mut low: usize, holds: impl Fn(&[u8]) -> bool) -> usize {
        let mut high = self.count;
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.path(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The first of the positions whose path does not hold, looked for from the start in growing steps.
    fn gallop(&self, positions: Range<usize>, holds: impl Fn(&[u8]) -> bool) -> usize {
        let Range { start: mut low, mut end } = positions;
        let mut step = 1;
        while low < end {
            let probe = low.saturating_add(step - 1).min(end - 1);
            if !holds(self.path(probe)) {
                end = probe;
                break;
            }
            low = probe + 1;
            step *= 2;
        }
        while low < end {
            let middle = low + (end - low) / 2;
            if holds(self.path(middle)) {
                low = middle + 1;
            } else {
                end = middle;
            }
        }
        low
    }

    fn raw(&self, position: usize) -> &[u8] {
        let start = HEADER + position * ENTRY;
        self.map.get(start..start + ENTRY).unwrap_or(&[0; ENTRY])
    }

    /// A part of the text, named by an offset and a length at `at` of an entry. Never out of bounds.
    fn text(&self, raw: &[u8], at: usize) -> Option<&[u8]> {
        let text = self.map.get(HEADER + self.count * ENTRY..)?;
        let start = usize::try_from(number64(raw, at)).ok()?;
        text.get(start..start.checked_add(number(raw, at + 8) as usize)?)
    }

    fn path(&self, position: usize) -> &[u8] {
        self.text(self.raw(position), 0).unwrap_or_default()
    }

    pub(crate) fn entry(&self, position: usize) -> Entry<'_> {
        let raw = self.raw(position);
        let mut content = [0; 32];
        content.copy_from_slice(&raw[80..112]);
        Entry {
            path: self.text(raw, 0).unwrap_or_default(),
            target: self.text(raw, 12).unwrap_or_default(),
            xattrs: self.text(raw, 24).unwrap_or_default(),
            mode: number(raw, 36),
            uid: number(raw, 40),
            gid: number(raw, 44),
            size: number64(raw, 48),
            mtime: Timestamp { seconds: number64(raw, 56).cast_signed(), nanos: number(raw, 64) },
            device: Device { major: number(raw, 68), minor: number(raw, 72) },
            kind: EntryKind::from_byte(raw[76]).unwrap_or(EntryKind::Whiteout),
            content: (raw[77] == 1).then(|| Digest::from_bytes(content)),
        }
    }

    /// Checks everything that the rest relies on.
    fn check(&self) -> Result<(), &'static str> {
        let mut directories: Vec<&[u8]> = Vec::new();
        let mut before: &[u8] = &[];
        for position in 0..self.count {
            let raw = self.raw(position);
            let path = self.text(raw, 0).ok_or("a path lies outside of it")?;
            let xattrs = self.text(raw, 24).ok_or("extended attributes lie outside of it")?;
            self.text(raw, 12).ok_or("a link target lies outside of it")?;
            let kind = EntryKind::from_byte(raw[76]).ok_or("an entry is of no known kind")?;
            if raw[77] > 1 || number(raw, 36) > 0o7777 || number(raw, 64) > 999_999_999 || !Xattrs::are_whole(xattrs) {
                return Err("an entry has values out of range");
            }
            if !is_proper(path) || (position > 0 && compare_paths(before, path) != Ordering::Less) {
                return Err("its paths are not in order");
            }
            directories.truncate(directories.iter().take_while(|directory| is_below(path, directory)).count());
            if split(path).0 != directories.last().copied().unwrap_or_default() {
                return Err("an entry lies in no directory");
            }
            if matches!(kind, EntryKind::Directory { .. }) {
                directories.push(path);
            }
            before = path;
        }
        Ok(())
    }
}

/// The number of entries and the content digest, if the header is one and the lengths add up.
fn check_header(map: &[u8]) -> Result<(usize, Digest), &'static str> {
    let header = map.get(..HEADER).ok_or("it is too short")?;
    if &header[..7] != b"kilnidx" {
        return Err("it is no index");
    }
    if &header[..8] != MAGIC {
        return Err("it is of an unknown version");
    }
    let length = |count: u64, text: u64| count.checked_mul(ENTRY as u64)?.checked_add(HEADER as u64)?.checked_add(text);
    let count = number64(header, 8);
    if length(count, number64(header, 16)) != Some(map.len() as u64) {
        return Err("it has not the length that it says");
    }
    let mut content = [0; 32];
    content.copy_from_slice(&header[32..64]);
    Ok((usize::try_from(count).map_err(|_| "it is too large")?, Digest::from_bytes(content)))
}

/// Whether a path is relative, without empty, `.` and `..` components, and without NUL.
fn is_proper(path: &[u8]) -> bool {
    !path.contains(&0) && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Entries in a row.
#[derive(Clone)]
pub struct Entries<'a> {
    index: &'a Index,
    range: Range<usize>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.range.next().map(|position| self.index.entry(position))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// The entries of one directory.
#[derive(Clone)]
pub struct Children<'a> {
    index: &'a Index,
    range: Range<usize>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = self.index.entry(self.range.next()?);
        // Most have nothing below: look before searching.
        if entry.is_directory()
            && self.range.start < self.range.end
            && is_below(self.index.path(self.range.start), entry.path)
        {
            self.range.start = self.index.partition(self.range.start, |candidate| is_below(candidate, entry.path));
        }
        Some(entry)
    }
}

/// One path of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it is: relative, without leading or trailing slash, never empty.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of a regular file in bytes, else 0.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Timestamp,
    /// The number of a device, else 0:0.
    pub device: Device,
    /// Where a link points to; empty for others. That of a hard link is a path of the same layer.
    pub target: &'a [u8],
    /// The SHA-256 of a regular file's content.
    pub content: Option<Digest>,
    xattrs: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The last component of the path.
    pub fn name(&self) -> &'a [u8] {
        split(self.path).1
    }

    /// The path of the directory that it is in; empty for the root.
    pub fn parent(&self) -> &'a [u8] {
        split(self.path).0
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory { .. })
    }

    /// Whether it is a regular file, under its first or another name.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File | EntryKind::HardLink)
    }

    /// Its extended attributes, sorted by name; none of those of overlayfs.
    pub fn xattrs(&self) -> Xattrs<'a> {
        Xattrs { bytes: self.xattrs }
    }
}

/// Extended attributes: name and value.
#[derive(Clone, Debug)]
pub struct Xattrs<'a> {
    bytes: &'a [u8],
}

impl Xattrs<'_> {
    /// Whether these bytes are extended attributes to their end.
    fn are_whole(bytes: &[u8]) -> bool {
        let mut xattrs = Xattrs { bytes };
        while xattrs.next().is_some() {}
        xattrs.bytes.is_empty()
    }
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = (number(self.bytes, 0) as usize, number(self.bytes, 4) as usize);
        let (name, rest) = self.bytes.get(8..)?.split_at_checked(name)?;
        let (value, rest) = rest.split_at_checked(value)?;
        self.bytes = rest;
        Some((name, value))
    }
}
