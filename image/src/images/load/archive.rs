//! An archive of images as a file in which its members are known by name.
//!
//! What is compressed, or comes through a pipe, is first written to a file of the store's; its size is bounded by what
//! the disk has room for. Members are then read where they lie, so nothing is copied twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use kiln_cache::{ArchiveReader, MemberKind, Scratch, Store};
use kiln_solver::{Cancel, Digest};

use crate::ImageError;

const BUFFER: usize = 256 << 10;
/// The most that undoing xz may take, enough for `xz -9`.
const XZ_MEMORY: u64 = 80 << 20;
/// How many links a name may lead through.
const LONGEST_CHAIN: usize = 8;

/// Where an archive is read from.
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// A stream.
    Stream(&'a mut (dyn Read + Send)),
}

/// An archive whose members are known.
pub(super) struct Archive {
    file: Arc<File>,
    /// What it is called in errors.
    name: String,
    members: BTreeMap<String, Place>,
    /// Holds the file where it is one of our own.
    _scratch: Option<Scratch>,
}

/// What a member holds, read where it lies.
pub(super) struct Content {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At this offset, with this size, in bytes.
    Content(u64, u64),
    /// Where this other one is.
    Link(String),
}

impl Archive {
    /// Looks through an archive.
    pub(super) fn open(store: &Store, source: Source<'_>, cancel: &Cancel) -> Result<Self, ImageError> {
        let (file, name, scratch) = match source {
            Source::Stream(stream) => {
                let (file, scratch) = spool(store, BufReader::with_capacity(BUFFER, stream), "standard input", cancel)?;
                (file, "standard input".to_owned(), Some(scratch))
            }
            Source::File(path) => {
                let open = || File::open(path).map_err(ImageError::io("open", path));
                let name = path.display().to_string();
                let mut first = BufReader::with_capacity(BUFFER, open()?);
                let is_plain = first.get_ref().metadata().is_ok_and(|metadata| metadata.is_file());
                let start = first.fill_buf().map_err(ImageError::io("read", path))?;
                match is_plain && compression(start).is_none() {
                    true => (open()?, name, None),
                    false => {
                        let (file, scratch) = spool(store, first, &name, cancel)?;
                        (file, name, Some(scratch))
                    }
                }
            }
        };
        let members = members(store, &file, &name, cancel)?;
        Ok(Self { file: Arc::new(file), name, members, _scratch: scratch })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is such a member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// The size of a member, in bytes.
    pub(super) fn size(&self, name: &str) -> Result<u64, ImageError> {
        Ok(self.find(name)?.1)
    }

    /// A member, to be read.
    pub(super) fn member(&self, name: &str) -> Result<Content, ImageError> {
        let (offset, left) = self.find(name)?;
        Ok(Content { file: Arc::clone(&self.file), offset, left })
    }

    /// The bytes of a member that is a document.
    pub(super) fn document(&self, name: &str, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
        if self.size(name)? > limit {
            return Err(ImageError::TooLarge { what, name: self.name.clone(), limit });
        }
        let mut bytes = Vec::new();
        self.member(name)?.read_to_end(&mut bytes).map_err(ImageError::io("read", &self.name))?;
        Ok(bytes)
    }

    /// The digest of a member.
    pub(super) fn digest(&self, name: &str, cancel: &Cancel) -> Result<Digest, ImageError> {
        let mut member = self.member(name)?;
        let mut hasher = kiln_solver::Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            if cancel.is_requested() {
                return Err(ImageError::Cancelled);
            }
            match member.read(&mut buffer).map_err(ImageError::io("read", &self.name))? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// An error about it.
    pub(super) fn refused(&self, reason: impl Into<String>) -> ImageError {
        ImageError::ImageArchive { name: self.name.clone(), reason: reason.into() }
    }

    fn find(&self, name: &str) -> Result<(u64, u64), ImageError> {
        self.place(name).ok_or_else(|| self.refused(format!("it has no `{}`", name.escape_debug())))
    }

    fn place(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal(name.as_bytes(), "")?;
        for _ in 0..LONGEST_CHAIN {
            match self.members.get(&name)? {
                Place::Content(offset, size) => return Some((*offset, *size)),
                Place::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// A path without `.` and `..`, as seen from a directory; none where it leads out, or is not UTF-8: no archive of
/// images has such names.
fn normal(path: &[u8], directory: &str) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The members of an uncompressed archive; of several with one name the last counts.
fn members(store: &Store, file: &File, name: &str, cancel: &Cancel) -> Result<BTreeMap<String, Place>, ImageError> {
    let mut allowance = store.allowance()?;
    let refused = |reason: String| ImageError::ImageArchive { name: name.to_owned(), reason };
    let position = Rc::new(Cell::new(0));
    let bytes = BufReader::with_capacity(BUFFER, file);
    let mut reader = ArchiveReader::new(Counted { bytes, position: Rc::clone(&position), cancel });
    let mut members = BTreeMap::new();
    loop {
        let member = match reader.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(members),
            Err(_) if cancel.is_requested() => return Err(ImageError::Cancelled),
            Err(error) => return Err(refused(error.to_string())),
        };
        allowance.take(&member).map_err(|error| refused(error.to_string()))?;
        let Some(path) = normal(&member.path, "") else { continue };
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let place = match member.kind {
            MemberKind::File => Some(Place::Content(position.get(), member.size)),
            // The archives of docker before 25 have links for layers that several images share.
            MemberKind::Symlink => normal(&member.target, directory).map(Place::Link),
            MemberKind::HardLink => normal(&member.target, "").map(Place::Link),
            _ => None,
        };
        members.extend(place.map(|place| (path, place)));
    }
}

/// Counts what was read.
struct Counted<'a> {
    bytes: BufReader<&'a File>,
    position: Rc<Cell<u64>>,
    cancel: &'a Cancel,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.bytes.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

/// How archives are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

fn compression(start: &[u8]) -> Option<Packed> {
    match start {
        [0x1f, 0x8b, 8, ..] => Some(Packed::Gzip),
        [b'B', b'Z', b'h', ..] => Some(Packed::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packed::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packed::Zstd),
        _ => None,
    }
}

/// Writes a stream to a file without a name that anybody knows, and undoes its compression on the way.
fn spool<R: Read>(
    store: &Store,
    mut input: BufReader<R>,
    name: &str,
    cancel: &Cancel,
) -> Result<(File, Scratch), ImageError> {
    let read = |error: io::Error| ImageError::io("read", name)(error);
    let start = input.fill_buf().map_err(read)?;
    let mut stream: Box<dyn Read + '_> = match compression(start) {
        None => Box::new(input),
        Some(Packed::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Some(Packed::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Some(Packed::Zstd) => Box::new(zstd::Decoder::with_buffer(input).map_err(read)?),
        Some(Packed::Xz) => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            let decoder = decoder.map_err(|error| read(io::Error::other(error)))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, decoder))
        }
    };
    let scratch = store.scratch()?;
    let path = scratch.path().join("archive.tar");
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let mut file = file.map_err(ImageError::io("create", &path))?;
    let mut left = store.allowance()?.bytes();
    let mut buffer = vec![0; BUFFER];
    loop {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read(error)),
        };
        left = left.checked_sub(count as u64).ok_or_else(|| ImageError::ImageArchive {
            name: name.to_owned(),
            reason: "it is larger than the disk has room for, or than `max-size` of `[archives]` in kiln.toml"
                .to_owned(),
        })?;
        file.write_all(&buffer[..count]).map_err(ImageError::io("write", &path))?;
    }
    file.rewind().map_err(ImageError::io("read", &path))?;
    Ok((file, scratch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        for (path, directory, expected) in [
            ("a/b", "", Some("a/b")),
            ("./a//b/", "", Some("a/b")),
            ("../x/layer.tar", "y", Some("x/layer.tar")),
            ("../../x", "y", None),
            ("/a", "", Some("a")),
        ] {
            assert_eq!(normal(path.as_bytes(), directory).as_deref(), expected, "{path}");
        }
        assert_eq!(normal(b"\xff", ""), None);
    }
}
