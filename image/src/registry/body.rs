//! A blob on its way from a registry: read ahead on its own thread, taken up again where it broke off.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_solver::{Cancel, CancelHook, Digest};
use reqwest::StatusCode;

use super::endpoint::Endpoint;
use super::http::{Response, reason};
use super::interruptible::pause;
use super::{Patience, Registries};
use crate::spec::Descriptor;
use crate::{ImageError, Reference};

const CHUNK: usize = 256 << 10;
/// How many chunks are read ahead.
const AHEAD: usize = 8;
/// How often a blob is taken up again at most, however far each attempt got.
const MOST_RESUMPTIONS: u32 = 20;

/// The bytes of a blob, as many as its descriptor says. The digest is for the reader's user to check.
pub(crate) struct BlobReader {
    /// Asks for the bytes from this one on.
    ask: Box<Ask>,
    /// Who is asked.
    server: String,
    patience: Patience,
    digest: Digest,
    size: u64,
    cancel: Cancel,
    /// How many bytes have been handed on.
    received: u64,
    stream: Stream,
    ended: bool,
    failures_in_a_row: u32,
    resumptions: u32,
    failure: Failure,
}

type Ask = dyn Fn(u64) -> Result<Response, ImageError> + Send;

/// Why a reader failed: an `io::Error` cannot be trusted to come through a decompressor unchanged.
pub(crate) type Failure = Arc<Mutex<Option<ImageError>>>;

/// Chunks that another thread reads from a connection.
struct Stream {
    chunks: Receiver<Event>,
    current: Vec<u8>,
    position: usize,
    /// Bytes to drop first: those that a server sent again although it was asked for the rest alone.
    skip: u64,
    _hook: CancelHook,
}

enum Event {
    Chunk(Vec<u8>),
    Failed(String),
    End,
    Stop,
}

impl BlobReader {
    pub(super) fn open(
        registries: Arc<Registries>,
        endpoint: Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        let (server, patience) = (endpoint.name.clone(), registries.patience().clone());
        let (reference, digest, stop) = (reference.clone(), descriptor.digest, cancel.clone());
        let ask = move |offset| registries.ask_for_blob(&endpoint, &reference, &digest, offset, &stop);
        Self::start(server, patience, descriptor, cancel, Box::new(ask))
    }

    /// Reads from whatever server `ask` asks.
    pub(crate) fn start(
        server: String,
        patience: Patience,
        descriptor: &Descriptor,
        cancel: &Cancel,
        ask: Box<Ask>,
    ) -> Result<Self, ImageError> {
        let stream = Stream::start(ask(0)?, 0, cancel)?;
        Ok(Self {
            ask,
            server,
            patience,
            digest: descriptor.digest,
            size: descriptor.size,
            cancel: cancel.clone(),
            received: 0,
            stream,
            ended: false,
            failures_in_a_row: 0,
            resumptions: 0,
            failure: Failure::default(),
        })
    }

    /// Which registry or mirror the bytes come from.
    pub(crate) fn source(&self) -> &str {
        &self.server
    }

    /// Where the reason of a failure is to be found.
    pub(crate) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    fn fill(&mut self) -> Result<(), ImageError> {
        while self.stream.is_empty() && !self.ended {
            if self.cancel.is_requested() {
                return Err(ImageError::Cancelled);
            }
            match self.stream.chunks.recv() {
                Ok(Event::Chunk(chunk)) => self.stream.take(chunk),
                Ok(Event::Stop) => return Err(ImageError::Cancelled),
                Ok(Event::End | Event::Failed(_)) | Err(_) if self.received == self.size => self.ended = true,
                Ok(Event::End) => self.resume("the connection ended early")?,
                Ok(Event::Failed(reason)) => self.resume(&reason)?,
                Err(_) => self.resume("the connection was lost")?,
            }
        }
        self.failures_in_a_row = 0;
        Ok(())
    }

    /// Asks for the rest.
    fn resume(&mut self, reason: &str) -> Result<(), ImageError> {
        let patience = &self.patience;
        self.failures_in_a_row += 1;
        self.resumptions += 1;
        if self.failures_in_a_row >= patience.attempts || self.resumptions > MOST_RESUMPTIONS {
            return Err(ImageError::Truncated {
                registry: self.server.clone(),
                what: format!("blob `{}` ({reason})", self.digest),
                received: self.received,
                expected: self.size,
            });
        }
        pause(&self.cancel, patience.pause_after(self.failures_in_a_row - 1, None))?;
        let response = (self.ask)(self.received)?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        self.stream = Stream::start(response, if partial { 0 } else { self.received }, &self.cancel)?;
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.fill()?;
        let count = self.stream.copy(buffer);
        self.received += count as u64;
        if self.received > self.size {
            return Err(ImageError::WrongSize {
                what: "blob",
                source_name: self.server.clone(),
                digest: self.digest,
                expected: self.size,
                found: self.received,
            });
        }
        Ok(count)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|error| {
            let text = error.to_string();
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            io::Error::other(text)
        })
    }
}

impl Stream {
    fn start(response: Response, skip: u64, cancel: &Cancel) -> Result<Self, ImageError> {
        let (sender, chunks) = sync_channel(AHEAD);
        let stop = sender.clone();
        // A full channel needs no waking: its reader has something to read and looks at the request then.
        let hook = cancel.on_request(move || {
            let _ = stop.try_send(Event::Stop);
        });
        let mut body = response.into_body();
        std::thread::Builder::new()
            .name("kiln-blob".to_owned())
            .spawn(move || pump(&mut body, &sender))
            .map_err(|_| ImageError::Thread("start a thread for a download"))?;
        Ok(Self { chunks, current: Vec::new(), position: 0, skip, _hook: hook })
    }

    fn is_empty(&self) -> bool {
        self.position >= self.current.len()
    }

    fn take(&mut self, chunk: Vec<u8>) {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        self.position = skipped as usize;
        self.current = chunk;
    }

    fn copy(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.current.get(self.position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        count
    }
}

/// Reads until the end, an error, or nobody listens any more.
fn pump(body: &mut dyn Read, sender: &SyncSender<Event>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let mut filled = 0;
        let end = loop {
            match body.read(&mut chunk[filled..]) {
                Ok(0) => break Some(Event::End),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(Event::Failed(reason(&error))),
            }
            if filled == chunk.len() {
                break None;
            }
        };
        chunk.truncate(filled);
        if filled > 0 && sender.send(Event::Chunk(chunk)).is_err() {
            return;
        }
        if let Some(end) = end {
            let _ = sender.send(end);
            return;
        }
    }
}
