//! How much an archive that nobody vouches for may hold: a few kilobytes can claim petabytes.

use std::path::Path;
use std::sync::PoisonError;

use crate::archive::{ArchiveError, Member, MemberKind};
use crate::{Store, StoreError};

/// How much one archive may hold, a layer of an image or one that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// The bytes of all its files together, holes counted. Where absent, nine tenths of what is free on the disk when
    /// it is begun.
    pub size: Option<u64>,
    /// How many members it may have, directories that it does not name but needs counted.
    pub entries: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { size: None, entries: 2_000_000 }
    }
}

/// How many bytes of names, targets of links and attributes there may be for each member, on average.
const TEXT: u64 = 256;

const MORE_ENTRIES: &str = "`max-entries` of `[archives]` in kiln.toml allows more";
const MORE_BYTES: &str = "`max-size` of `[archives]` in kiln.toml allows more";
const MORE_DISK: &str = "the disk has no more room: `kiln prune` may make some, or `--root` name another disk";

/// What is left to an archive of its limits.
#[derive(Clone, Debug)]
pub struct Allowance {
    most_bytes: u64,
    most_entries: u64,
    /// How more bytes could be had.
    hint: &'static str,
    bytes: u64,
    entries: u64,
    text: u64,
}

impl Allowance {
    fn new(bytes: u64, entries: u64, hint: &'static str) -> Self {
        Self { most_bytes: bytes, most_entries: entries, hint, bytes, entries, text: entries.saturating_mul(TEXT) }
    }

    /// How many bytes of files are left.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes off what a member will need, before it is unpacked.
    ///
    /// # Errors
    /// [`ArchiveError::TooMuch`] where that is more than is left.
    pub fn take(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let attributes = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.take_entry(&member.path, (member.path.len() + member.target.len() + attributes) as u64)?;
        let size = if member.kind == MemberKind::File { member.size } else { 0 };
        let left = self.bytes.checked_sub(size);
        self.bytes = left.ok_or_else(|| too_much(&member.path, "bytes of files", self.most_bytes, self.hint))?;
        Ok(())
    }

    /// Takes off what a directory will need that is made for the member at `path`; its own path has `length` bytes.
    ///
    /// # Errors
    /// [`ArchiveError::TooMuch`] where that is more than is left.
    pub fn take_directory(&mut self, path: &[u8], length: usize) -> Result<(), ArchiveError> {
        self.take_entry(path, length as u64)
    }

    fn take_entry(&mut self, path: &[u8], text: u64) -> Result<(), ArchiveError> {
        let left = self.entries.checked_sub(1);
        self.entries = left.ok_or_else(|| too_much(path, "entries", self.most_entries, MORE_ENTRIES))?;
        let (left, most) = (self.text.checked_sub(text), self.most_entries.saturating_mul(TEXT));
        self.text = left.ok_or_else(|| too_much(path, "bytes of names and attributes", most, MORE_ENTRIES))?;
        Ok(())
    }
}

fn too_much(path: &[u8], what: &'static str, most: u64, hint: &'static str) -> ArchiveError {
    ArchiveError::TooMuch { path: path.to_vec(), what, most, hint }
}

impl Store {
    /// Sets how much one archive may hold, for all who share this open store.
    pub fn limit_archives(&self, limits: ArchiveLimits) {
        *self.inner().limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// What an archive may hold that is unpacked now.
    ///
    /// # Errors
    /// When the disk does not tell how much is free.
    pub fn allowance(&self) -> Result<Allowance, StoreError> {
        let limits = *self.inner().limits.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match limits.size {
            Some(size) => Allowance::new(size, limits.entries, MORE_BYTES),
            None => {
                let free = free(self.root())?;
                Allowance::new(free - free / 10, limits.entries, MORE_DISK)
            }
        })
    }
}

/// The bytes that are free on the disk of this directory.
fn free(directory: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::statvfs(directory).map_err(StoreError::io("ask for the space of", directory))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
impl Allowance {
    /// One that is never used up.
    pub(crate) fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX, "")
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{ArchiveError, ArchiveLimits, StoreError};

    fn member(archive: &mut tar::Builder<Vec<u8>>, path: &str, size: u64) {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let content = std::io::Read::take(std::io::repeat(b'x'), size);
        archive.append_data(&mut header, path, content).unwrap();
    }

    /// Why an archive of these files, with their sizes, is refused.
    fn refused(limits: ArchiveLimits, files: &[(&str, u64)]) -> Option<String> {
        let (_root, store) = store();
        store.limit_archives(limits);
        let mut archive = tar::Builder::new(Vec::new());
        files.iter().for_each(|(path, size)| member(&mut archive, path, *size));
        let result = import(&store, &archive.into_inner().unwrap());
        assert_eq!(left_in_tmp(&store), 0);
        match result {
            Ok(_) => None,
            Err(StoreError::Archive(ArchiveError::TooMuch { path, what, most, .. })) => {
                Some(format!("{} {what} {most}", String::from_utf8_lossy(&path)))
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn files_have_so_many_bytes_and_no_more() {
        let limits = ArchiveLimits { size: Some(1000), ..ArchiveLimits::default() };
        assert_eq!(refused(limits, &[("a", 400), ("b", 600)]), None);
        assert_eq!(refused(limits, &[("a", 400), ("b", 601)]).unwrap(), "b bytes of files 1000");
        // Nor does it help to write the same one again and again.
        assert_eq!(refused(limits, &[("a", 400), ("a", 400), ("a", 400)]).unwrap(), "a bytes of files 1000");
    }

    #[test]
    fn there_are_so_many_entries_and_no_more() {
        let limits = ArchiveLimits { entries: 4, ..ArchiveLimits::default() };
        assert_eq!(refused(limits, &[("a", 1), ("b", 1), ("c", 1), (".wh.d", 0)]), None);
        assert_eq!(refused(limits, &[("a", 1), ("b", 1), ("c", 1), ("d", 0), ("e", 0)]).unwrap(), "e entries 4");
        // Directories that an archive does not name take as much room.
        assert_eq!(refused(limits, &[("d/e/f", 1), ("d/e/g", 1)]), None);
        assert_eq!(refused(limits, &[("d/e/f/g/h", 1)]).unwrap(), "d/e/f/g/h entries 4");
        let long = "n".repeat(200);
        let names: Vec<String> = (0..6).map(|number| format!("{long}/{number}")).collect();
        assert_eq!(refused(ArchiveLimits { entries: 7, ..limits }, &[(&names[0], 0), (&names[1], 0)]), None);
        let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        assert_eq!(refused(ArchiveLimits { entries: 7, ..limits }, &all), None);
    }

    #[test]
    fn names_and_attributes_are_bounded_together() {
        let limits = ArchiveLimits { entries: 3, ..ArchiveLimits::default() };
        let long = format!("{0}/{0}/{0}/{0}", "n".repeat(190));
        assert!(refused(limits, &[(&long, 0)]).unwrap().ends_with("bytes of names and attributes 768"));
    }

    #[test]
    fn by_default_it_is_what_the_disk_has_room_for() {
        let (_root, store) = store();
        let disk = rustix::fs::statvfs(store.root()).unwrap();
        let (free, allowed) = (disk.f_bavail * disk.f_frsize, store.allowance().unwrap().most_bytes);
        assert!(allowed < free.max(1) && allowed > free / 2, "{allowed} of {free}");
    }
}
