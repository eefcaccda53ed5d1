//! Unpacks archives that nobody vouches for into layers.
//!
//! The layer grows twice: on disk, in overlayfs form, and as a tree in memory that becomes its index. Where a
//! member goes is decided in that tree, following symbolic links of the layer itself as a process would whose
//! root it is; so the path that reaches the disk has no symbolic link, no `..` and no surprise, and the kernel is
//! told to refuse if it had (`RESOLVE_IN_ROOT`, `RESOLVE_NO_SYMLINKS`). Nothing outside the directory can be
//! read, written or linked to.
//!
//! What Docker does with odd archives is done here too: later members replace earlier ones, a directory that is
//! there is kept and changed, missing parents are made (root's, 0755), names are cleaned. A whiteout counts for
//! lower layers alone, as the OCI specification has it, wherever it stands in the archive.

pub(crate) mod disk;
pub(crate) mod tree;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::os::fd::OwnedFd;

use crate::archive::{ArchiveError, ArchiveReader, Member, MemberKind, OPAQUE, WHITEOUT};
use crate::index::{Builder, Device, EntryKind, Record, is_below};
use crate::{Allowance, Whiteouts};
use disk::Disk;
use tree::{NodeId, Tree};

/// Unpacks an archive into an empty directory. Gives what the index of the layer holds, and reads the stream to
/// its end. What is more than `allowance` is refused before it is unpacked.
pub(crate) fn extract(
    archive: impl Read,
    root: OwnedFd,
    whiteouts: Whiteouts,
    allowance: Allowance,
) -> Result<Builder, ArchiveError> {
    let mut reader = ArchiveReader::new(archive);
    let mut extractor = Extractor { tree: Tree::new(), disk: Disk::new(root, whiteouts), allowance };
    while let Some(member) = reader.next_member()? {
        extractor.allowance.take(&member)?;
        extractor.take(member, &mut reader)?;
    }
    reader.finish()?;
    let Extractor { tree, mut disk, .. } = extractor;
    tree.directories_inside_out(|path, record| {
        disk.finish_directory(path, record).map_err(|source| ArchiveError::Unpack { path: path.to_vec(), source })
    })?;
    Ok(tree.into_builder())
}

struct Extractor {
    tree: Tree,
    disk: Disk,
    allowance: Allowance,
}

