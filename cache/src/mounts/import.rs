//! Takes cache mounts in from an archive that nobody vouches for.
//!
//! All of it is unpacked in `tmp/` and checked before the first mount gets its place, by a rename. One that is there
//! already is exchanged under all its locks: a build sees the old one whole, or the new one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use kiln_solver::Cancel;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::unpack::Copy;
use super::{FORMAT, MANIFEST, Manifest, Mount, MountWatch, copies, is_name, locks};
use crate::archive::{ArchiveError, ArchiveReader, Member, MemberKind};
use crate::{Store, StoreError, decompress, session, sys};

/// The longest list of mounts that is read, in bytes.
const LONGEST_MANIFEST: u64 = 16 << 20;
/// How much may come behind the end of an archive: some programs fill up their blocks.
const LONGEST_REST: u64 = 1 << 20;

/// What came of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Each of its mounts, by id.
    pub mounts: Vec<ImportedMount>,
    /// Devices, which an ordinary user cannot make: their paths in the archive.
    pub left_out: Vec<PathBuf>,
}

/// A cache mount of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedMount {
    /// Its id.
    pub id: String,
    /// Whether one was here already, and stays as it is.
    pub was_kept: bool,
}

impl Store {
    /// Takes in the cache mounts of an archive, compressed or not. Those that are here already stay as they are, or are
    /// exchanged whole if `replace` says so; one that a build has is waited for. What an archive may hold is limited as
    /// for layers ([`Store::limit_archives`]).
    ///
    /// # Errors
    /// Where it is no such archive or a broken one, or the store cannot be written. If it was the archive, nothing has
    /// changed.
    pub fn import_mounts(
        &self,
        input: &mut dyn BufRead,
        replace: bool,
        watch: &MountWatch<'_>,
    ) -> Result<Imported, StoreError> {
        let unpacked = self.unpack_mounts(input, replace, watch.cancel);
        let unpacked =
            unpacked.map_err(|error| if watch.cancel.is_requested() { StoreError::Cancelled } else { error })?;
        // A mount must not take its place before its files are there to stay: a power loss would leave an empty one.
        if !unpacked.fresh.is_empty() {
            sys::sync_file_system(self.root()).map_err(StoreError::io("sync", self.root()))?;
        }
        let mut imported = Imported { mounts: Vec::new(), left_out: unpacked.left_out };
        for mount in unpacked.mounts {
            let part = unpacked.scratch.path().join(&mount.name);
            let was_kept = !unpacked.fresh.contains(&mount.name) || !self.put_mount(&mount, &part, replace, watch)?;
            imported.mounts.push(ImportedMount { id: mount.id, was_kept });
        }
        Ok(imported)
    }

    fn unpack_mounts(&self, input: &mut dyn BufRead, replace: bool, cancel: &Cancel) -> Result<Unpacked, StoreError> {
        let archive = decompress(input).map_err(ArchiveError::Read)?;
        let mut reader = ArchiveReader::new(Stoppable { archive, cancel });
        let mut allowance = self.allowance()?;
        let manifest = read_manifest(&mut reader)?;
        let mut unpacking = Unpacking::new(self, manifest.mounts, replace)?;
        while let Some(member) = reader.next_member()? {
            allowance.take(&member)?;
            unpacking.take(&member, &mut reader)?;
        }
        if !reader.has_ended() {
            return Err(StoreError::NoMounts("it ends too early"));
        }
        reader.finish_within(LONGEST_REST)?;
        unpacking.finish()
    }

    /// Gives a mount its place; `false` where one is there that is to stay.
    fn put_mount(&self, mount: &Mount, part: &Path, replace: bool, watch: &MountWatch<'_>) -> Result<bool, StoreError> {
        let place = mount.directory(self);
        let io = || StoreError::io("make", &place);
        match rustix::fs::renameat_with(CWD, part, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) if !replace && !copies(&place)?.is_empty() => return Ok(false),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(io()(error)),
        }
        let locked = locks::lock(&place, &mount.id, watch)?;
        if !replace && !locked.copies.is_empty() {
            return Ok(false);
        }
        rustix::fs::renameat_with(CWD, part, CWD, &place, RenameFlags::EXCHANGE).map_err(io())?;
        // Its locks are held to the end, so that nobody who waits for one takes it for that of the new mount.
        session::remove_tree(part).map_err(StoreError::io("remove", part))?;
        Ok(true)
    }
}

