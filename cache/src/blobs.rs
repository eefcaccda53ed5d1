//! Blobs: files named by their digest.
//!
//! A blob is written below `tmp/`, renamed to `blobs/sha256/HEX` when it is whole and its digest is right, and
//! recorded with its size in the same transaction. It counts when its row is there and the file has that size.
//! As with layers, the row carries its boot until a `syncfs`: a blob that a power loss may have cut is dropped at
//! the next open, so the size and the row together vouch for the content.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_solver::{Digest, Hasher};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::archive::Block;
use crate::hashing::Hashing;
use crate::store::Inner;
use crate::{Store, StoreError, database, gc};

/// A blob that is in the store, whole and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The file.
    pub path: PathBuf,
}

/// Takes in the bytes of a new blob. Nothing stays when it is dropped before [`BlobWriter::commit`].
pub struct BlobWriter {
    store: Arc<Inner>,
    file: File,
    path: PathBuf,
    sum: Sum,
    size: u64,
    is_fetched: bool,
}

/// The digest of what was written so far.
enum Sum {
    /// Made by whoever writes.
    Here(Hasher),
    /// Made by a thread of its own, a block at a time. No block is left to fill when that has failed.
    Apart(Hashing, Option<Block>),
}

impl Sum {
    fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Here(hasher) => hasher.update(bytes),
            Self::Apart(hashing, room) => {
                let mut block = room.take().ok_or_else(|| io::Error::other("the thread that hashes died"))?;
                while !bytes.is_empty() {
                    if block.is_full() {
                        block = hashing.take(block)?;
                        block.clear();
                    }
                    bytes = block.put(bytes);
                }
                *room = Some(block);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Digest, StoreError> {
        match self {
            Self::Here(hasher) => Ok(hasher.finish()),
            Self::Apart(mut hashing, room) => {
                let died = || StoreError::Thread("go on: a thread that hashed died");
                hashing.take(room.ok_or_else(died)?).map_err(|_| died())?;
                hashing.finish()
            }
        }
    }
}

impl BlobWriter {
    /// The same, of bytes that come from elsewhere and can be fetched again. A prune spares them unless it is to take
    /// all.
    #[must_use]
    pub fn fetched(mut self) -> Self {
        self.is_fetched = true;
        self
    }

    /// The same, with the digest made on a thread of its own: for one that is written faster than it is hashed.
    #[must_use]
    pub(crate) fn hashed_apart(mut self) -> Self {
        self.sum = Sum::Apart(Hashing::default(), Some(Block::new()));
        self
    }

    /// How many bytes it has taken in.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob visible. `expected` is the digest and size that it must have, where they are known.
    ///
    /// # Errors
    /// When digest or size differ (then nothing stays), or the store cannot be written.
    pub fn commit(mut self, expected: Option<(Digest, u64)>) -> Result<Blob, StoreError> {
        let digest = std::mem::replace(&mut self.sum, Sum::Here(Hasher::new())).finish()?;
        if let Some((expected, size)) = expected {
            if self.size != size {
                return Err(StoreError::WrongSize { digest: expected, expected: size, found: self.size });
            }
            if digest != expected {
                return Err(StoreError::WrongDigest { what: "the blob", expected, found: digest });
            }
        }
        let blob = Blob { digest, size: self.size, path: self.store.blob_path(&digest) };
        self.store.database.write(|transaction| self.record(transaction, &blob))?;
        Ok(blob)
    }

    /// Moves the blob into place and records it, unless it is there.
    fn record(&self, transaction: &Transaction<'_>, blob: &Blob) -> Result<(), StoreError> {
        if find_size(transaction, &blob.digest, i64::MIN)? == Some(blob.size) && has_size(blob)? {
            return gc::pardon_blob(transaction, &blob.digest);
        }
        std::fs::rename(&self.path, &blob.path).map_err(StoreError::io("create", &blob.path))?;
        let insert = "INSERT OR REPLACE INTO blobs (digest, size, saved, boot, fetched) VALUES (?1, ?2, ?3, ?4, ?5)";
        let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
        let saved = database::to_nanos(SystemTime::now());
        let values = params![blob.digest.as_bytes(), size, saved, self.store.boot, self.is_fetched];
        transaction.prepare_cached(insert)?.execute(values)?;
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sum.update(&bytes[..count])?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Gone already if it was committed; else the next sweep would take it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The size of a blob as it is seen from a generation.
fn find_size(connection: &Connection, digest: &Digest, generation: i64) -> rusqlite::Result<Option<u64>> {
    let query = "SELECT size FROM blobs WHERE digest = ?1 AND (condemned IS NULL OR condemned >= ?2)";
    let mut query = connection.prepare_cached(query)?;
    let size = query.query_row(params![digest.as_bytes(), generation], |row| row.get::<_, i64>(0)).optional()?;
    Ok(size.and_then(|size| u64::try_from(size).ok()))
}

/// Whether the file of a blob is there, as long as it should be.
fn has_size(blob: &Blob) -> Result<bool, StoreError> {
    match std::fs::symlink_metadata(&blob.path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == blob.size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("read", &blob.path)(error)),
    }
}

impl Inner {
    /// Where a blob lies.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
}

impl Store {
    /// The blob of this digest, if it is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let generation = self.inner().generation.number();
        let Some(size) = self.inner().database.read(|connection| find_size(connection, digest, generation))? else {
            return Ok(None);
        };
        let blob = Blob { digest: *digest, size, path: self.inner().blob_path(digest) };
        Ok(has_size(&blob)?.then_some(blob))
    }

