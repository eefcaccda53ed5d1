//! A blob on its way from a registry, with somebody watching.

use std::io::{self, Read};
use std::sync::Arc;

use crate::spec::Descriptor;
use crate::transfer::{Direction, Transfer, Watcher};

/// Tells how much has been read, and whether it was all in the end.
pub(super) struct Watched<R> {
    inner: R,
    watcher: Arc<dyn Watcher>,
    transfer: Transfer,
    read: u64,
}

impl<R: Read> Watched<R> {
    pub(super) fn new(inner: R, blob: &Descriptor, watcher: &Arc<dyn Watcher>) -> Self {
        let transfer = Transfer { direction: Direction::Pull, digest: blob.digest, size: blob.size };
        watcher.started(&transfer);
        Self { inner, watcher: watcher.clone(), transfer, read: 0 }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        self.watcher.moved(&self.transfer, self.read);
        Ok(count)
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        self.watcher.ended(&self.transfer, self.read == self.transfer.size);
    }
}
