//! Archives that hold a context: unpacked for one build, with all the care that `ADD` takes.

use std::io::{self, Read};
use std::path::Path;

use kiln_cache::{LayerDraft, View};
use kiln_solver::{Cancel, Digest, Hasher};

use super::{SourceError, Sources};
use crate::files::{Archive, Plan, timestamp, unpack, write};

/// Unpacked files; gone when it is dropped.
pub struct Unpacked {
    draft: LayerDraft,
}

impl Unpacked {
    /// The directory that they lie in.
    pub fn path(&self) -> &Path {
        self.draft.files()
    }
}

impl Sources<'_> {
    /// Unpacks a tar archive, compressed or not. Nothing if the file is none.
    ///
    /// # Errors
    /// When the archive is damaged, or one of its members leads out of the directory that it is unpacked in.
    pub fn unpack(&self, file: &Path, cancel: &Cancel) -> Result<Option<Unpacked>, SourceError> {
        let (digest, size) = hash(file).map_err(|source| {
            let path = file.to_owned();
            SourceError::Local { action: "read", path, source }
        })?;
        let archive = Archive::new(file.to_owned(), digest, size);
        if !archive.is_one()? {
            return Ok(None);
        }
        let mut plan = Plan::new(Vec::new(), View::new(Vec::new()), timestamp(self.created));
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        unpack(&mut plan, &archive, &name, self.store, cancel).map_err(cancelled)?;
        let draft = self.store.begin_layer()?;
        write(plan, &draft, self.store.whiteouts(), cancel).map_err(cancelled)?;
        Ok(Some(Unpacked { draft }))
    }

    /// A directory for one build with nothing in it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn empty(&self) -> Result<Unpacked, SourceError> {
        Ok(Unpacked { draft: self.store.begin_layer()? })
    }
}

fn cancelled(error: crate::FileError) -> SourceError {
    match error {
        crate::FileError::Cancelled => SourceError::Cancelled,
        other => other.into(),
    }
}

fn hash(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
