//! Unpacks one copy of a cache mount. Stricter than with layers: an archive that kiln wrote has each directory before
//! what is in it, each path once, and nothing behind a link. Links may point anywhere, as in any directory that a
//! command may fill; none is ever followed here.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::archive::{ArchiveError, Member, MemberKind};
use crate::extractor::disk::Disk;
use crate::extractor::to_record;
use crate::extractor::tree::{NodeId, ROOT, Tree};
use crate::index::{Device, EntryKind};
use crate::{StoreError, Whiteouts, sys};

/// A copy that is being unpacked.
pub(super) struct Copy {
    tree: Tree,
    disk: Disk,
    whiteouts: Whiteouts,
    /// What all its paths begin with in the archive.
    prefix: Vec<u8>,
    /// Devices that could not be made.
    left_out: Vec<PathBuf>,
}

/// The path of a member below its copy, in parts.
type Parts<'a> = Vec<&'a [u8]>;

impl Copy {
    /// Begins with an empty directory.
    pub(super) fn new(directory: &Path, prefix: Vec<u8>, whiteouts: Whiteouts) -> Result<Self, StoreError> {
        let root = sys::open_directory(directory).map_err(StoreError::io("open", directory))?;
        let (tree, disk) = (Tree::new(), Disk::new(root, whiteouts));
        Ok(Self { tree, disk, whiteouts, prefix, left_out: Vec::new() })
    }

    /// What the paths of its members begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Unpacks a member.
    pub(super) fn take(&mut self, member: &Member, content: &mut impl Read) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::Refused { path: member.path.clone(), reason };
        let unpack = |source| ArchiveError::Unpack { path: member.path.clone(), source };
        let parts = self.parts(&member.path).map_err(refused)?;
        let Some((name, parents)) = parts.split_last() else { return Err(refused("it stands for the copy itself")) };
        let is_top = parents.is_empty();
        if is_top && (*name != b"data" || !matches!(member.kind, MemberKind::Directory | MemberKind::File)) {
            return Err(refused("a copy is a directory or file `data` and nothing else"));
        }
        let parent = self.find(parents).filter(|parent| self.is_directory(*parent));
        let parent = parent.ok_or_else(|| refused("there is no directory for it in the archive before it"))?;
        if self.tree.child(parent, name).is_some() {
            return Err(refused("it is there twice"));
        }
        let mut record = to_record(member);
        match member.kind {
            MemberKind::HardLink => {
                let target = self.parts(&member.target).ok().and_then(|parts| self.find(&parts));
                let target = target.filter(|target| !self.is_directory(*target));
                let target = target.ok_or_else(|| refused("it links to what is no file of its copy before it"))?;
                self.disk.link(&self.tree, target, parent, name).map_err(unpack)?;
                self.tree.insert_link(parent, name, target);
                return Ok(());
            }
            MemberKind::File => {
                record.content =
                    Some(self.disk.write_file(&self.tree, parent, name, &record, content).map_err(unpack)?);
            }
            MemberKind::Directory => self.disk.make_directory(&self.tree, parent, name).map_err(unpack)?,
            _ => {
                let is_device = matches!(member.kind, MemberKind::CharDevice | MemberKind::BlockDevice);
                if is_device && self.whiteouts == Whiteouts::User && member.device != Device::default() {
                    self.left_out.push(PathBuf::from(OsStr::from_bytes(&member.path)));
                }
                self.disk.make_special(&self.tree, parent, name, &record).map_err(unpack)?;
            }
        }
        self.tree.insert(parent, name, record);
        Ok(())
    }

    /// Gives directories their modes and times, and tells what was left out.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>, ArchiveError> {
        let Self { tree, mut disk, .. } = self;
        tree.directories_inside_out(|path, record| {
            disk.finish_directory(path, record).map_err(|source| ArchiveError::Unpack { path: path.to_vec(), source })
        })?;
        Ok(self.left_out)
    }

    /// The parts of a path of the archive below this copy.
    fn parts<'p>(&self, path: &'p [u8]) -> Result<Parts<'p>, &'static str> {
        let below = path.strip_prefix(&self.prefix[..]).and_then(|rest| rest.strip_prefix(b"/"));
        let below = below.ok_or("it lies outside of its copy")?;
        let below = below.strip_suffix(b"/").unwrap_or(below);
        let parts: Parts<'p> = below.split(|byte| *byte == b'/').collect();
        match parts.iter().any(|part| matches!(*part, b"" | b"." | b"..")) {
            true => Err("its path is not in its simplest form"),
            false => Ok(parts),
        }
    }

    fn find(&self, parts: &[&[u8]]) -> Option<NodeId> {
        parts.iter().try_fold(ROOT, |node, part| self.tree.child(node, part))
    }

    fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.tree.record(node).kind, EntryKind::Directory { .. })
    }
}
