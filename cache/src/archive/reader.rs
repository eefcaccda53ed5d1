//! Reads tar archives that nobody vouches for.

use std::io::{self, Read};

use super::pax::Extensions;
use super::sparse::Map;
use super::{ArchiveError, number};
use crate::index::{Device, Timestamp};

/// What a member of an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link to an earlier member.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One member of an archive, as it is written there: nothing about it has been checked but its form.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path, as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many bytes of content it has.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Timestamp,
    /// The number of a device.
    pub device: Device,
    /// Where a link points to.
    pub target: Vec<u8>,
    /// Extended attributes (`SCHILY.xattr.*`), sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The longest PAX header and long name that is read, as Go's archive/tar has it.
const LONGEST_HEADER: u64 = 1 << 20;
/// The most that all headers before one member may have together.
const LONGEST_HEADERS: u64 = 4 * LONGEST_HEADER;

/// Reads an uncompressed archive (old, ustar, star, GNU or PAX headers, sparse files), member by member, from any
/// stream. Reading from it gives the content of the current member. Global PAX headers are passed over, as Docker
/// does.
pub struct ArchiveReader<R> {
    input: R,
    /// How many bytes have been read.
    offset: u64,
    /// How many bytes of the current member are still to come in the stream.
    left: u64,
    /// How many bytes are behind them to the next header.
    padding: u64,
    /// For a sparse file, where its data belong.
    sparse: Option<Unfold>,
    ended: bool,
}

/// Puts the holes of a sparse file back.
struct Unfold {
    map: Map,
    size: u64,
    position: u64,
    part: usize,
}