/// The list of mounts at the start of an archive.
fn read_manifest(reader: &mut ArchiveReader<impl Read>) -> Result<Manifest, StoreError> {
    let first = reader.next_member()?;
    let is_list = |first: &Member| first.path == MANIFEST.as_bytes() && first.kind == MemberKind::File;
    let first = first.filter(is_list).ok_or(StoreError::NoMounts("it does not begin with `kiln-mounts.json`"))?;
    if first.size > LONGEST_MANIFEST {
        return Err(StoreError::NoMounts("its `kiln-mounts.json` is longer than 16 MiB"));
    }
    let mut text = Vec::new();
    reader.by_ref().take(first.size).read_to_end(&mut text).map_err(ArchiveError::Read)?;
    let malformed = StoreError::NoMounts("its `kiln-mounts.json` is malformed, or of a newer kiln");
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { return Err(malformed) };
    let mut names = HashSet::new();
    let mut is_sound = |mount: &Mount| is_name(&mount.name) && names.insert(mount.name.clone());
    match manifest.format == FORMAT && manifest.mounts.iter().all(&mut is_sound) {
        true => Ok(manifest),
        false => Err(malformed),
    }
}

/// Mounts that are about to take their places.
struct Unpacked {
    mounts: Vec<Mount>,
    /// The names of those that were unpacked.
    fresh: BTreeSet<String>,
    scratch: crate::Scratch,
    left_out: Vec<PathBuf>,
}

/// Mounts on their way out of the archive.
struct Unpacking<'a> {
    store: &'a Store,
    unpacked: Unpacked,
    /// The ids of mounts that are wanted, by name; none of those that are not.
    ids: HashMap<String, Option<String>>,
    /// Copies that were begun, by what their paths begin with.
    begun: HashSet<Vec<u8>>,
    copy: Option<Copy>,
}

impl<'a> Unpacking<'a> {
    fn new(store: &'a Store, mounts: Vec<Mount>, replace: bool) -> Result<Self, StoreError> {
        let mut ids = HashMap::new();
        for mount in &mounts {
            let is_wanted = replace || copies(&mount.directory(store))?.is_empty();
            ids.insert(mount.name.clone(), is_wanted.then(|| mount.id.clone()));
        }
        let unpacked = Unpacked { mounts, fresh: BTreeSet::new(), scratch: store.scratch()?, left_out: Vec::new() };
        Ok(Self { store, unpacked, ids, begun: HashSet::new(), copy: None })
    }

    fn take(&mut self, member: &Member, content: &mut impl Read) -> Result<(), StoreError> {
        let refused = |reason| ArchiveError::Refused { path: member.path.clone(), reason };
        let (name, number) = place(&member.path).ok_or_else(|| refused("it belongs to no cache mount"))?;
        let id = self.ids.get(name).ok_or_else(|| refused("its cache mount is not in `kiln-mounts.json`"))?;
        let Some(id) = id.clone() else { return Ok(()) };
        let prefix = format!("{name}/{number}").into_bytes();
        if self.copy.as_ref().is_none_or(|copy| copy.prefix() != prefix) {
            self.finish_copy()?;
            if !self.begun.insert(prefix.clone()) {
                return Err(refused("its copy has ended before").into());
            }
            let directory = self.begin(name, &id, number)?;
            self.copy = Some(Copy::new(&directory, prefix, self.store.whiteouts())?);
        }
        match &mut self.copy {
            Some(copy) => Ok(copy.take(member, content)?),
            None => Ok(()),
        }
    }

    /// Makes the folder of a copy, and of its mount, with their locks.
    fn begin(&mut self, name: &str, id: &str, number: u32) -> Result<PathBuf, StoreError> {
        let mount = self.unpacked.scratch.path().join(name);
        let write = |path: PathBuf, text: &str| std::fs::write(&path, text).map_err(StoreError::io("write", &path));
        if self.unpacked.fresh.insert(name.to_owned()) {
            session::make_directory(&mount, 0o700)?;
            write(mount.join("id"), id)?;
            write(mount.join("lock"), "")?;
        }
        let copy = mount.join(number.to_string());
        session::make_directory(&copy, 0o755)?;
        write(copy.join("lock"), "")?;
        Ok(copy)
    }

    fn finish_copy(&mut self) -> Result<(), StoreError> {
        if let Some(copy) = self.copy.take() {
            self.unpacked.left_out.extend(copy.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, StoreError> {
        self.finish_copy()?;
        Ok(self.unpacked)
    }
}

/// The mount and the copy that a path of the archive belongs to.
fn place(path: &[u8]) -> Option<(&str, u32)> {
    let mut parts = path.splitn(3, |byte| *byte == b'/').map(|part| std::str::from_utf8(part).ok());
    let (name, number) = (parts.next()??, parts.next()??);
    let parsed: u32 = number.parse().ok()?;
    // One number, one name.
    (parsed.to_string() == number).then_some((name, parsed))
}

/// Fails as soon as it is to stop.
struct Stoppable<'a, R> {
    archive: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            return Err(io::Error::other("cancelled"));
        }
        self.archive.read(buffer)
    }
}
