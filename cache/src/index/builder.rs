//! Makes the index of a layer.

use kiln_solver::{Digest, Hasher};

use super::{Device, ENTRY, EntryKind, HEADER, MAGIC, Timestamp, compare_paths};

/// One path of a layer, as it goes into the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) device: Device,
    pub(crate) target: Vec<u8>,
    pub(crate) content: Option<Digest>,
    /// Sorted by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Record {
    /// A record of root's with nothing in it.
    pub(crate) fn new(path: Vec<u8>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            device: Device::default(),
            target: Vec::new(),
            content: None,
            xattrs: Vec::new(),
        }
    }

    /// A whiteout. All are alike: whatever else the file system says of one is chance.
    pub(crate) fn whiteout(path: Vec<u8>) -> Self {
        Self::new(path, EntryKind::Whiteout, 0)
    }

    /// Feeds all but the modification time to a hash, each part behind its length.
    fn hash_into(&self, hasher: &mut Hasher) {
        let mut bytes = Vec::with_capacity(128 + self.path.len() + self.target.len());
        put_text(&mut bytes, &self.path);
        bytes.push(self.kind.to_byte());
        for number in [self.mode, self.uid, self.gid, self.device.major, self.device.minor] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        put_text(&mut bytes, &self.target);
        bytes.extend_from_slice(&(self.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &self.xattrs {
            put_text(&mut bytes, name);
            put_text(&mut bytes, value);
        }
        if let Some(content) = &self.content {
            bytes.extend_from_slice(content.as_bytes());
        }
        hasher.update(&bytes);
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}

/// Collects the records of a layer, in any order.
#[derive(Default)]
pub(crate) struct Builder {
    records: Vec<Record>,
}

impl Builder {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes in one record.
    pub(crate) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The bytes of the index, and the content digest of the layer. Each path must have been pushed once.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Digest) {
        let content = self.content();
        (self.encode(&content), content)
    }

    /// The content digest of the layer.
    pub(crate) fn content(&mut self) -> Digest {
        self.records.sort_by(|a, b| compare_paths(&a.path, &b.path));
        let mut hasher = Hasher::new();
        hasher.update(b"kiln.layer.v1\0");
        self.records.iter().for_each(|record| record.hash_into(&mut hasher));
        hasher.finish()
    }

    fn encode(&self, content: &Digest) -> Vec<u8> {
        let mut text = Vec::new();
        let mut bytes = Vec::with_capacity(HEADER + self.records.len() * (ENTRY + 48));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.records.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(content.as_bytes());
        for record in &self.records {
            encode_record(record, &mut bytes, &mut text);
        }
        bytes[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&text);
        bytes
    }
}

fn encode_record(record: &Record, bytes: &mut Vec<u8>, text: &mut Vec<u8>) {
    let mut xattrs = Vec::new();
    for (name, value) in &record.xattrs {
        xattrs.extend_from_slice(&(name.len() as u32).to_le_bytes());
        xattrs.extend_from_slice(&(value.len() as u32).to_le_bytes());
        xattrs.extend_from_slice(name);
        xattrs.extend_from_slice(value);
    }
    for part in [&record.path, &record.target, &xattrs] {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        text.extend_from_slice(part);
    }
    for number in [record.mode, record.uid, record.gid] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&record.size.to_le_bytes());
    bytes.extend_from_slice(&record.mtime.seconds.to_le_bytes());
    for number in [record.mtime.nanos, record.device.major, record.device.minor] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[record.kind.to_byte(), u8::from(record.content.is_some()), 0, 0]);
    bytes.extend_from_slice(record.content.as_ref().map_or(&[0; 32], |digest| digest.as_bytes()));
}
