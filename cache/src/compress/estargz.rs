//! Layers as eStargz: gzip that can be fetched file by file.
//!
//! Each chunk of a file begins a gzip member of its own. Behind the archive stands another one with a table of contents,
//! `stargz.index.json`, that tells at which byte of the blob each chunk begins; and a footer of 51 bytes, a gzip member
//! without content, that tells where the table is. To everybody else it is a layer of gzip. As BuildKit makes them, the
//! archive is followed by the table whole, with its end; so the layer has another diffID, and unpacks to the same files.
//! (github.com/containerd/stargz-snapshotter, `docs/estargz.md`.)

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::{Digest, Hasher};
use rayon::prelude::*;
use serde::Serialize;

use super::gzip::compress;
use super::{Compression, LayerBlob, Urgency};
use crate::archive::{Head, end, put_entry, put_padding};
use crate::blobs::BlobWriter;
use crate::index::{Entry, EntryKind};
use crate::{Store, StoreError, StoredLayer, Timestamp};

/// The most of a file that is in one member.
const CHUNK: usize = 4 << 20;
/// How many bytes are compressed at a time, by all threads together.
const BATCH: usize = 16 << 20;
/// The name of the table.
const TABLE: &[u8] = b"stargz.index.json";

/// A layer that was made eStargz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstargzLayer {
    /// The digest of what the blob unpacks to: the archive and the table.
    pub diff_id: Digest,
    /// The blob.
    pub blob: LayerBlob,
    /// The digest of the table (`containerd.io/snapshot/stargz/toc.digest`).
    pub table: Digest,
    /// How many bytes the blob unpacks to (`io.containers.estargz.uncompressed-size`).
    pub size: u64,
}

/// A member of the table: a file, a further chunk of one, or anything else.
#[derive(Default, Serialize)]
struct Row {
    name: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    modtime: String,
    #[serde(rename = "linkName", skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(rename = "devMajor", skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(rename = "devMinor", skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(rename = "chunkOffset", skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(rename = "chunkSize", skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(rename = "chunkDigest", skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
    /// The member that its content begins.
    #[serde(skip)]
    member: Option<usize>,
}

#[derive(Serialize)]
struct Table {
    version: u32,
    entries: Vec<Row>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Store {
    /// Makes the eStargz form of a layer that was made here, in which no file is younger than `latest`; its blob is in
    /// the store then, under a diffID of its own. The same layer gives the same bytes on any machine.
    ///
    /// # Errors
    /// When the layer is not here or was imported, the level (of gzip) does not exist, a file at the top is called
    /// `stargz.index.json`, or the store cannot be written.
    pub fn estargz_layer(
        &self,
        diff_id: &Digest,
        latest: Option<SystemTime>,
        level: u8,
    ) -> Result<EstargzLayer, StoreError> {
        Compression::Gzip { level }.check()?;
        let layer = self.layer(diff_id)?.ok_or(StoreError::NoLayer(*diff_id))?;
        if layer.is_imported() {
            return Err(StoreError::NoArchive(*diff_id));
        }
        if layer.index().get(TABLE).is_some() {
            let reason = "eStargz has its table of contents under that name";
            return Err(StoreError::Unstorable { path: "stargz.index.json".into(), reason });
        }
        let failed = || StoreError::io("write a blob in", self.root().join("tmp"));
        let mut writer = Writer::new(self.blob_writer()?, level);
        let latest = latest.map_or(i64::MAX, |latest| Timestamp::from(latest).seconds);
        for entry in layer.index().entries() {
            let head = Head::from(&entry);
            let head = Head { mtime: head.mtime.min(latest), ..head };
            writer.put_entry(&layer, &head, &entry).map_err(|error| error.into_store(failed()))?;
        }
        let (blob, diff_id, table, size) = writer.finish().map_err(failed())?;
        let blob = blob.commit(None)?;
        let blob = LayerBlob { digest: blob.digest, size: blob.size, compression: Compression::GZIP };
        self.remember_blob(&diff_id, &blob)?;
        Ok(EstargzLayer { diff_id, blob, table, size })
    }
}

/// Why an entry could not be written.
enum Failure {
    Store(StoreError),
    Io(std::io::Error),
}

impl Failure {
    fn into_store(self, io: impl FnOnce(std::io::Error) -> StoreError) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Io(error) => io(error),
        }
    }
}

