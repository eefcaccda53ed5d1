//! Drafts, and how they become layers.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::SystemTime;

use kiln_solver::{Digest, Hasher};
use rusqlite::{OptionalExtension as _, Transaction, params};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{StoredLayer, commit, recycle};
use crate::archive::{ArchiveError, Block};
use crate::index::Builder;
use crate::store::Inner;
use crate::{Allowance, Store, StoreError, Whiteouts, database, extractor, gc, session, sys};

/// How many blocks are on their way between threads.
pub(super) const BLOCKS: usize = 4;

/// A layer in the making: an empty directory to fill, private to its owner. Dropped, it leaves nothing.
pub struct LayerDraft {
    store: Arc<Inner>,
    /// Empty where it has been given away.
    directory: PathBuf,
    files: PathBuf,
    work: PathBuf,
    owners: Mutex<HashMap<Vec<u8>, (u32, u32)>>,
}

impl LayerDraft {
    /// The directory to fill: by writing into it, or as the upper directory of an overlayfs mount (with
    /// `redirect_dir=off,metacopy=off`). Its mode is 0755 whatever the umask.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// An empty directory beside it, as overlayfs wants for its work.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Which overlayfs marks belong into it.
    pub fn whiteouts(&self) -> Whiteouts {
        self.store.whiteouts
    }

    /// Declares the owner of a path (relative, no leading slash) where the file system cannot hold it, as in a
    /// user namespace that maps a single id. It overrides what the file says.
    pub fn set_owner(&self, path: &[u8], uid: u32, gid: u32) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_vec(), (uid, gid));
    }

    /// Makes a layer of it: reads each file once for its digest and that of the layer, writes the index and
    /// moves all into place. Nothing may write to it any more. A layer that the store has already is returned
    /// as it is, with its own time.
    ///
    /// # Errors
    /// When something in it cannot be stored in a layer, or the store cannot be written.
    pub fn commit(self, created: SystemTime) -> Result<StoredLayer, StoreError> {
        let owners = std::mem::take(&mut *self.owners.lock().unwrap_or_else(PoisonError::into_inner));
        let (builder, diff_id) = commit::scan(&self.files, self.store.whiteouts, &owners)?;
        self.publish(builder, diff_id, created, false)
    }

    fn publish(
        self,
        builder: Builder,
        diff_id: Digest,
        created: SystemTime,
        imported: bool,
    ) -> Result<StoredLayer, StoreError> {
        let empty = builder.is_empty();
        let (index, content) = builder.finish();
        if !imported && let Some(layer) = self.find_known(&diff_id)? {
            if empty {
                self.recycle();
            }
            return Ok(layer);
        }
        let path = self.directory.join("index");
        std::fs::write(&path, index).map_err(StoreError::io("write", &path))?;
        session::remove_tree(&self.work).map_err(StoreError::io("remove", &self.work))?;
        let row = Row { diff_id, content, created, imported };
        self.store.database.write(|transaction| self.record(transaction, &row))?;
        // It may have been opened when it was known as imported.
        self.store.open_layers.lock().unwrap_or_else(PoisonError::into_inner).remove(&diff_id);
        let layer = Store::from_inner(Arc::clone(&self.store)).layer(&diff_id)?;
        layer.ok_or(StoreError::NoLayer(diff_id))
    }

    /// The layer that this is, if the store has it and would not learn anything new of it: it was made here, and no
    /// prune has condemned it.
    fn find_known(&self, diff_id: &Digest) -> Result<Option<StoredLayer>, StoreError> {
        let query = "SELECT 1 FROM layers WHERE diff_id = ?1 AND imported = 0 AND condemned IS NULL";
        let is_settled =
            self.store.database.read(|connection| connection.prepare_cached(query)?.exists([diff_id.as_bytes()]))?;
        if !is_settled || !self.store.layer_directory(diff_id).join("index").exists() {
            return Ok(None);
        }
        Store::from_inner(Arc::clone(&self.store)).layer(diff_id)
    }

    /// Keeps the directories for a later draft, if they are as they were made: a step that wrote nothing then costs
    /// the file system nothing.
    fn recycle(mut self) {
        if recycle::is_unused(&self.files, &self.work) {
            let directory = std::mem::take(&mut self.directory);
            self.store.spare_drafts.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
        }
    }

    /// Moves the draft into place and records it, unless the layer is there.
    fn record(&self, transaction: &Transaction<'_>, row: &Row) -> Result<(), StoreError> {
        let target = self.store.layer_directory(&row.diff_id);
        let known = find_row(transaction, &row.diff_id, EVER)?.is_some();
        if known && target.join("index").exists() {
            gc::pardon(transaction, [&row.diff_id])?;
            if !row.imported {
                // Made here, so its archive can be made again.
                transaction
                    .prepare_cached("UPDATE layers SET imported = 0 WHERE diff_id = ?1 AND imported <> 0")?
                    .execute([row.diff_id.as_bytes()])?;
            }
            return Ok(());
        }
        let io = || StoreError::io("create", &target);
        match rustix::fs::renameat_with(CWD, &self.directory, CWD, &target, RenameFlags::NOREPLACE) {
            // What a crash left goes away with the draft.
            Err(Errno::EXIST) => {
                rustix::fs::renameat_with(CWD, &self.directory, CWD, &target, RenameFlags::EXCHANGE).map_err(io())?;
            }
            result => result.map_err(io())?,
        }
        let insert = "INSERT OR REPLACE INTO layers (diff_id, content, created, imported, saved, boot)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        transaction.prepare_cached(insert)?.execute(params![
            row.diff_id.as_bytes(),
            row.content.as_bytes(),
            database::to_nanos(row.created),
            row.imported,
            database::to_nanos(SystemTime::now()),
            self.store.boot,
        ])?;
        Ok(())
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        if !self.directory.as_os_str().is_empty() {
            let _ = session::remove_tree(&self.directory);
        }
    }
}

