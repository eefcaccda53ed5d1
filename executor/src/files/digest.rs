//! The content key of a selection: equal only where the copies would be equal but for modification times.

use kiln_solver::{Cancel, CopyAction, Digest, FileMode, Hasher};

use super::select::{Match, select};
use super::tree::Item;
use super::{FileError, Kind, Tree};

const FORMAT: &[u8] = b"kiln.selection.v1";
const FORMAT_WITH_TIMES: &[u8] = b"kiln.selection-with-times.v1";

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
    bytes: Vec<u8>,
    hasher: Hasher,
    /// Whether modification times count.
    times: bool,
}

impl Encoder {
    fn new(format: &[u8], times: bool) -> Self {
        let mut encoder = Self { bytes: Vec::with_capacity(1 << 16), hasher: Hasher::new(), times };
        encoder.field(format);
        encoder
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn field(&mut self, field: &[u8]) {
        self.number(field.len() as u64);
        self.bytes.extend_from_slice(field);
    }

    fn found(&mut self, found: &Match, copy: &CopyAction) {
        let contents_only = copy.contents_only && found.is_directory();
        // The name counts where the copy bears it.
        self.field(if contents_only { b"" } else { &found.name });
        self.number(found.items.len() as u64);
        for (position, item) in found.items.iter().enumerate() {
            self.field(found.below(item));
            self.bytes.push(kind(item.kind));
            // A directory that only gives its contents gives nothing of its own.
            if position > 0 || !contents_only {
                self.metadata(item, copy);
            }
            self.content(item, found.twins.get(&position));
            if self.bytes.len() >= 1 << 15 {
                self.hasher.update(&self.bytes);
                self.bytes.clear();
            }
        }
    }

    fn metadata(&mut self, item: &Item, copy: &CopyAction) {
        let metadata = &item.metadata;
        // Symbolic links have no mode.
        let is_given = matches!(copy.mode, Some(FileMode::Exact(_)));
        let mode = if is_given || item.kind == Kind::Symlink { 0 } else { metadata.mode };
        let owner = if copy.owner.is_some() { (0, 0) } else { (metadata.uid, metadata.gid) };
        self.number(mode.into());
        self.number(u64::from(owner.0) << 32 | u64::from(owner.1));
        if self.times {
            self.number(metadata.modified.seconds.cast_unsigned());
            self.number(metadata.modified.nanos.into());
        }
        self.number(metadata.attributes.len() as u64);
        for (name, value) in &metadata.attributes {
            self.field(name);
            self.field(value);
        }
    }

    fn content(&mut self, item: &Item, twin: Option<&usize>) {
        self.number(twin.map_or(0, |first| *first as u64 + 1));
        match (&item.bytes, item.kind) {
            (Some(bytes), _) => self.bytes.extend_from_slice(bytes.digest.as_bytes()),
            (None, Kind::Symlink) => self.field(&item.target),
            (None, Kind::CharDevice | Kind::BlockDevice) => {
                self.number(u64::from(item.device.major) << 32 | u64::from(item.device.minor));
            }
            (None, _) => {}
        }
    }

    fn finish(mut self) -> Digest {
        self.hasher.update(&self.bytes);
        self.hasher.finish()
    }
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