struct Writer {
    blob: BlobWriter,
    level: u8,
    hasher: Hasher,
    /// How many bytes there were before compression.
    size: u64,
    /// What waits to be compressed; the last one still grows.
    members: Vec<Vec<u8>>,
    /// Where the members before them begin.
    offsets: Vec<u64>,
    written: u64,
    rows: Vec<Row>,
}

impl Writer {
    fn new(blob: BlobWriter, level: u8) -> Self {
        let (hasher, members) = (Hasher::new(), vec![Vec::new()]);
        Self { blob, level, hasher, size: 0, members, offsets: Vec::new(), written: 0, rows: Vec::new() }
    }

    fn put_entry(&mut self, layer: &StoredLayer, head: &Head<'_>, entry: &Entry<'_>) -> Result<(), Failure> {
        let mut bytes = Vec::with_capacity(2048);
        put_entry(head, &mut bytes);
        self.put(&bytes);
        let mut row = row(head);
        if head.kind != EntryKind::File || entry.size == 0 {
            if head.kind == EntryKind::File {
                row.digest = Some(Digest::of(b""));
            }
            self.rows.push(row);
            if let EntryKind::Directory { opaque: true } = head.kind {
                self.rows.push(mark(&[head.path, b"/.wh..wh..opq"].concat()));
            }
            return self.flush_if_large().map_err(Failure::Io);
        }
        let mut file = layer.open(entry).map_err(Failure::Store)?;
        row.digest = entry.content;
        let mut done = 0;
        while done < entry.size {
            let length = usize::try_from(entry.size - done).map_or(CHUNK, |left| left.min(CHUNK));
            let mut chunk = Vec::with_capacity(length + 1024);
            let count = (&mut file).take(length as u64).read_to_end(&mut chunk).map_err(Failure::Io)?;
            if count != length {
                let path = OsStr::from_bytes(entry.path).into();
                let reason = "its size is not that of the index";
                return Err(Failure::Store(StoreError::ChangedFile { path, reason }));
            }
            self.flush_if_large().map_err(Failure::Io)?;
            self.members.push(Vec::new());
            row.member = Some(self.offsets.len() + self.members.len() - 1);
            row.chunk_offset = done;
            done += length as u64;
            if done < entry.size {
                row.chunk_size = length as u64;
            }
            row.chunk_digest = Some(Digest::of(&chunk));
            self.put(&chunk);
            let next = Row { name: row.name.clone(), r#type: "chunk", ..Row::default() };
            self.rows.push(std::mem::replace(&mut row, next));
        }
        bytes.clear();
        put_padding(entry.size, &mut bytes);
        self.put(&bytes);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(last) = self.members.last_mut() {
            last.extend_from_slice(bytes);
        }
    }

    /// Compresses what has come together, if that is much. What comes next begins a member.
    fn flush_if_large(&mut self) -> std::io::Result<()> {
        if self.members.iter().map(Vec::len).sum::<usize>() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let (members, level) = (std::mem::replace(&mut self.members, vec![Vec::new()]), self.level);
        let make = || members.par_iter().map(|member| compress(member, level)).collect::<Result<Vec<_>, _>>();
        let pool = Urgency::Now.pool().ok_or_else(|| std::io::Error::other("cannot start threads to compress with"))?;
        for (member, bytes) in members.iter().zip(pool.install(make)?) {
            self.offsets.push(self.written);
            if !member.is_empty() {
                self.blob.write_all(&bytes)?;
                self.written += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Writes the end, the table and the footer. Yields the blob, its diffID, the digest of the table, and the size of
    /// all of it uncompressed.
    fn finish(mut self) -> std::io::Result<(BlobWriter, Digest, Digest, u64)> {
        self.put(&end());
        self.flush()?;
        let mut rows = std::mem::take(&mut self.rows);
        for row in &mut rows {
            row.offset = row.member.and_then(|member| self.offsets.get(member)).copied().unwrap_or_default();
        }
        let table = serde_json::to_vec(&Table { version: 1, entries: rows })?;
        let mut bytes = Vec::with_capacity(table.len() + 2048);
        put_entry(&table_head(table.len() as u64), &mut bytes);
        bytes.extend_from_slice(&table);
        put_padding(table.len() as u64, &mut bytes);
        bytes.extend_from_slice(&end());
        self.put(&bytes);
        let offset = self.written;
        self.flush()?;
        self.blob.write_all(&footer(offset))?;
        Ok((self.blob, self.hasher.finish(), Digest::of(&table), self.size))
    }
}

fn table_head(size: u64) -> Head<'static> {
    Head { kind: EntryKind::File, mode: 0o444, size, ..Head::directory(TABLE, 0) }
}

/// A gzip member without content, whose extra field says where the table is.
fn footer(offset: u64) -> Vec<u8> {
    let subfield = format!("{offset:016x}STARGZ");
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    bytes.extend_from_slice(subfield.as_bytes());
    // An empty block that is the last one; checksum and length of nothing.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn row(head: &Head<'_>) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (kind, name) = match head.kind {
        EntryKind::Whiteout => {
            let (parent, name) = crate::index::split(head.path);
            return mark(&crate::index::join(parent, &[b".wh.", name].concat()));
        }
        EntryKind::Directory { .. } => ("dir", text(head.path) + "/"),
        EntryKind::File => ("reg", text(head.path)),
        EntryKind::HardLink => ("hardlink", text(head.path)),
        EntryKind::Symlink => ("symlink", text(head.path)),
        EntryKind::CharDevice => ("char", text(head.path)),
        EntryKind::BlockDevice => ("block", text(head.path)),
        EntryKind::Fifo => ("fifo", text(head.path)),
    };
    let is_link = matches!(head.kind, EntryKind::HardLink | EntryKind::Symlink);
    let xattrs = head.xattrs.iter().map(|(name, value)| (text(name), STANDARD.encode(value)));
    Row {
        name,
        r#type: kind,
        size: if head.kind == EntryKind::File { head.size } else { 0 },
        modtime: time(head.mtime),
        link_name: if is_link { text(head.target) } else { String::new() },
        mode: head.mode.into(),
        uid: head.uid.into(),
        gid: head.gid.into(),
        major: head.device.major.into(),
        minor: head.device.minor.into(),
        xattrs: if head.kind == EntryKind::HardLink { BTreeMap::new() } else { xattrs.collect() },
        ..Row::default()
    }
}

/// An empty file whose name is what counts.
fn mark(path: &[u8]) -> Row {
    let name = String::from_utf8_lossy(path).into_owned();
    Row { name, r#type: "reg", digest: Some(Digest::of(b"")), ..Row::default() }
}

/// A time as the table has it; none for 1970.
fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) if seconds != 0 => time.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use std::io::Read;

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    /// As many bytes as there are of a file from where its chunk begins.
    fn chunk(blob: &[u8], offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        flate2::read::GzDecoder::new(&blob[offset as usize..]).read_exact(&mut out).unwrap();
        out
    }

    /// Reads a blob as a lazy snapshotter does: footer, table, chunks. The files by name.
    fn read(blob: &[u8], table_digest: &Digest) -> BTreeMap<String, (serde_json::Value, Vec<u8>)> {
        let footer = &blob[blob.len() - 51..];
        assert_eq!((&footer[..4], &footer[12..16]), (&[0x1f, 0x8b, 8, 4][..], &b"SG\x16\0"[..]));
        assert_eq!(&footer[32..38], b"STARGZ");
        assert!(inflate(footer).is_empty());
        let offset = u64::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
        let archive = inflate(&blob[offset as usize..]);
        let mut archive = tar::Archive::new(&archive[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(&*entry.path_bytes(), TABLE);
        let mut table = Vec::new();
        entry.read_to_end(&mut table).unwrap();
        assert_eq!(Digest::of(&table), *table_digest);
        let table: serde_json::Value = serde_json::from_slice(&table).unwrap();
        assert_eq!(table["version"], 1);
        let mut files = BTreeMap::<String, (serde_json::Value, Vec<u8>)>::new();
        let mut left = 0;
        for row in table["entries"].as_array().unwrap() {
            let name = row["name"].as_str().unwrap().to_owned();
            let is_chunk = row["type"] == "chunk";
            let size = if is_chunk { left } else { row["size"].as_u64().unwrap_or(0) };
            let length = row["chunkSize"].as_u64().unwrap_or(size);
            let bytes = if length == 0 {
                Vec::new()
            } else {
                chunk(blob, row["offset"].as_u64().unwrap_or(0), length as usize)
            };
            left = size - length;
            if length > 0 {
                assert_eq!(row["chunkDigest"], Digest::of(&bytes).to_string());
            }
            let file = files.entry(name).or_insert_with(|| (row.clone(), Vec::new()));
            assert_eq!(row["chunkOffset"].as_u64().unwrap_or(0), file.1.len() as u64);
            file.1.extend(bytes);
        }
        for (name, (row, bytes)) in files.iter().filter(|(_, (row, _))| row["type"] == "reg") {
            assert_eq!(
                (&row["digest"], row["size"].as_u64().unwrap_or(0)),
                (&Digest::of(bytes).to_string().into(), bytes.len() as u64),
                "{name}"
            );
        }
        files
    }

    fn sample(store: &Store) -> StoredLayer {
        layer(store, |files| {
            fill_with_everything(files);
            std::fs::write(files.join("large"), (0..9_500_000_u32).map(|n| (n / 3) as u8).collect::<Vec<_>>()).unwrap();
            make_node(&files.join("gone"), rustix::fs::FileType::CharacterDevice, 0, 0);
            set_xattr(&files.join("sticky"), "trusted.overlay.opaque", b"y");
            for name in ["large", "usr/bin/su", "usr/bin/ping", "hard/z"] {
                set_mtime(&files.join(name), 1_600_000_000);
            }
        })
    }

    #[test]
    fn files_are_found_by_the_table() {
        let (_root, store) = store();
        let layer = sample(&store);
        let made = store.estargz_layer(layer.diff_id(), None, 6).unwrap();
        let blob = store.read_blob(&made.blob.digest, u64::MAX).unwrap().unwrap();
        let files = read(&blob, &made.table);
        let named = |name: &str| files[name].0.clone();
        assert!(files["large"].1 == std::fs::read(layer.mount_source().join("large")).unwrap());
        assert_eq!(
            (named("usr/bin/su")["mode"].as_u64(), named("usr/bin/su")["gid"].as_u64()),
            (Some(0o4755), Some(3_000_000))
        );
        assert_eq!((&named("hard/m")["type"], &named("hard/m")["linkName"]), (&"hardlink".into(), &"hard/a".into()));
        assert_eq!((&named("usr/bin/")["type"], &named(".wh.gone")["type"]), (&"dir".into(), &"reg".into()));
        assert_eq!(named("bin")["modtime"], "2001-09-09T01:46:40Z");
        assert_eq!(named("disk")["devMajor"], 259);
        assert_eq!(named("usr/bin/ping")["xattrs"]["user.note"], STANDARD.encode(b"a\0b\nc=d"));
        assert!(files.contains_key("sticky/.wh..wh..opq"));
        // To everybody else it is the layer, with something behind its end.
        let archive = inflate(&blob);
        assert_eq!((Digest::of(&archive), archive.len() as u64), (made.diff_id, made.size));
        assert!(archive.starts_with(&crate::testing::archive(&layer)));
        let (_root, elsewhere) = crate::testing::store();
        let unpacked = elsewhere.import_layer(&mut &archive[..], &made.diff_id).unwrap();
        assert_eq!(describe_all(&unpacked), describe_all(&layer));
    }

    #[test]
    fn the_same_layer_gives_the_same_blob() {
        let make = |latest| {
            let (_root, store) = store();
            let layer = layer(&store, |files| {
                std::fs::write(files.join("f"), "content").unwrap();
                set_mode(&files.join("f"), 0o644);
                set_mtime(&files.join("f"), 1_000_000_000);
            });
            let made = store.estargz_layer(layer.diff_id(), latest, 6).unwrap();
            assert_eq!(store.known_blob(&made.diff_id).unwrap().unwrap(), made.blob);
            (made.diff_id, made.blob.digest)
        };
        let (plain, older) = (make(None), make(Some(std::time::UNIX_EPOCH)));
        assert_eq!(plain, make(None));
        assert_ne!(plain, older);
        assert_eq!(plain.1.to_string(), "sha256:e940428259c6129027357618aa0ee205cba369518aea9a85e4b303d313267df5");
    }

    #[test]
    fn a_file_under_the_name_of_the_table_is_refused() {
        let (_root, store) = store();
        let layer = layer(&store, |files| std::fs::write(files.join("stargz.index.json"), "mine").unwrap());
        let error = store.estargz_layer(layer.diff_id(), None, 6).unwrap_err().to_string();
        assert!(error.contains("table of contents"), "{error}");
        assert_eq!(left_in_tmp(&store), 0);
    }
}