    /// The bytes of a blob of at most `limit` bytes, verified, if it is here.
    ///
    /// # Errors
    /// When it is larger or no longer has its digest, or the store cannot be read.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.blob(digest)? else { return Ok(None) };
        if blob.size > limit {
            return Err(StoreError::BlobTooLarge { digest: *digest, size: blob.size, limit });
        }
        let file = File::open(&blob.path).map_err(StoreError::io("open", &blob.path))?;
        let mut bytes = Vec::new();
        file.take(blob.size).read_to_end(&mut bytes).map_err(StoreError::io("read", &blob.path))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::WrongDigest { what: "a blob of the store", expected: *digest, found });
        }
        Ok(Some(bytes))
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self.inner().session()?.name("blob");
        let file = File::create_new(&path).map_err(StoreError::io("create", &path))?;
        Ok(BlobWriter {
            store: Arc::clone(self.inner()),
            file,
            path,
            sum: Sum::Here(Hasher::new()),
            size: 0,
            is_fetched: false,
        })
    }

    /// Stores a small blob at once.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.put(bytes, false)
    }

    /// The same for one that comes from elsewhere, see [`BlobWriter::fetched`].
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_fetched_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.put(bytes, true)
    }

    fn put(&self, bytes: &[u8], is_fetched: bool) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.blob(&digest)?.is_none() {
            let mut writer = self.blob_writer()?;
            writer.is_fetched = is_fetched;
            let written = writer.write_all(bytes);
            written.map_err(StoreError::io("write", &writer.path))?;
            writer.commit(Some((digest, bytes.len() as u64)))?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Whiteouts;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
        (root, store)
    }

    fn left_in_tmp(store: &Store) -> usize {
        std::fs::read_dir(store.inner().session().unwrap().directory()).unwrap().count()
    }

    #[test]
    fn a_blob_is_visible_once_it_is_whole() {
        let (_root, store) = store();
        let digest = Digest::of(b"hello");
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"hel").unwrap();
        assert!(store.blob(&digest).unwrap().is_none());
        writer.write_all(b"lo").unwrap();
        let blob = writer.commit(Some((digest, 5))).unwrap();
        assert_eq!(std::fs::read(&blob.path).unwrap(), b"hello");
        assert_eq!(store.blob(&digest).unwrap(), Some(blob));
        assert_eq!(store.put_blob(b"hello").unwrap(), digest);
        assert_eq!(store.read_blob(&digest, 5).unwrap().as_deref(), Some(&b"hello"[..]));
        assert!(matches!(store.read_blob(&digest, 4), Err(StoreError::BlobTooLarge { size: 5, .. })));
        assert_eq!(left_in_tmp(&store), 0);
    }

    #[test]
    fn nothing_stays_of_a_wrong_blob() {
        let (_root, store) = store();
        let digest = Digest::of(b"hello");
        for (bytes, size) in [(&b"hellx"[..], 5), (b"hell", 5), (b"hello", 4)] {
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(bytes).unwrap();
            assert!(writer.commit(Some((digest, size))).is_err());
        }
        drop(store.blob_writer().unwrap());
        assert_eq!(left_in_tmp(&store), 0);
        assert_eq!(std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_without_a_row_or_of_another_size_is_no_blob() {
        let (_root, store) = store();
        let digest = Digest::of(b"hello");
        let path = store.inner().blob_path(&digest);
        std::fs::write(&path, b"hello").unwrap();
        assert!(store.blob(&digest).unwrap().is_none());
        store.put_blob(b"hello").unwrap();
        std::fs::write(&path, b"hell").unwrap();
        assert!(store.blob(&digest).unwrap().is_none());
        store.put_blob(b"hello").unwrap();
        std::fs::write(&path, b"hullo").unwrap();
        assert!(matches!(store.read_blob(&digest, 100), Err(StoreError::WrongDigest { .. })));
    }
}