/// What the database knows of a layer.
pub(super) struct Row {
    pub(super) diff_id: Digest,
    pub(super) content: Digest,
    pub(super) created: SystemTime,
    pub(super) imported: bool,
}

/// Sees what is condemned, whenever that was, for as long as it is there.
const EVER: i64 = i64::MIN;

/// The row of a layer as it is seen from a generation.
pub(super) fn find_row(
    connection: &rusqlite::Connection,
    diff_id: &Digest,
    generation: i64,
) -> rusqlite::Result<Option<Row>> {
    let query = "SELECT content, created, imported FROM layers
        WHERE diff_id = ?1 AND (condemned IS NULL OR condemned >= ?2)";
    let row = connection.prepare_cached(query)?.query_row(params![diff_id.as_bytes(), generation], |row| {
        let created = database::from_nanos(row.get(1)?);
        Ok(Row { diff_id: *diff_id, content: database::digest(row, 0)?, created, imported: row.get(2)? })
    });
    row.optional()
}

impl Inner {
    /// Where a layer lies.
    pub(crate) fn layer_directory(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }
}

impl Store {
    /// Begins a layer.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn begin_layer(&self) -> Result<LayerDraft, StoreError> {
        let spare = self.inner().spare_drafts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (directory, is_new) = match spare {
            Some(directory) => (directory, false),
            None => (self.inner().session()?.make_directory("draft", 0o700)?, true),
        };
        let draft = LayerDraft {
            store: Arc::clone(self.inner()),
            files: directory.join("files"),
            work: directory.join("work"),
            directory,
            owners: Mutex::default(),
        };
        if is_new {
            session::make_directory(&draft.files, 0o755)?;
            session::make_directory(&draft.work, 0o700)?;
        }
        Ok(draft)
    }

    /// Unpacks an uncompressed archive that nobody vouches for. A layer that is here already is returned
    /// without a look at the archive.
    ///
    /// # Errors
    /// When the archive is malformed or hostile, or its digest is not `expected`: then nothing of it stays.
    pub fn import_layer(&self, archive: &mut dyn Read, expected: &Digest) -> Result<StoredLayer, StoreError> {
        if let Some(layer) = self.layer(expected)? {
            return Ok(layer);
        }
        let draft = self.begin_layer()?;
        let (mut builder, found) = unpack(archive, &draft, self.allowance()?)?;
        if found != *expected {
            return Err(StoreError::WrongDigest { what: "the layer's archive", expected: *expected, found });
        }
        let Some(promise) = self.promise(expected) else {
            return draft.publish(builder, found, SystemTime::now(), true);
        };
        let content = builder.content();
        if let Some(expected) = promise.content.filter(|expected| *expected != content) {
            return Err(StoreError::WrongDigest { what: "the content of the layer", expected, found: content });
        }
        draft.publish(builder, found, promise.created, true)?;
        self.adopt(expected)?;
        self.layer(expected)?.ok_or(StoreError::NoLayer(*expected))
    }
}

