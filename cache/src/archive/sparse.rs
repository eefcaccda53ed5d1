//! Sparse files as GNU tar writes them: only the parts with data are in the archive.

use super::number;

/// A part of a sparse file that has data in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where in the file.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) length: u64,
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
