//! What the steps of a build printed, in the order in which it came.
//!
//! ```text
//! kiln-log1\n                                    then, again and again:
//! step u32 · stream u8 · time u64 · length u32   little endian; 1 is stdout, 2 stderr; nanoseconds since the build
//! bytes                                          began
//! ```
//!
//! A process that is killed may leave a part of the last chunk, which is passed over.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use kiln_solver::LogStream;

use crate::StoreError;

const MAGIC: &[u8] = b"kiln-log1\n";
const HEADER: usize = 17;
/// More than this at once is written as several chunks, so that whoever reads needs no more memory.
const LARGEST: usize = 1 << 20;

/// What was printed at once.
pub(super) struct Chunk {
    pub(super) step: usize,
    pub(super) stream: LogStream,
    pub(super) time: u64,
    pub(super) bytes: Vec<u8>,
}

/// Writes a log, which is begun with the first chunk.
pub(super) struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join("log"), file: None, buffer: Vec::new() }
    }

    /// Puts a chunk behind what is there, in one write.
    pub(super) fn write(&mut self, step: usize, stream: LogStream, time: u64, bytes: &[u8]) -> Result<(), StoreError> {
        for part in bytes.chunks(LARGEST) {
            self.write_part(step, stream, time, part).map_err(StoreError::io("write", &self.path))?;
        }
        Ok(())
    }

    fn write_part(&mut self, step: usize, stream: LogStream, time: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.buffer.extend_from_slice(MAGIC);
                none.insert(File::create_new(&self.path)?)
            }
        };
        let stream: u8 = match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        let too_large = |_| io::Error::from(ErrorKind::FileTooLarge);
        self.buffer.extend_from_slice(&u32::try_from(step).map_err(too_large)?.to_le_bytes());
        self.buffer.push(stream);
        self.buffer.extend_from_slice(&time.to_le_bytes());
        self.buffer.extend_from_slice(&u32::try_from(bytes.len()).map_err(too_large)?.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        file.write_all(&self.buffer)
    }
}

/// Reads a log.
pub(super) struct LogReader {
    path: PathBuf,
    file: BufReader<File>,
}

impl LogReader {
    /// The log of a build; `None` where nothing was printed.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join("log");
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::io("open", &path))?,
        };
        let mut reader = Self { path, file: BufReader::with_capacity(256 << 10, file) };
        let mut magic = [0; MAGIC.len()];
        Ok((reader.fill(&mut magic)? && magic == MAGIC).then_some(reader))
    }

    /// The next chunk; `None` at the end, or where the log makes no sense any more.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, StoreError> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let [s0, s1, s2, s3, stream, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let stream = match stream {
            1 => LogStream::Stdout,
            2 => LogStream::Stderr,
            _ => return Ok(None),
        };
        if length > LARGEST {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        let chunk = self.fill(&mut bytes)?.then(|| Chunk {
            step: u32::from_le_bytes([s0, s1, s2, s3]) as usize,
            stream,
            time: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            bytes,
        });
        Ok(chunk)
    }

    /// Fills a buffer; `false` where the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, StoreError> {
        match self.file.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }
}
