//! Archives of `ADD`: found out by their first bytes, unpacked into a plan. Nothing in an archive can reach
//! outside of the directory that it is unpacked in: its links are followed as if that were the root.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, Write};
use std::path::PathBuf;

use kiln_cache::{Allowance, ArchiveReader, Member, MemberKind, Store, is_hole};
use kiln_solver::{Cancel, Digest, Hasher};

use super::error::UnpackError;
use super::plan::{Ids, Plan, Shared, What};
use super::tree::{Bytes, Origin};
use super::{FileError, Kind, Metadata, attributes};
use crate::paths::{self, Seen};

const CHUNK: usize = 256 * 1024;

/// No system call takes a longer path (`PATH_MAX`, without the NUL), and a plan has each directory on the way by its
/// whole path: what is much longer would take all memory.
const LONGEST_PATH: usize = 4095;

/// Whether a file is a tar archive, compressed or not, with something in it.
pub(crate) fn is_archive(bytes: &Bytes) -> Result<bool, FileError> {
    let mut file = BufReader::new(bytes.open()?);
    let Ok(stream) = decompress(&mut file) else { return Ok(false) };
    Ok(matches!(ArchiveReader::new(stream).next_member(), Ok(Some(_))))
}

/// A file of our own that may be an archive.
pub(crate) struct Archive(Bytes);

impl Archive {
    /// The file at this path, with what it is known to hold.
    pub(crate) fn new(path: PathBuf, digest: Digest, size: u64) -> Self {
        Self(Bytes { origin: Origin::Scratch(path), digest, size })
    }

    /// Whether it is one.
    pub(crate) fn is_one(&self) -> Result<bool, FileError> {
        is_archive(&self.0)
    }
}

/// Plans what an archive holds, as a tree of its own.
pub(crate) fn unpack_all(
    plan: &mut Plan,
    archive: &Archive,
    name: &str,
    store: &Store,
    cancel: &Cancel,
) -> Result<(), FileError> {
    unpack(plan, b"", &archive.0, name, None, store, cancel)
}

/// Undoes whatever compression the first bytes tell of.
fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = input.fill_buf()?;
    Ok(if start.starts_with(b"\x1f\x8b\x08") {
        Box::new(flate2::bufread::MultiGzDecoder::new(input))
    } else if start.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(input))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Box::new(Asked(zstd::Decoder::with_buffer(input)?))
    } else {
        Box::new(input)
    })
}

/// Answers requests for no bytes at all by itself: the Zstandard decoder takes them for a fault.
struct Asked<R>(R);

impl<R: Read> Read for Asked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() { Ok(0) } else { self.0.read(buffer) }
    }
}

/// Plans what an archive holds, below a directory that is there.
pub(crate) fn unpack(
    plan: &mut Plan,
    directory: &[u8],
    archive: &Bytes,
    name: &str,
    owner: Option<Ids>,
    store: &Store,
    cancel: &Cancel,
) -> Result<(), FileError> {
    let mut input = BufReader::with_capacity(CHUNK, Hashing { file: archive.open()?, hasher: Hasher::new(), size: 0 });
    let allowance = store.allowance()?;
    let mut unpacker = Unpacker { plan, directory, owner, store, name, allowance, buffer: vec![0; CHUNK] };
    unpacker.all(&mut input, cancel)?;
    let failed = |source: io::Error| FileError::Unpack { archive: name.to_owned(), reason: source.into() };
    io::copy(&mut input, &mut io::sink()).map_err(failed)?;
    let Hashing { hasher, size, .. } = input.into_inner();
    if (hasher.finish(), size) != (archive.digest, archive.size) {
        return Err(FileError::Changed { path: name.to_owned() });
    }
    Ok(())
}

