//! Which layer came of what, from one build to the next: small files of lines below `contexts/`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kiln_cache::{Store, StoredLayer};
use kiln_solver::Digest;

use super::SourceError;

/// Far more than any has.
const LARGEST: u64 = 64 * 1024;

/// What is remembered under one name.
pub(crate) struct Memory<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> Memory<'a> {
    /// The memory of this kind and name.
    pub(crate) fn new(store: &'a Store, kind: &str, name: &Digest) -> Result<Self, SourceError> {
        let directory = directory(store, kind)?;
        Ok(Self { store, path: directory.join(name.hex()) })
    }

    /// The layer and the lines that are remembered with it; nothing if the store does not have the layer any more.
    pub(crate) fn recall(&self) -> Result<Option<(StoredLayer, Vec<String>)>, SourceError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() <= LARGEST => {}
            _ => return Ok(None),
        }
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            // A power loss may have left anything.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => return Ok(None),
            Err(source) => return Err(SourceError::Local { action: "read", path: self.path.clone(), source }),
        };
        let mut lines = text.lines().map(str::to_owned);
        let (Some(first), Some(last)) = (lines.next(), text.lines().last()) else { return Ok(None) };
        let Ok(diff_id) = first.parse::<Digest>() else { return Ok(None) };
        if last != END {
            return Ok(None);
        }
        let layer = self.store.layer(&diff_id)?;
        Ok(layer.map(|layer| (layer, lines.collect())))
    }

    /// Remembers a layer and lines, which must not have line breaks in them.
    pub(crate) fn remember(&self, layer: &StoredLayer, lines: &[&str]) -> Result<(), SourceError> {
        let mut text = format!("{}\n", layer.diff_id());
        for line in lines.iter().chain([&END]) {
            text.extend(line.chars().filter(|character| !matches!(character, '\n' | '\r')));
            text.push('\n');
        }
        let scratch = self.store.scratch()?;
        let part = scratch.path().join("memory");
        let failed = |source| SourceError::Local { action: "write", path: self.path.clone(), source };
        std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &self.path)).map_err(failed)
    }
}

/// What every memory ends with, so that half of one is none.
const END: &str = "end";

/// The directory of one kind, made if need be.
pub(super) fn directory(store: &Store, kind: &str) -> Result<PathBuf, SourceError> {
    let path = store.root().join("contexts").join(kind);
    make(&path)?;
    Ok(path)
}

fn make(path: &Path) -> Result<(), SourceError> {
    let failed = |source| SourceError::Local { action: "make", path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)
}
