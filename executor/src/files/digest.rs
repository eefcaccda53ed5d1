//! The content key of a selection: equal only where the copies would be equal but for modification times.

use std::ops::Range;

use kiln_solver::{Cancel, CopyAction, Digest, FileMode, Hasher};
use rayon::prelude::*;

use super::select::{Match, select};
use super::tree::Item;
use super::{FileError, Kind, Tree};

const FORMAT: &[u8] = b"kiln.selection.v1";
const FORMAT_WITH_TIMES: &[u8] = b"kiln.selection-with-times.v1";

/// As many items are encoded at once.
const PIECE: usize = 512;
/// As many pieces are in memory at once.
const PIECES: usize = 32;

/// The digest of what these copies select of a tree.
pub(crate) fn selected(tree: &Tree, copies: &[&CopyAction], cancel: &Cancel) -> Result<Digest, FileError> {
    digest(tree, copies, Encoder::new(FORMAT, false), cancel)
}

/// The digest of what a copy selects, modification times and all.
pub(super) fn selected_with_times(tree: &Tree, copy: &CopyAction, cancel: &Cancel) -> Result<Digest, FileError> {
    digest(tree, &[copy], Encoder::new(FORMAT_WITH_TIMES, true), cancel)
}

fn digest(tree: &Tree, copies: &[&CopyAction], mut encoder: Encoder, cancel: &Cancel) -> Result<Digest, FileError> {
    for copy in copies {
        let matches = select(tree, copy, cancel)?;
        encoder.number(matches.len() as u64);
        for found in &matches {
            encoder.found(found, copy);
        }
    }
    Ok(encoder.finish())
}

struct Encoder {
    hasher: Hasher,
    /// Whether modification times count.
    times: bool,
}

impl Encoder {
    fn new(format: &[u8], times: bool) -> Self {
        let mut encoder = Self { hasher: Hasher::new(), times };
        let mut bytes = Vec::new();
        put_field(&mut bytes, format);
        encoder.hasher.update(&bytes);
        encoder
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn found(&mut self, found: &Match, copy: &CopyAction) {
        let contents_only = copy.contents_only && found.is_directory();
        let mut bytes = Vec::new();
        // The name counts where the copy bears it.
        put_field(&mut bytes, if contents_only { b"" } else { &found.name });
        put_numbers(&mut bytes, [found.items.len() as u64]);
        self.hasher.update(&bytes);
        let items = Items { found, copy, contents_only, times: self.times };
        if found.items.len() <= PIECE {
            return self.hasher.update(&items.encode(0..found.items.len()));
        }
        // Pieces are encoded in parallel and hashed one after the other.
        let starts: Vec<usize> = (0..found.items.len()).step_by(PIECE).collect();
        for starts in starts.chunks(PIECES) {
            let piece = |&start: &usize| items.encode(start..found.items.len().min(start + PIECE));
            let pieces: Vec<Vec<u8>> = starts.par_iter().map(piece).collect();
            pieces.iter().for_each(|piece| self.hasher.update(piece));
        }
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// The items of a match, and how they are encoded.
struct Items<'a> {
    found: &'a Match,
    copy: &'a CopyAction,
    contents_only: bool,
    times: bool,
}

impl Items<'_> {
    fn encode(&self, positions: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(positions.len() * 128);
        for position in positions {
            let item = &self.found.items[position];
            put_field(&mut bytes, self.found.below(item));
            bytes.push(kind(item.kind()));
            // A directory that only gives its contents gives nothing of its own.
            if position > 0 || !self.contents_only {
                self.put_metadata(&mut bytes, item);
            }
            put_content(&mut bytes, item, self.found.twins.get(&position));
        }
        bytes
    }

    fn put_metadata(&self, bytes: &mut Vec<u8>, item: &Item) {
        // Symbolic links have no mode.
        let is_given = matches!(self.copy.mode, Some(FileMode::Exact(_)));
        let mode = if is_given || item.kind() == Kind::Symlink { 0 } else { item.mode() };
        let (uid, gid) = if self.copy.owner.is_some() { (0, 0) } else { item.owner() };
        put_numbers(bytes, [mode.into(), u64::from(uid) << 32 | u64::from(gid)]);
        if self.times {
            let modified = item.modified();
            put_numbers(bytes, [modified.seconds.cast_unsigned(), modified.nanos.into()]);
        }
        put_numbers(bytes, [item.attributes().len() as u64]);
        for (name, value) in item.attributes() {
            put_field(bytes, name);
            put_field(bytes, value);
        }
    }
}

fn put_content(bytes: &mut Vec<u8>, item: &Item, twin: Option<&usize>) {
    put_numbers(bytes, [twin.map_or(0, |first| *first as u64 + 1)]);
    match (item.content(), item.kind()) {
        (Some((digest, _)), _) => bytes.extend_from_slice(digest.as_bytes()),
        (None, Kind::Symlink) => put_field(bytes, item.target()),
        (None, Kind::CharDevice | Kind::BlockDevice) => {
            let device = item.device();
            put_numbers(bytes, [u64::from(device.major) << 32 | u64::from(device.minor)]);
        }
        (None, _) => {}
    }
}

fn put_numbers<const N: usize>(bytes: &mut Vec<u8>, numbers: [u64; N]) {
    bytes.extend_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
}

fn put_field(bytes: &mut Vec<u8>, field: &[u8]) {
    put_numbers(bytes, [field.len() as u64]);
    bytes.extend_from_slice(field);
}

/// Part of the format: never to be renumbered.
fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'f',
        Kind::Directory => b'd',
        Kind::Symlink => b'l',
        Kind::Fifo => b'p',
        Kind::CharDevice => b'c',
        Kind::BlockDevice => b'b',
        Kind::Socket => b's',
    }
}
