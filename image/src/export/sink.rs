//! Where the files of an exported image go: into a tar archive or a directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kiln_cache::Blob;
use kiln_solver::Cancel;

use super::output::{directory_beside, file_beside};
use crate::ImageError;

const CHUNK: usize = 1 << 20;
const BLOCK: u64 = 512;

/// Takes the files of an image, in order.
pub(crate) trait Sink {
    /// A file that is there already, such as the index of a layout that gets one more image.
    fn existing(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError>;
    /// A directory.
    fn directory(&mut self, name: &str) -> Result<(), ImageError>;
    /// A small file.
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError>;
    /// A blob of the store.
    fn blob(&mut self, name: &str, blob: &Blob, cancel: &Cancel) -> Result<(), ImageError>;
    /// The end.
    fn finish(&mut self) -> Result<(), ImageError>;
}

/// A tar archive: the same files give the same bytes, whoever writes it and when.
pub(super) struct ArchiveSink<'a> {
    output: &'a mut dyn Write,
}

/// A directory.
pub(crate) struct DirectorySink {
    root: PathBuf,
}

impl<'a> ArchiveSink<'a> {
    pub(super) fn new(output: &'a mut dyn Write) -> Self {
        Self { output }
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<(), ImageError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(ImageError::Output)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.output.write_all(bytes).map_err(ImageError::Output)
    }

    fn pad(&mut self, size: u64) -> Result<(), ImageError> {
        let padding = size.next_multiple_of(BLOCK) - size;
        self.put(&[0; BLOCK as usize][..padding as usize])
    }
}

impl Sink for ArchiveSink<'_> {
    fn existing(&self, _name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        Ok(None)
    }

    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.header(&format!("{name}/"), tar::EntryType::Directory, 0o755, 0)
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.header(name, tar::EntryType::Regular, 0o444, bytes.len() as u64)?;
        self.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn blob(&mut self, name: &str, blob: &Blob, cancel: &Cancel) -> Result<(), ImageError> {
        self.header(name, tar::EntryType::Regular, 0o444, blob.size)?;
        copy(blob, cancel, |bytes| self.output.write_all(bytes).map_err(ImageError::Output))?;
        self.pad(blob.size)
    }

    fn finish(&mut self) -> Result<(), ImageError> {
        self.put(&[0; 2 * BLOCK as usize])?;
        self.output.flush().map_err(ImageError::Output)
    }
}

impl DirectorySink {
    /// Fills a directory: beside its place where it does not exist yet, else where it is.
    pub(crate) fn fill(
        path: &Path,
        write: impl FnOnce(&mut dyn Sink) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        match std::fs::symlink_metadata(path) {
            Ok(_) if path.is_dir() => write(&mut Self::new(path)),
            Ok(_) => Err(ImageError::io("create", path)(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(_) => {
                let beside = directory_beside(path)?;
                write(&mut Self::new(beside.path()))?;
                std::fs::rename(beside.path(), path).map_err(ImageError::io("create", path))?;
                // It is not there any more to be removed.
                let _ = beside.keep();
                Ok(())
            }
        }
    }

    fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Sink for DirectorySink {
    fn existing(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.root.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("read", &path)(error)),
        }
    }

    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        let path = self.root.join(name);
        std::fs::create_dir_all(&path).map_err(ImageError::io("create", &path))?;
        Ok(())
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let path = self.root.join(name);
        let (mut file, beside) = file_beside(&path)?;
        file.write_all(bytes).map_err(ImageError::io("write", &path))?;
        beside.persist(&path).map_err(|error| ImageError::io("create", &path)(error.error))
    }

    fn blob(&mut self, name: &str, blob: &Blob, cancel: &Cancel) -> Result<(), ImageError> {
        let path = self.root.join(name);
        // A blob is named by its digest: one of the right size is the right one.
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size) {
            return Ok(());
        }
        let (mut file, beside) = file_beside(&path)?;
        copy(blob, cancel, |bytes| file.write_all(bytes).map_err(ImageError::io("write", &path)))?;
        beside.persist(&path).map_err(|error| ImageError::io("create", &path)(error.error))
    }

    fn finish(&mut self) -> Result<(), ImageError> {
        Ok(())
    }
}

/// Copies a blob, which must have the size that it was announced with.
fn copy(
    blob: &Blob,
    cancel: &Cancel,
    mut write: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut file = File::open(&blob.path).map_err(ImageError::io("open", &blob.path))?.take(blob.size);
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        if cancel.is_requested() {
            return Err(ImageError::Cancelled);
        }
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ImageError::io("read", &blob.path)(error)),
        };
        write(chunk.get(..count).unwrap_or_default())?;
        copied += count as u64;
    }
    if copied == blob.size {
        return Ok(());
    }
    let source_name = blob.path.display().to_string();
    Err(ImageError::WrongSize { what: "blob", source_name, digest: blob.digest, expected: blob.size, found: copied })
}
