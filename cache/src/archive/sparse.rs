//! Sparse files as GNU tar writes them: only the parts with data are in the archive.

use std::fs::File;
use std::io;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::number;

/// A part of a sparse file that has data in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the file.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) length: u64,
}

/// The parts of an open file of this size that have data, where the file system knows of holes between them.
pub(crate) fn parts_with_data(file: &File, size: u64) -> io::Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    let mut end = 0;
    while end < size {
        let offset = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(offset) if offset < size => offset,
            // There are no more.
            Ok(_) | Err(Errno::NXIO) => break,
            // It cannot tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        end = rustix::fs::seek(file, SeekFrom::Hole(offset))?.min(size);
        parts.push(Part { offset, length: end - offset });
        if parts.len() >= MOST_PARTS - 1 {
            return Ok(None);
        }
    }
    let is_whole = parts.iter().map(|part| part.length).sum::<u64>() == size;
    Ok((!is_whole).then_some(parts))
}

/// As many zeros as a file system can leave out.
const SMALLEST_HOLE: usize = 4096;
static ZEROS: [u8; SMALLEST_HOLE] = [0; SMALLEST_HOLE];

/// Whether these bytes of a file need not be written where it is as long as they reach: they are zeros, and many.
pub fn is_hole(bytes: &[u8]) -> bool {
    bytes.len() >= SMALLEST_HOLE && bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The map of a sparse file.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    pub(super) parts: Vec<Part>,
}

/// More parts than this are taken for an attack.
const MOST_PARTS: usize = 1 << 20;

impl Map {
    /// Adds a part.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Option<()> {
        (self.parts.len() < MOST_PARTS).then(|| self.parts.push(Part { offset, length }))
    }

    /// Adds the parts of an array in an old GNU header: offset and length in twelve bytes each, up to the
    /// first that is empty.
    pub(super) fn push_array(&mut self, array: &[u8]) -> Option<()> {
        for pair in array.chunks_exact(24).take_while(|pair| pair[0] != 0) {
            let (offset, length) = (number::field(&pair[..12])?, number::field(&pair[12..])?);
            self.push(u64::try_from(offset).ok()?, u64::try_from(length).ok()?)?;
        }
        Some(())
    }

    /// The parts of a `GNU.sparse.map`: decimal numbers with commas between, offset and length by turns.
    pub(super) fn from_list(list: &[u8]) -> Option<Self> {
        let numbers: Option<Vec<u64>> = list.split(|byte| *byte == b',').map(number::decimal).collect();
        let numbers = numbers?;
        let mut map = Self::default();
        for pair in numbers.chunks(2) {
            map.push(*pair.first()?, *pair.get(1)?)?;
        }
        Some(map)
    }

    /// Whether the parts are in order, lie in a file of this size and have so many bytes together.
    pub(super) fn fits(&self, size: u64, stored: u64) -> bool {
        let mut end = 0;
        let mut total = 0_u64;
        for part in &self.parts {
            let Some(next) = part.offset.checked_add(part.length) else { return false };
            if part.offset < end || next > size {
                return false;
            }
            end = next;
            total += part.length;
        }
        total == stored
    }
}
