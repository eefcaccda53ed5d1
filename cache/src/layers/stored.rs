//! Layers that are in the store.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use kiln_solver::Digest;
use rustix::fs::OFlags;

use super::publish::{Row, find_row};
use crate::archive::{Block, Blocks, Head, end, put_entry, put_padding};
use crate::{Entry, EntryKind, Index, Store, StoreError, sys};

/// A layer that is in the store. Cheap to clone.
#[derive(Clone)]
pub struct StoredLayer(Arc<Inner>);

struct Inner {
    row: Row,
    index: Index,
    files: PathBuf,
}

impl StoredLayer {
    /// The digest of its uncompressed archive.
    pub fn diff_id(&self) -> &Digest {
        &self.0.row.diff_id
    }

    /// The digest of all that it holds but modification times.
    pub fn content(&self) -> Digest {
        self.0.row.content
    }

    /// When it was made or imported.
    pub fn created(&self) -> SystemTime {
        self.0.row.created
    }

    /// Whether its archive was made elsewhere and so lives on only as a blob.
    pub fn is_imported(&self) -> bool {
        self.0.row.imported
    }

    /// What it holds.
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// The directory to give to overlayfs as a lower directory.
    pub fn mount_source(&self) -> &Path {
        &self.0.files
    }

    /// Opens a regular file of it for reading.
    ///
    /// # Errors
    /// When the entry is no regular file or hard link, or the file is not what the index says.
    pub fn open(&self, entry: &Entry<'_>) -> Result<File, StoreError> {
        self.reader()?.open(entry)
    }

    /// Opens the layer for reading many of its files.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn reader(&self) -> Result<LayerReader, StoreError> {
        let root = sys::open_directory(&self.0.files).map_err(StoreError::io("open", &self.0.files))?;
        Ok(LayerReader { layer: self.clone(), root })
    }

    /// Writes its archive, whose digest is [`StoredLayer::diff_id`].
    ///
    /// # Errors
    /// When it was imported (an archive made elsewhere lives on only as a blob), a file has changed, or
    /// `output` fails.
    pub fn write_archive(&self, output: &mut dyn Write) -> Result<(), StoreError> {
        self.write_blocks(|block| {
            output.write_all(block.filled())?;
            Ok(block)
        })
    }

    /// Writes its archive in blocks.
    pub(crate) fn write_blocks(&self, pass_on: impl FnMut(Block) -> io::Result<Block>) -> Result<(), StoreError> {
        if self.is_imported() {
            return Err(StoreError::NoArchive(*self.diff_id()));
        }
        self.write_blocks_until(i64::MAX, pass_on)
    }

    /// Writes an archive of its files in which none has changed later than this, in seconds since 1970.
    pub(crate) fn write_blocks_until(
        &self,
        latest: i64,
        pass_on: impl FnMut(Block) -> io::Result<Block>,
    ) -> Result<(), StoreError> {
        let mut blocks = Blocks::new(pass_on);
        let reader = self.reader()?;
        for entry in self.index().entries() {
            let head = Head::from(&entry);
            reader.write_entry(&Head { mtime: head.mtime.min(latest), ..head }, &entry, &mut blocks)?;
        }
        let ended = blocks.put(&end()).and_then(|()| blocks.finish());
        ended.map_err(StoreError::io("write the archive of", &self.0.files))
    }
}

/// A layer open for reading files.
#[derive(Debug)]
pub struct LayerReader {
    layer: StoredLayer,
    root: OwnedFd,
}

impl LayerReader {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// When the entry is no regular file or hard link, or the file is not what the index says.
    pub fn open(&self, entry: &Entry<'_>) -> Result<File, StoreError> {
        let path = || self.layer.0.files.join(std::ffi::OsStr::from_bytes(entry.path));
        let changed = |reason| StoreError::ChangedFile { path: path(), reason };
        if !entry.is_file() {
            return Err(changed("it is no regular file"));
        }
        let opened = sys::open_below(&self.root, entry.path, OFlags::RDONLY | OFlags::NONBLOCK, 0);
        let file = File::from(opened.map_err(|source| StoreError::io("open", path())(source))?);
        let metadata = file.metadata().map_err(|source| StoreError::io("read", path())(source))?;
        if !metadata.is_file() {
            return Err(changed("it is no regular file any more"));
        }
        if metadata.len() != entry.size {
            return Err(changed("its size is not that of the index"));
        }
        Ok(file)
    }

    /// Writes one entry of an archive, under the head given.
    pub(crate) fn write_entry<F: FnMut(Block) -> io::Result<Block>>(
        &self,
        head: &Head<'_>,
        entry: &Entry<'_>,
        blocks: &mut Blocks<F>,
    ) -> Result<(), StoreError> {
        let io = || StoreError::io("write the archive of", &self.layer.0.files);
        let mut bytes = Vec::with_capacity(2048);
        put_entry(head, &mut bytes);
        blocks.put(&bytes).map_err(io())?;
        if head.kind != EntryKind::File || entry.size == 0 {
            return Ok(());
        }
        let count = blocks.put_from(self.open(entry)?, entry.size, |_| {}).map_err(io())?;
        if count != entry.size {
            let path = self.layer.0.files.join(std::ffi::OsStr::from_bytes(entry.path));
            return Err(StoreError::ChangedFile { path, reason: "its size is not that of the index" });
        }
        bytes.clear();
        put_padding(entry.size, &mut bytes);
        blocks.put(&bytes).map_err(io())
    }
}

impl std::fmt::Debug for StoredLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StoredLayer({})", self.diff_id())
    }
}

impl Store {
    /// The layer with this diffID, if it is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<StoredLayer>, StoreError> {
        let known = self.inner().open_layers.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).cloned();
        if let Some(layer) = known {
            return Ok(Some(layer));
        }
        let Some(row) =
            self.inner().database.read(|connection| find_row(connection, diff_id, self.inner().generation.number()))?
        else {
            return Ok(None);
        };
        let directory = self.inner().layer_directory(diff_id);
        let index = match Index::open(&directory.join("index")) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            index => index?,
        };
        if index.content() != row.content {
            let reason = "its content is not that of the layer";
            return Err(StoreError::DamagedIndex { path: directory.join("index"), reason });
        }
        let layer = StoredLayer(Arc::new(Inner { row, index, files: directory.join("files") }));
        self.inner().open_layers.lock().unwrap_or_else(PoisonError::into_inner).insert(*diff_id, layer.clone());
        Ok(Some(layer))
    }

    /// Whether a layer is here, without opening it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        Ok(self.layer_created(diff_id)?.is_some())
    }

    /// When a layer was made or imported, if it is here; it is not opened for that.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer_created(&self, diff_id: &Digest) -> Result<Option<SystemTime>, StoreError> {
        let row =
            self.inner().database.read(|connection| find_row(connection, diff_id, self.inner().generation.number()))?;
        let here = row.filter(|_| self.inner().layer_directory(diff_id).join("index").exists());
        if here.is_some() {
            self.inner().present.lock().unwrap_or_else(PoisonError::into_inner).insert(*diff_id);
        }
        Ok(here.map(|row| row.created))
    }
}
