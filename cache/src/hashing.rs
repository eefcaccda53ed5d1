//! A digest that is made on a thread of its own, beside the reading or writing of what it is of.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use kiln_solver::{Digest, Hasher};

use crate::StoreError;
use crate::archive::Block;

/// How many blocks are on their way to the thread.
const BLOCKS: usize = 4;

/// The digest of a stream that comes in blocks. One that does not fill a block is not worth a thread. Dropped, it leaves
/// the thread to come to its end.
#[derive(Default)]
pub(crate) struct Hashing {
    small: Hasher,
    thread: Option<HashingThread>,
}

/// A thread that hashes blocks and gives them back.
struct HashingThread {
    to_hasher: mpsc::SyncSender<Block>,
    empty: mpsc::Receiver<Block>,
    /// How many blocks there are.
    made: usize,
    digest: JoinHandle<Digest>,
}

impl Hashing {
    /// Takes a block, full unless it is the last, and yields one to fill next.
    pub(crate) fn take(&mut self, mut block: Block) -> io::Result<Block> {
        if self.thread.is_none() && !block.is_full() {
            self.small.update(block.filled());
            block.clear();
            return Ok(block);
        }
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => HashingThread::start()?,
        };
        self.thread.insert(thread).take(block)
    }

    /// The digest of all blocks.
    pub(crate) fn finish(self) -> Result<Digest, StoreError> {
        let Some(HashingThread { to_hasher, digest, .. }) = self.thread else { return Ok(self.small.finish()) };
        drop(to_hasher);
        digest.join().map_err(|_| StoreError::Thread("go on: a thread that hashed died"))
    }
}

impl HashingThread {
    fn start() -> io::Result<Self> {
        let (to_hasher, full) = mpsc::sync_channel::<Block>(BLOCKS);
        let (give_back, empty) = mpsc::channel();
        let digest = std::thread::Builder::new().spawn(move || {
            let mut hasher = Hasher::new();
            for block in full {
                hasher.update(block.filled());
                // Nobody needs more blocks when the stream has ended.
                let _ = give_back.send(block);
            }
            hasher.finish()
        })?;
        Ok(Self { to_hasher, empty, made: 1, digest })
    }

    fn take(&mut self, block: Block) -> io::Result<Block> {
        let gone = || io::Error::other("the thread that hashes died");
        self.to_hasher.send(block).map_err(|_| gone())?;
        match self.empty.try_recv() {
            Ok(block) => Ok(block),
            Err(_) if self.made < BLOCKS => {
                self.made += 1;
                Ok(Block::new())
            }
            Err(_) => self.empty.recv().map_err(|_| gone()),
        }
    }
}
