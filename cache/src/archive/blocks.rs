//! A stream in blocks of one fixed size, filled in place and handed on.

use std::io::{self, Read};

/// The size of a block: 1 MiB, still in the processor's cache when it is hashed.
pub(crate) const BLOCK: usize = 1 << 20;

/// A block, filled from its start.
pub(crate) struct Block {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Block {
    /// An empty block.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BLOCK].into_boxed_slice(), filled: 0 }
    }

    /// What it holds.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Whether it has no room left.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == BLOCK
    }

    /// Empties it for reuse.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Takes in as many of these bytes as there is room for, and yields the others.
    pub(crate) fn put<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = &mut self.bytes[self.filled..];
        let (now, later) = bytes.split_at(room.len().min(bytes.len()));
        room[..now.len()].copy_from_slice(now);
        self.filled += now.len();
        later
    }

    /// Fills it from a stream as far as that goes.
    pub(crate) fn fill_from(&mut self, input: &mut dyn Read) -> io::Result<()> {
        while self.filled < BLOCK {
            match input.read(&mut self.bytes[self.filled..]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Fills blocks, and hands each full one on for an empty one.
pub(crate) struct Blocks<F> {
    block: Block,
    pass_on: F,
}

impl<F: FnMut(Block) -> io::Result<Block>> Blocks<F> {
    /// `pass_on` takes a filled block, always a full one but for the last, and gives one to fill next.
    pub(crate) fn new(pass_on: F) -> Self {
        Self { block: Block::new(), pass_on }
    }

    /// Takes in these bytes.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.make_room()?;
            bytes = self.block.put(bytes);
        }
        Ok(())
    }

    /// Takes in `count` bytes of a stream, showing each piece to `look`. Tells how many there were.
    pub(crate) fn put_from(
        &mut self,
        mut input: impl Read,
        count: u64,
        mut look: impl FnMut(&[u8]),
    ) -> io::Result<u64> {
        let mut done = 0;
        while done < count {
            self.make_room()?;
            let room = &mut self.block.bytes[self.block.filled..];
            let most = room.len().min(usize::try_from(count - done).unwrap_or(usize::MAX));
            let got = match input.read(&mut room[..most]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            look(&room[..got]);
            self.block.filled += got;
            done += got as u64;
        }
        Ok(done)
    }

    /// Hands on what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.block.filled > 0 {
            (self.pass_on)(self.block)?;
        }
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.block.filled == BLOCK {
            let full = std::mem::replace(&mut self.block, Block { bytes: Box::default(), filled: 0 });
            self.block = (self.pass_on)(full)?;
            self.block.clear();
        }
        Ok(())
    }
}