/// Reads an archive on this thread, hashes it on a second and unpacks it on a third.
fn unpack(archive: &mut dyn Read, draft: &LayerDraft, allowance: Allowance) -> Result<(Builder, Digest), StoreError> {
    let root = sys::open_directory(draft.files()).map_err(StoreError::io("open", draft.files()))?;
    let (to_hasher, for_hasher) = mpsc::sync_channel::<Arc<Block>>(BLOCKS);
    let (to_extractor, for_extractor) = mpsc::sync_channel::<Arc<Block>>(BLOCKS);
    let (give_back, empty) = mpsc::channel();
    let input = BlockReader { blocks: for_extractor, block: None, position: 0, give_back: give_back.clone() };
    std::thread::scope(|scope| {
        let hasher = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut hasher = Hasher::new();
            for block in for_hasher {
                hasher.update(block.filled());
                return_block(block, &give_back);
            }
            hasher.finish()
        });
        let extractor = std::thread::Builder::new()
            .spawn_scoped(scope, || extractor::extract(input, root, draft.whiteouts(), allowance));
        let (Ok(hasher), Ok(extractor)) = (hasher, extractor) else {
            return Err(StoreError::Thread("start a thread to unpack a layer"));
        };
        let read = read_blocks(archive, &empty, &[to_hasher, to_extractor]);
        let died = || StoreError::Thread("go on: a thread that unpacked a layer died");
        let digest = hasher.join().map_err(|_| died())?;
        let extracted = extractor.join().map_err(|_| died())?;
        read.map_err(ArchiveError::Read)?;
        Ok((extracted?, digest))
    })
}

/// Hands the blocks of a stream to all receivers, until its end or until one of them has gone.
fn read_blocks(
    archive: &mut dyn Read,
    empty: &mpsc::Receiver<Block>,
    receivers: &[mpsc::SyncSender<Arc<Block>>],
) -> std::io::Result<()> {
    let mut made = 0;
    let mut kept = None;
    loop {
        // Warm blocks first: pages that were never touched are slow.
        let mut block = match kept.take().or_else(|| empty.try_recv().ok()) {
            Some(block) => block,
            None if made < 2 * BLOCKS => {
                made += 1;
                Block::new()
            }
            None => match empty.recv() {
                Ok(block) => block,
                Err(_) => return Ok(()),
            },
        };
        block.clear();
        block.fill_from(archive)?;
        if block.filled().is_empty() {
            return Ok(());
        }
        let block = Arc::new(block);
        for receiver in receivers {
            if receiver.send(Arc::clone(&block)).is_err() {
                return Ok(());
            }
        }
        // Where the receivers were faster, this is the last one who holds the block.
        kept = Arc::into_inner(block);
    }
}

/// Gives a block back for reuse, once nobody else reads it.
fn return_block(block: Arc<Block>, give_back: &mpsc::Sender<Block>) {
    if let Some(block) = Arc::into_inner(block) {
        // The reader has gone: nobody needs the block.
        let _ = give_back.send(block);
    }
}

/// Reads the blocks that another thread sends.
struct BlockReader {
    blocks: mpsc::Receiver<Arc<Block>>,
    block: Option<Arc<Block>>,
    position: usize,
    give_back: mpsc::Sender<Block>,
}

impl Read for BlockReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(block) = &self.block {
                let rest = block.filled().get(self.position..).unwrap_or_default();
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.position += count;
                    return Ok(count);
                }
            }
            if let Some(block) = self.block.take() {
                return_block(block, &self.give_back);
            }
            self.position = 0;
            match self.blocks.recv() {
                Ok(block) => self.block = Some(block),
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers that were done before the one who fills the blocks let go used to lose them, until none was left.
    #[test]
    fn blocks_that_all_receivers_let_go_first_are_not_lost() {
        let (give_back, empty) = mpsc::channel();
        let channels = [mpsc::sync_channel(0), mpsc::sync_channel(0)];
        let [(one, for_one), (two, for_two)] = channels;
        let count = |blocks: mpsc::Receiver<Arc<Block>>, give_back: mpsc::Sender<Block>| {
            move || blocks.into_iter().map(|block| return_block(block, &give_back)).count()
        };
        std::thread::scope(|scope| {
            let counts = [scope.spawn(count(for_one, give_back.clone())), scope.spawn(count(for_two, give_back))];
            let mut archive = std::io::repeat(0).take(300 << 20);
            read_blocks(&mut archive, &empty, &[one, two]).unwrap();
            assert_eq!(counts.map(|count| count.join().unwrap()), [300, 300]);
        });
    }
}