impl<R: Read> ArchiveReader<R> {
    /// A reader at the start of an archive.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, left: 0, padding: 0, sparse: None, ended: false }
    }

    /// The next member, past what is left of the one before.
    ///
    /// # Errors
    /// When the stream fails or is no archive.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut extensions = Extensions::default();
        let mut headers = 0_u64;
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else { return Ok(None) };
            let bytes = header.as_bytes();
            let stored = self.number(&bytes[124..136])?;
            let stored = u64::try_from(stored).map_err(|_| self.malformed("a size is negative"))?;
            if matches!(bytes[156], b'x' | b'X' | b'L' | b'K') {
                headers = headers.saturating_add(stored);
                if stored <= LONGEST_HEADER && headers > LONGEST_HEADERS {
                    return Err(self.malformed("the extended headers of a member are longer than 4 MiB"));
                }
            }
            match bytes[156] {
                b'x' | b'X' => {
                    let records = self.read_header_content(stored)?;
                    extensions.take(&records).map_err(|reason| self.malformed(reason))?;
                }
                b'L' => extensions.path = Some(until_nul(&self.read_header_content(stored)?).to_vec()),
                b'K' => extensions.target = Some(until_nul(&self.read_header_content(stored)?).to_vec()),
                b'g' | b'V' => self.expect(stored),
                kind => return self.member(bytes, kind, stored, extensions).map(Some),
            }
        }
    }

    /// Whether the mark at the end of the archive has been read: without it, it may have been cut off.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The stream, after reading it to its end.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn finish(mut self) -> Result<R, ArchiveError> {
        io::copy(&mut self.input, &mut io::sink())?;
        Ok(self.input)
    }

    /// Reads the stream to its end, which has to come within so many bytes.
    pub(crate) fn finish_within(mut self, most: u64) -> Result<(), ArchiveError> {
        let rest = io::copy(&mut self.input.by_ref().take(most.saturating_add(1)), &mut io::sink())?;
        if rest > most { Err(self.malformed("there is much behind its end")) } else { Ok(()) }
    }

    /// The member that this header begins.
    fn member(
        &mut self,
        header: &[u8; 512],
        kind: u8,
        stored: u64,
        extensions: Extensions,
    ) -> Result<Member, ArchiveError> {
        let stored = extensions.size.unwrap_or(stored);
        let mut path = extensions.path.unwrap_or_else(|| path_field(header));
        let kind = match kind {
            b'0' | 0 | b'7' | b'S' if path.ends_with(b"/") && kind != b'S' => MemberKind::Directory,
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Symlink,
            b'3' => MemberKind::CharDevice,
            b'4' => MemberKind::BlockDevice,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            _ => return Err(self.malformed("a member is of an unknown type")),
        };
        // Others have no content whatever their header says, as Go's archive/tar reads them.
        let mut size = if kind == MemberKind::File { stored } else { 0 };
        self.expect(size);
        if kind == MemberKind::File && header[156] == b'S' {
            size = self.begin_old_sparse(header)?;
        } else if let (MemberKind::File, Some(sparse)) = (kind, extensions.sparse) {
            let map = if sparse.map_in_content { self.read_sparse_map()? } else { sparse.map };
            path = sparse.path.unwrap_or(path);
            size = sparse.size.unwrap_or(size);
            self.begin_sparse(map, size)?;
        }
        let (seconds, nanos) = match extensions.mtime {
            Some(mtime) => mtime,
            None => (self.number(&header[136..148])?, 0),
        };
        let is_device = matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice);
        let device = if is_device { self.device(header)? } else { Device::default() };
        let is_link = matches!(kind, MemberKind::Symlink | MemberKind::HardLink);
        let target = extensions.target.unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        if path.contains(&0) || target.contains(&0) || extensions.xattrs.keys().any(|name| name.is_empty()) {
            return Err(self.malformed("a name is empty or has a NUL in it"));
        }
        Ok(Member {
            path,
            kind,
            mode: (self.number(&header[100..108])? & 0o7777) as u32,
            uid: self.owner(extensions.uid, &header[108..116])?,
            gid: self.owner(extensions.gid, &header[116..124])?,
            size,
            mtime: Timestamp { seconds, nanos },
            device,
            target: if is_link { target } else { Vec::new() },
            xattrs: extensions.xattrs.into_iter().collect(),
        })
    }

    /// Begins a content of so many bytes.
    fn expect(&mut self, stored: u64) {
        self.left = stored;
        self.padding = (512 - stored % 512) % 512;
        self.sparse = None;
    }

    fn begin_sparse(&mut self, map: Map, size: u64) -> Result<(), ArchiveError> {
        if !map.fits(size, self.left) {
            return Err(self.malformed("the map of a sparse file does not fit it"));
        }
        self.sparse = Some(Unfold { map, size, position: 0, part: 0 });
        Ok(())
    }

    /// Reads the map of a sparse file in GNU's old format, in its header and blocks behind it.
    fn begin_old_sparse(&mut self, header: &[u8; 512]) -> Result<u64, ArchiveError> {
        let size = self.number(&header[483..495])?;
        let size = u64::try_from(size).map_err(|_| self.malformed("a size is negative"))?;
        let mut map = Map::default();
        let mut more = header[482] != 0;
        let mut fine = map.push_array(&header[386..482]).is_some();
        while more && fine {
            let block = self.read_block()?.ok_or_else(|| self.malformed("it ends within a header"))?;
            more = block[504] != 0;
            fine = map.push_array(&block[..504]).is_some();
        }
        if !fine {
            return Err(self.malformed("the map of a sparse file is malformed"));
        }
        self.begin_sparse(map, size)?;
        Ok(size)
    }

    /// Reads the map of a sparse file in PAX format 1.0: decimal lines in whole blocks before the data.
    fn read_sparse_map(&mut self) -> Result<Map, ArchiveError> {
        let mut map = Map::default();
        let mut line = Vec::new();
        let mut numbers = Vec::new();
        let mut count = None;
        loop {
            let block = self.read_block()?.ok_or_else(|| self.malformed("it ends within a sparse file"))?;
            self.left = self.left.checked_sub(512).ok_or_else(|| self.malformed("a sparse file is too short"))?;
            for byte in block {
                if count.is_some_and(|count| map.parts.len() as u64 == count) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = number::decimal(&line).ok_or_else(|| self.malformed("a sparse map is malformed"))?;
                line.clear();
                match (count, numbers.pop()) {
                    (None, _) => count = Some(number),
                    (Some(_), None) => numbers.push(number),
                    (Some(_), Some(offset)) => {
                        map.push(offset, number).ok_or_else(|| self.malformed("a sparse map is too long"))?;
                    }
                }
            }
            if line.len() > 32 {
                return Err(self.malformed("a sparse map is malformed"));
            }
            if count.is_some_and(|count| map.parts.len() as u64 == count) {
                return Ok(map);
            }
        }
    }

    fn owner(&self, extension: Option<u64>, field: &[u8]) -> Result<u32, ArchiveError> {
        let id = match extension {
            Some(id) => u32::try_from(id).ok(),
            None => u32::try_from(self.number(field)?).ok(),
        };
        // The last one means `no change` to chown(2).
        id.filter(|id| *id != u32::MAX).ok_or_else(|| self.malformed("an owner is out of range"))
    }

    fn device(&self, header: &[u8; 512]) -> Result<Device, ArchiveError> {
        let number = |field| {
            let number = self.number(field)?;
            u32::try_from(number).map_err(|_| self.malformed("a device number is out of range"))
        };
        Ok(Device { major: number(&header[329..337])?, minor: number(&header[337..345])? })
    }

    fn number(&self, field: &[u8]) -> Result<i64, ArchiveError> {
        number::field(field).ok_or_else(|| self.malformed("a number is malformed"))
    }

    /// The next header whose checksum is right. `None` at the end of the archive: two empty blocks, or no more.
    fn next_header(&mut self) -> Result<Option<tar::Header>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block == [0; 512] {
            self.ended = true;
            return match self.read_block()? {
                Some(next) if next != [0; 512] => Err(self.malformed("there is an empty block before its end")),
                _ => Ok(None),
            };
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        if has_checksum(&block) { Ok(Some(header)) } else { Err(self.malformed("a header has a wrong checksum")) }
    }

    /// The content of a header that is about the next member.
    fn read_header_content(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > LONGEST_HEADER {
            return Err(self.malformed("an extended header is longer than 1 MiB"));
        }
        self.expect(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn skip_content(&mut self) -> Result<(), ArchiveError> {
        self.sparse = None;
        let mut buffer = [0; 8192];
        let mut left = self.left.checked_add(self.padding).ok_or_else(|| self.malformed("a size is out of range"))?;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= self.read_some(&mut buffer[..most])? as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// One block; `None` where the stream ends before it.
    fn read_block(&mut self) -> Result<Option<[u8; 512]>, ArchiveError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.malformed("it ends within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += 512;
        Ok(Some(block))
    }

    /// At least one byte of the stream.
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Decompressors take it for a fault if nothing is asked of them.
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a member"));
        }
        self.offset += count as u64;
        Ok(count)
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.read_some(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }

    fn malformed(&self, reason: &'static str) -> ArchiveError {
        ArchiveError::Malformed { offset: self.offset, reason }
    }
}

impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut unfold) = self.sparse.take() else { return self.read_stored(buffer) };
        let result = unfold.read(self, buffer);
        self.sparse = Some(unfold);
        result
    }
}

impl Unfold {
    fn read<R: Read>(&mut self, archive: &mut ArchiveReader<R>, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.parts.get(self.part).is_some_and(|part| part.offset + part.length <= self.position) {
            self.part += 1;
        }
        let (is_data, end) = match self.map.parts.get(self.part) {
            Some(part) if part.offset <= self.position => (true, part.offset + part.length),
            Some(part) => (false, part.offset),
            None => (false, self.size),
        };
        let most = buffer.len().min(usize::try_from(end - self.position).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let count = if is_data {
            archive.read_stored(buffer)?
        } else {
            buffer.fill(0);
            most
        };
        self.position += count as u64;
        Ok(count)
    }
}

/// Whether the sum of all bytes, those of the sum itself taken as spaces, is what the header says. Some old
/// programs added signed bytes.
fn has_checksum(block: &[u8; 512]) -> bool {
    let bytes = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    number::field(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// The path of a header, with the prefix where its format has one.
fn path_field(header: &[u8; 512]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let is_ustar = &header[257..263] == b"ustar\0";
    let prefix = match is_ustar {
        true if &header[508..512] == b"tar\0" => until_nul(&header[345..476]),
        true => until_nul(&header[345..500]),
        false => &[],
    };
    crate::index::join(prefix, name)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}
