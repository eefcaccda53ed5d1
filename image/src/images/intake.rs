//! The compressed bytes of a layer on their way in: stored as a blob and handed to the unpacker in one pass.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::PoisonError;

use kiln_cache::{ArchiveError, BlobWriter, Compression, StoreError};
use kiln_solver::{Cancel, Digest};

use crate::ImageError;
use crate::registry::Failure;
use crate::spec::Descriptor;

const DRAIN: usize = 64 << 10;
/// As many first bytes as tell a compression.
const MAGIC: usize = 4;

/// Reads a blob and writes a copy of it into the store.
pub(super) struct Intake {
    bytes: Box<dyn Read>,
    /// None once the blob is verified and in the store, or has turned out to be wrong.
    writer: Option<BlobWriter>,
    digest: Digest,
    size: u64,
    received: u64,
    first: Vec<u8>,
    source: String,
    failure: Failure,
    cancel: Cancel,
}

/// An intake that the unpacker reads from while others look after its end.
#[derive(Clone)]
pub(super) struct Shared(Rc<RefCell<Intake>>);

/// An archive that ends well only if the blob it came from is verified.
pub(super) struct Verified<'a> {
    archive: Box<dyn Read + 'a>,
    intake: Shared,
}

impl Intake {
    pub(super) fn new(
        bytes: Box<dyn Read>,
        writer: BlobWriter,
        blob: &Descriptor,
        source: String,
        failure: Failure,
        cancel: Cancel,
    ) -> Self {
        let (digest, size) = (blob.digest, blob.size);
        Self { bytes, writer: Some(writer), digest, size, received: 0, first: Vec::new(), source, failure, cancel }
    }

    fn take_in(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            return Err(self.fail(ImageError::Cancelled));
        }
        let count = self.bytes.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        let wanted = MAGIC.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
        self.received += count as u64;
        if self.received > self.size {
            let (digest, source_name) = (self.digest, self.source.clone());
            let (expected, found) = (self.size, self.received);
            return Err(self.fail(ImageError::WrongSize { what: "blob", source_name, digest, expected, found }));
        }
        let written = self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(bytes));
        let path = PathBuf::from("blobs");
        written.map_err(|source| self.fail(ImageError::Io { action: "write to the store's", path, source }))?;
        Ok(count)
    }

    /// Reads what the unpacker left and puts the blob into the store, if it is the right one.
    fn finish(&mut self) -> io::Result<()> {
        if self.writer.is_none() {
            return Ok(());
        }
        let mut rest = vec![0; DRAIN];
        loop {
            match self.take_in(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let error = match writer.commit(Some((self.digest, self.size))) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let (what, source_name) = ("blob", self.source.clone());
        Err(self.fail(match error {
            StoreError::WrongDigest { expected, found, .. } => {
                ImageError::WrongDigest { what, source_name, expected, found }
            }
            StoreError::WrongSize { digest, expected, found } => {
                ImageError::WrongSize { what, source_name, digest, expected, found }
            }
            other => other.into(),
        }))
    }

    /// Keeps the reason and gives an error to stop the unpacker with.
    fn fail(&mut self, error: ImageError) -> io::Error {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other(text)
    }

    fn reason(&self) -> Option<ImageError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    pub(super) fn new(intake: Intake) -> Self {
        Self(Rc::new(RefCell::new(intake)))
    }

    /// Reads the rest and stores the blob.
    pub(super) fn finish(&self) -> Result<(), ImageError> {
        let mut intake = self.0.borrow_mut();
        let finished = intake.finish();
        let path = PathBuf::from(&intake.source);
        finished.map_err(|source| intake.reason().unwrap_or(ImageError::Io { action: "read", path, source }))
    }

    /// What the first bytes say.
    pub(super) fn compression(&self) -> Compression {
        Compression::of_stream(&self.0.borrow().first)
    }

    /// The real reason why unpacking failed: what stopped the bytes, or else that they are the wrong ones, or
    /// else what the unpacker says.
    pub(super) fn explain(&self, error: StoreError, other: impl FnOnce(StoreError) -> ImageError) -> ImageError {
        let mut intake = self.0.borrow_mut();
        if let Some(reason) = intake.reason() {
            return reason;
        }
        let may_be_wrong = match &error {
            StoreError::WrongDigest { .. } => true,
            StoreError::Archive(error) => !matches!(error, ArchiveError::Unpack { .. }),
            _ => false,
        };
        if may_be_wrong && intake.finish().is_err() {
            return intake.reason().unwrap_or_else(|| other(error));
        }
        other(error)
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().take_in(buffer)
    }
}

impl<'a> Verified<'a> {
    pub(super) fn new(archive: Box<dyn Read + 'a>, intake: Shared) -> Self {
        Self { archive, intake }
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.archive.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.intake.0.borrow_mut().finish()?;
        }
        Ok(count)
    }
}