/// What the name of a member asks for.
enum Name<'a> {
    /// Itself.
    Plain(&'a [u8]),
    /// To hide what lower layers have under this name.
    Whiteout(&'a [u8]),
    /// To hide all that lower layers have in its directory.
    Opaque,
    /// Nothing: what AUFS keeps for itself.
    Ignored,
}

impl Extractor {
    fn take(&mut self, member: Member, content: &mut impl Read) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::Refused { path: member.path.clone(), reason };
        let components = clean(&member.path).map_err(refused)?;
        let Some((name, parents)) = components.split_last() else {
            // The root itself: it has no entry, a layer's root is always root's and 0755.
            return if member.kind == MemberKind::Directory { Ok(()) } else { Err(refused("it replaces the root")) };
        };
        if parents.iter().any(|parent| parent.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
            return Err(refused("it lies below a whiteout"));
        }
        let name = match read_name(name).map_err(refused)? {
            // overlayfs would take it for a whiteout, wherever it came from; so it is one.
            Name::Plain(name) if member.kind == MemberKind::CharDevice && member.device == Device::default() => {
                Name::Whiteout(name)
            }
            name => name,
        };
        if matches!(name, Name::Ignored) {
            return Ok(());
        }
        let parent = self.find_directory(parents, &member.path)?;
        let unpack = |source| ArchiveError::Unpack { path: member.path.clone(), source };
        match name {
            Name::Plain(name) => self.put(parent, name, &member, content),
            // overlayfs merges the roots of all layers, whatever is written on them.
            Name::Opaque if parent == tree::ROOT => Err(refused("the root of a layer cannot be opaque")),
            Name::Opaque => {
                self.tree.set_opaque(parent);
                Ok(())
            }
            Name::Whiteout(name) => match self.tree.child(parent, name) {
                Some(child) if self.tree.record(child).kind == (EntryKind::Directory { opaque: false }) => {
                    self.tree.set_opaque(child);
                    Ok(())
                }
                Some(_) => Ok(()),
                None => {
                    self.disk.make_whiteout(&self.tree, parent, name).map_err(unpack)?;
                    self.tree.insert(parent, name, Record::whiteout(Vec::new()));
                    Ok(())
                }
            },
            Name::Ignored => Ok(()),
        }
    }

    /// Puts a member into a directory.
    fn put(
        &mut self,
        parent: NodeId,
        name: &[u8],
        member: &Member,
        content: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::Refused { path: member.path.clone(), reason };
        let unpack = |source| ArchiveError::Unpack { path: member.path.clone(), source };
        let linked = match member.kind {
            MemberKind::HardLink => Some(self.find_link_target(member)?),
            _ => None,
        };
        let mut record = to_record(member);
        if let Some(child) = self.tree.child(parent, name) {
            let there = self.tree.record(child).kind;
            if let (MemberKind::Directory, EntryKind::Directory { opaque }) = (member.kind, there) {
                record.kind = EntryKind::Directory { opaque };
                self.tree.replace_record(child, record);
                return Ok(());
            }
            if let Some(linked) = linked {
                if linked == child {
                    return Ok(());
                }
                if is_below(&self.tree.path(linked), &self.tree.path(child)) {
                    return Err(refused("it replaces the directory of what it links to"));
                }
            }
            if there == EntryKind::Whiteout && member.kind == MemberKind::Directory {
                record.kind = EntryKind::Directory { opaque: true };
            }
            self.disk.remove(&self.tree, parent, name).map_err(unpack)?;
            self.tree.remove(parent, name);
        }
        match (member.kind, linked) {
            (MemberKind::HardLink, Some(linked)) => {
                self.disk.link(&self.tree, linked, parent, name).map_err(unpack)?;
                self.tree.insert_link(parent, name, linked);
                return Ok(());
            }
            (MemberKind::File, _) => {
                record.content =
                    Some(self.disk.write_file(&self.tree, parent, name, &record, content).map_err(unpack)?);
            }
            (MemberKind::Directory, _) => self.disk.make_directory(&self.tree, parent, name).map_err(unpack)?,
            _ => self.disk.make_special(&self.tree, parent, name, &record).map_err(unpack)?,
        }
        self.tree.insert(parent, name, record);
        Ok(())
    }

    /// The directory that these components lead to; what is missing is made.
    fn find_directory(&mut self, components: &[&[u8]], path: &[u8]) -> Result<NodeId, ArchiveError> {
        let Self { tree, disk, allowance } = self;
        let unpack = |source| ArchiveError::Unpack { path: path.to_vec(), source };
        tree.find_directory(components, path, |tree, parent, name, replaces| {
            allowance.take_directory(path, tree.path(parent).len() + name.len())?;
            if replaces {
                disk.remove(tree, parent, name).map_err(unpack)?;
            }
            disk.make_directory(tree, parent, name).map_err(unpack)
        })
    }

    /// What a hard link links to: something that the archive brought before.
    fn find_link_target(&mut self, member: &Member) -> Result<NodeId, ArchiveError> {
        let refused = |reason| ArchiveError::Refused { path: member.path.clone(), reason };
        let components = clean(&member.target).map_err(|_| refused("its target lies outside of the layer"))?;
        let found = components.split_last().and_then(|(name, parents)| {
            let parent = self.tree.look_up_directory(parents)?;
            self.tree.child(parent, name)
        });
        let found = found.ok_or_else(|| refused("it links to something that is not in the archive"))?;
        match self.tree.record(found).kind {
            EntryKind::Directory { .. } => Err(refused("it links to a directory")),
            EntryKind::Whiteout => Err(refused("it links to a whiteout")),
            _ => Ok(found),
        }
    }
}

/// The components of a path: relative to the root whether it begins with a slash or not, cleaned lexically.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop().ok_or("it leads out of the layer")?),
            _ => components.push(component),
        }
    }
    Ok(components)
}

fn read_name(name: &[u8]) -> Result<Name<'_>, &'static str> {
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain(name)),
        Some(_) if name == OPAQUE => Ok(Name::Opaque),
        Some(b"" | b"." | b"..") => Err("it is a whiteout of nothing"),
        Some(rest) if rest.starts_with(WHITEOUT) => Ok(Name::Ignored),
        Some(rest) => Ok(Name::Whiteout(rest)),
    }
}

/// The record of a member, without path and content.
pub(crate) fn to_record(member: &Member) -> Record {
    let kind = match member.kind {
        MemberKind::File | MemberKind::HardLink => EntryKind::File,
        MemberKind::Directory => EntryKind::Directory { opaque: false },
        MemberKind::Symlink => EntryKind::Symlink,
        MemberKind::CharDevice => EntryKind::CharDevice,
        MemberKind::BlockDevice => EntryKind::BlockDevice,
        MemberKind::Fifo => EntryKind::Fifo,
    };
    let xattrs = member.xattrs.iter().filter(|(name, _)| !is_overlayfs_xattr(name)).cloned().collect();
    Record {
        path: Vec::new(),
        kind,
        mode: if kind == EntryKind::Symlink { 0o777 } else { member.mode },
        uid: member.uid,
        gid: member.gid,
        size: if kind == EntryKind::File { member.size } else { 0 },
        mtime: member.mtime,
        device: member.device,
        target: if kind == EntryKind::Symlink { member.target.clone() } else { Vec::new() },
        content: None,
        xattrs,
    }
}

/// Whether overlayfs would take this attribute for its own.
pub(crate) fn is_overlayfs_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}
