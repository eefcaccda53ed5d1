//! A file that appears under its name when it is complete, and not at all if it never is.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_solver::Cancel;
use tempfile::TempPath;

use crate::ImageError;

const BUFFER: usize = 256 << 10;

/// A file in the making.
pub(super) struct Output {
    path: PathBuf,
    writer: BufWriter<File>,
    /// Where it lies until then; none where the name is a pipe or a device, which is written straight into.
    beside: Option<TempPath>,
    /// Why a write failed: what writes through it may not say.
    failure: Option<io::Error>,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self, ImageError> {
        let create = ImageError::io("create", path);
        let (file, path, beside) = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(create(io::Error::from(io::ErrorKind::IsADirectory)));
            }
            Ok(metadata) if !metadata.is_file() => {
                (OpenOptions::new().write(true).open(path).map_err(create)?, path.to_owned(), None)
            }
            // Through a symbolic link, it is the file behind it that is replaced.
            Ok(_) => {
                let target = std::fs::canonicalize(path).map_err(create)?;
                let (file, beside) = file_beside(&target)?;
                (file, target, Some(beside))
            }
            Err(_) => {
                let (file, beside) = file_beside(path)?;
                (file, path.to_owned(), Some(beside))
            }
        };
        Ok(Self { path, writer: BufWriter::with_capacity(BUFFER, file), beside, failure: None })
    }

    /// What really went wrong, if it was the writing.
    pub(super) fn explain(&mut self, error: ImageError) -> ImageError {
        match self.failure.take() {
            Some(failure) => ImageError::io("write", &self.path)(failure),
            None => error,
        }
    }

    pub(super) fn finish(mut self) -> Result<(), ImageError> {
        self.writer.flush().map_err(ImageError::io("write", &self.path))?;
        match self.beside {
            Some(beside) => {
                beside.persist(&self.path).map_err(|error| ImageError::io("create", &self.path)(error.error))
            }
            None => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).inspect_err(|error| self.failure = Some(copy_of(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().inspect_err(|error| self.failure = Some(copy_of(error)))
    }
}

/// Fails as soon as the build is to stop.
pub(super) struct Stoppable<'a> {
    inner: &'a mut dyn Write,
    cancel: &'a Cancel,
}

impl Stoppable<'_> {
    pub(super) fn write(
        inner: &mut dyn Write,
        cancel: &Cancel,
        work: impl FnOnce(&mut Stoppable<'_>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let outcome = work(&mut Stoppable { inner, cancel });
        if cancel.is_requested() { Err(ImageError::Cancelled) } else { outcome }
    }
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            return Err(io::Error::other("cancelled"));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file with a name of its own in the directory where `path` is to be.
pub(super) fn file_beside(path: &Path) -> Result<(File, TempPath), ImageError> {
    let file = temporary().permissions(Permissions::from_mode(0o666)).tempfile_in(parent(path));
    Ok(file.map_err(ImageError::io("create", path))?.into_parts())
}

/// A directory with a name of its own in the directory where `path` is to be.
pub(super) fn directory_beside(path: &Path) -> Result<tempfile::TempDir, ImageError> {
    let directory = temporary().permissions(Permissions::from_mode(0o777)).tempdir_in(parent(path));
    directory.map_err(ImageError::io("create", path))
}

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-").suffix(".tmp");
    builder
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
