//! The digest that BuildKit knows a part of a tree by (its `cache/contenthash`), for caches that are shared with it.
//!
//! A file counts as the fields of its tar header but name and time, and its bytes (`tarsum.go`); a directory as such a
//! header and the digests of what is in it, by name. What BuildKit might see otherwise has no digest.

use std::io::Read;

use kiln_solver::{Cancel, CopyAction, Digest, Hasher};
use rayon::prelude::*;

use super::select::{select, sources};
use super::tree::{Bytes, Item};
use super::{FileError, Kind, Tree};
use crate::paths::{self, Seen};

const CHUNK: usize = 256 * 1024;

/// Which part of a tree a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// What is at a path, links followed.
    Path(&'a str),
    /// All that a path with wildcards matches: everything in a directory that does counts by itself.
    Matches(&'a str),
    /// The same, but directories count as wholes.
    Wholes(&'a str),
}

/// The digest of a part of a tree; none where it cannot be told.
///
/// # Errors
/// When nothing is there, or it cannot be read.
pub(crate) fn content_hash(tree: &Tree, part: Part<'_>, cancel: &Cancel) -> Result<Option<Digest>, FileError> {
    match part {
        Part::Path(path) => of_path(tree, path.as_bytes(), cancel),
        Part::Matches(pattern) => of_matches(tree, pattern, false, cancel),
        Part::Wholes(pattern) => of_matches(tree, pattern, true, cancel),
    }
}

fn of_path(tree: &Tree, path: &[u8], cancel: &Cancel) -> Result<Option<Digest>, FileError> {
    let Some(copy) = copy_of(path, false) else { return Ok(None) };
    let matches = select(tree, &copy, cancel)?;
    let [found] = &matches[..] else { return Ok(None) };
    Ok(headers(tree, &found.items)?.and_then(|headers| match found.is_directory() {
        true => directory(&found.items, &headers),
        false => headers.first().copied(),
    }))
}

fn of_matches(tree: &Tree, pattern: &str, wholes: bool, cancel: &Cancel) -> Result<Option<Digest>, FileError> {
    let Some(copy) = copy_of(pattern.as_bytes(), true) else { return Ok(None) };
    let mut parts = Vec::new();
    for (_, path) in sources(tree, &copy)? {
        if !add_match(tree, &path, wholes, cancel, &mut parts)? {
            return Ok(None);
        }
    }
    let only = match &parts[..] {
        [(name, digest)] => (paths::name(&paths::clean(pattern.as_bytes())) == &name[..]).then_some(*digest),
        _ => None,
    };
    let encode = |(name, digest): (Vec<u8>, Digest)| [name, digest.to_string().into_bytes()].concat();
    let parts: Vec<Vec<u8>> = parts.into_iter().map(encode).collect();
    Ok(only.or_else(|| Some(Digest::of(&parts.join(&0)))))
}

/// Adds what lies at a path that matched; false where a digest cannot be told.
fn add_match(
    tree: &Tree,
    path: &[u8],
    wholes: bool,
    cancel: &Cancel,
    parts: &mut Vec<(Vec<u8>, Digest)>,
) -> Result<bool, FileError> {
    if wholes || matches!(tree.seen(path)?, Some(Seen::Link(_))) {
        let digest = of_path(tree, path, cancel)?;
        parts.extend(digest.map(|digest| (paths::name(path).to_vec(), digest)));
        return Ok(digest.is_some());
    }
    let Some(copy) = copy_of(path, false) else { return Ok(false) };
    for found in select(tree, &copy, cancel)? {
        let Some(headers) = headers(tree, &found.items)? else { return Ok(false) };
        for (item, header) in found.items.iter().zip(headers) {
            let digest = match item.kind() {
                Kind::Symlink => of_path(tree, &item.path, cancel)?,
                _ => Some(header),
            };
            let Some(digest) = digest else { return Ok(false) };
            parts.push((paths::name(&item.path).to_vec(), digest));
        }
    }
    Ok(true)
}

/// A copy that selects what is at a path; none where the path is no text.
fn copy_of(path: &[u8], wildcard: bool) -> Option<CopyAction> {
    Some(CopyAction {
        source: std::str::from_utf8(path).ok()?.to_owned(),
        wildcard,
        allow_empty_wildcard: true,
        ..CopyAction::everything()
    })
}

/// For each item the digest of its header and bytes.
fn headers(tree: &Tree, items: &[Item]) -> Result<Option<Vec<Digest>>, FileError> {
    let header = |buffer: &mut Vec<u8>, item: &Item| header(tree, item, buffer);
    items.par_iter().with_min_len(16).map_init(Vec::new, header).collect()
}

fn header(tree: &Tree, item: &Item, buffer: &mut Vec<u8>) -> Result<Option<Digest>, FileError> {
    if item.path.is_empty() {
        // Nobody sends the root of a context; that of an image is as its snapshotter makes it.
        return Ok(matches!(tree, Tree::Context(_)).then(|| Digest::of(b"")));
    }
    // Which attributes a client sends, and how they count, differs from version to version. The tree that BuildKit
    // hashes has a place of its own for names that begin with its largest byte.
    if !item.attributes().is_empty() || paths::name(&item.path).starts_with(&[0xff]) {
        return Ok(None);
    }
    let (kind, mode) = match item.kind() {
        Kind::File => ('0', item.mode()),
        Kind::Symlink => ('2', 0o777),
        Kind::CharDevice => ('3', item.mode()),
        Kind::BlockDevice => ('4', item.mode()),
        Kind::Directory => ('5', item.mode()),
        Kind::Fifo => ('6', item.mode()),
        Kind::Socket => return Ok(None),
    };
    let bytes = tree.bytes(item);
    let size = bytes.as_ref().map_or(0, |bytes| bytes.size);
    let (uid, gid) = item.owner();
    let device = item.device();
    let mut hasher = Hasher::new();
    hasher.update(format!("namemode{}uid{uid}gid{gid}size{size}typeflag{kind}linkname", mode & 0o7777).as_bytes());
    hasher.update(item.target());
    hasher.update(format!("unamegnamedevmajor{}devminor{}", device.major, device.minor).as_bytes());
    match (item.kind(), bytes) {
        (Kind::File, None) => Ok(None),
        (_, Some(bytes)) if !hash_bytes(&bytes, &mut hasher, buffer)? => Ok(None),
        _ => Ok(Some(hasher.finish())),
    }
}

/// Whether the bytes are still those that the build has seen.
fn hash_bytes(bytes: &Bytes, hasher: &mut Hasher, buffer: &mut Vec<u8>) -> Result<bool, FileError> {
    buffer.resize(CHUNK, 0);
    let mut file = bytes.open()?;
    let mut seen = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(seen.finish() == bytes.digest),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                seen.update(&buffer[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
}

/// The digest of a directory, the first of these items, with all below it.
fn directory(items: &[Item], headers: &[Digest]) -> Option<Digest> {
    let mut open: Vec<(&[u8], Hasher)> = Vec::new();
    for (item, header) in items.iter().zip(headers) {
        while open.last().is_some_and(|(path, _)| *path != paths::parent(&item.path)) {
            close(&mut open);
        }
        if item.kind() == Kind::Directory {
            let mut hasher = Hasher::new();
            hasher.update(b"\0");
            hasher.update(header.to_string().as_bytes());
            open.push((&item.path, hasher));
        } else if let Some((_, above)) = open.last_mut() {
            add_child(above, &item.path, header);
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|(_, hasher)| hasher.finish())
}

/// Ends the innermost directory and adds it to the one around it.
fn close(open: &mut Vec<(&[u8], Hasher)>) {
    let Some((path, hasher)) = open.pop() else { return };
    if let Some((_, above)) = open.last_mut() {
        add_child(above, path, &hasher.finish());
    }
}

fn add_child(above: &mut Hasher, path: &[u8], digest: &Digest) {
    above.update(b"\0");
    above.update(paths::name(path));
    above.update(digest.to_string().as_bytes());
}