/// Hashes what passes by.
struct Hashing {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

struct Unpacker<'a> {
    plan: &'a mut Plan,
    directory: &'a [u8],
    owner: Option<Ids>,
    store: &'a Store,
    name: &'a str,
    allowance: Allowance,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn all(&mut self, input: impl BufRead, cancel: &Cancel) -> Result<(), FileError> {
        let stream = decompress(input).map_err(|source| self.failed(source))?;
        let mut archive = ArchiveReader::new(stream);
        while let Some(member) = archive.next_member().map_err(|error| self.failed(error))? {
            if cancel.is_requested() {
                return Err(FileError::Cancelled);
            }
            self.allowance.take(&member).map_err(|error| self.failed(error))?;
            self.member(&member, &mut archive)?;
        }
        archive.finish().map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn failed(&self, reason: impl Into<UnpackError>) -> FileError {
        FileError::Unpack { archive: self.name.to_owned(), reason: reason.into() }
    }

    fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), FileError> {
        let Some(path) = self.place(&member.path)? else { return Ok(()) };
        self.make_directories(paths::parent(&path), &member.path)?;
        let metadata = self.metadata(member);
        if member.kind == MemberKind::Directory && self.plan.seen(&path) == Some(Seen::Directory) {
            return self.plan.merge(&path, metadata, true);
        }
        // Read before anything makes way: the link may lead to the file that it replaces.
        let (what, metadata) = match member.kind {
            MemberKind::Directory => (What::Directory { fresh: true, opaque: false }, metadata),
            MemberKind::Symlink => (What::Symlink(member.target.clone()), metadata),
            MemberKind::Fifo => (What::Special(Kind::Fifo, member.device), metadata),
            MemberKind::CharDevice => (What::Special(Kind::CharDevice, member.device), metadata),
            MemberKind::BlockDevice => (What::Special(Kind::BlockDevice, member.device), metadata),
            MemberKind::File => (What::File { bytes: self.file(content)?, twin: None }, metadata),
            MemberKind::HardLink => match self.linked(&path, member)? {
                Some(linked) => linked,
                None => return Ok(()),
            },
        };
        if self.plan.seen(&path).is_some() {
            self.plan.remove(&path)?;
        }
        self.plan.put(path, what, metadata)
    }

    /// Makes the directories that a member needs and the archive does not name.
    fn make_directories(&mut self, path: &[u8], member: &[u8]) -> Result<(), FileError> {
        let mut is_new = false;
        for directory in paths::ancestors(path).chain([path]) {
            is_new = is_new || self.plan.seen(directory).is_none();
            if is_new {
                self.allowance.take_directory(member, directory.len()).map_err(|error| self.failed(error))?;
            }
        }
        self.plan.make_directories(path, 0o755, self.owner.unwrap_or_default())
    }

    /// Where a member goes; nowhere if it is the directory itself.
    fn place(&self, written: &[u8]) -> Result<Option<Vec<u8>>, FileError> {
        let mut depth = 0_usize;
        for component in written.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." if depth == 0 => {
                    let path = written.to_vec();
                    let reason = "it leads out of the directory that the archive is unpacked in";
                    return Err(self.failed(kiln_cache::ArchiveError::Refused { path, reason }));
                }
                b".." => depth -= 1,
                _ => depth += 1,
            }
        }
        let cleaned = paths::clean(written);
        if cleaned.is_empty() {
            return Ok(None);
        }
        if cleaned.len() > LONGEST_PATH {
            let reason = "its name is too long";
            return Err(self.failed(kiln_cache::ArchiveError::Refused { path: written.to_vec(), reason }));
        }
        let parent = self.plan.resolve_below(self.directory, paths::parent(&cleaned))?;
        Ok(Some(paths::join(&parent, paths::name(&cleaned))))
    }

    fn metadata(&self, member: &Member) -> Metadata {
        let Ids { uid, gid } = self.owner.unwrap_or(Ids { uid: member.uid, gid: member.gid });
        let counted = member.xattrs.iter().filter(|(name, _)| attributes::counts(name));
        Metadata { mode: member.mode, uid, gid, modified: member.mtime, attributes: counted.cloned().collect() }
    }

    /// The content of a member, put aside.
    fn file(&mut self, content: &mut dyn Read) -> Result<Bytes, FileError> {
        let path = self.plan.scratch_file(self.store)?;
        let failed = |source: io::Error| FileError::Scratch { action: "write", path: path.clone(), source };
        let mut file = File::create_new(&path).map_err(failed)?;
        let (mut size, mut ends_in_hole) = (0, false);
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            let bytes = &self.buffer[..count];
            ends_in_hole = is_hole(bytes);
            if ends_in_hole {
                file.seek_relative(count as i64).map_err(failed)?;
            } else {
                file.write_all(bytes).map_err(failed)?;
            }
            size += count as u64;
        }
        if ends_in_hole {
            file.set_len(size).map_err(failed)?;
        }
        // Its bytes are nobody else's and are moved, not read again: no digest is needed.
        Ok(Bytes { origin: Origin::Scratch(path), digest: Digest::from_bytes([0; 32]), size })
    }

    /// What a hard link shares; nothing if it is linked to itself.
    fn linked(&mut self, path: &[u8], member: &Member) -> Result<Option<(What, Metadata)>, FileError> {
        let missing = || UnpackError::HardLink {
            link: String::from_utf8_lossy(&member.path).into_owned(),
            target: String::from_utf8_lossy(&member.target).into_owned(),
        };
        let target = self.place(&member.target)?.ok_or_else(|| self.failed(missing()))?;
        if target == path {
            return Ok(None);
        }
        if let Some(Shared { bytes, twin, metadata }) = self.plan.share(&target)? {
            return Ok(Some((What::File { bytes, twin: Some(twin) }, metadata)));
        }
        self.plan.again(&target).map(Some).ok_or_else(|| self.failed(missing()))
    }
}
