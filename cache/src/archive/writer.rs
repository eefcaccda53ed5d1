//! Writes the headers of an archive: ustar, with a PAX header before it for what ustar cannot hold.
//!
//! What is written depends on the entry alone: no time of access, no user names, whole seconds, PAX records in
//! one order. So the same files give the same archive, and the same diffID, on any machine.

use super::sparse::Part;
use super::{OPAQUE, WHITEOUT, XATTR};
use crate::index::{Device, Entry, EntryKind, Record, join, split};

/// What is written of an entry before its content.
pub(crate) struct Head<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    /// Of the second; archives of layers have whole ones.
    pub(crate) nanos: u32,
    pub(crate) device: Device,
    pub(crate) target: &'a [u8],
    pub(crate) xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Head<'a> {
    /// A directory that is in no layer.
    pub(crate) fn directory(path: &'a [u8], mtime: i64) -> Self {
        Self {
            path,
            kind: EntryKind::Directory { opaque: false },
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime,
            nanos: 0,
            device: Device::default(),
            target: &[],
            xattrs: Vec::new(),
        }
    }
}

impl<'a> From<&Entry<'a>> for Head<'a> {
    fn from(entry: &Entry<'a>) -> Self {
        Self {
            path: entry.path,
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: entry.mtime.seconds,
            nanos: 0,
            device: entry.device,
            target: entry.target,
            xattrs: entry.xattrs().collect(),
        }
    }
}

impl<'a> From<&'a Record> for Head<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            path: &record.path,
            kind: record.kind,
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            size: record.size,
            mtime: record.mtime.seconds,
            nanos: 0,
            device: record.device,
            target: &record.target,
            xattrs: record.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect(),
        }
    }
}

/// Appends all that comes before the content of an entry; for a regular file the content and
/// [`put_padding`] must follow.
pub(crate) fn put_entry(head: &Head<'_>, output: &mut Vec<u8>) {
    match head.kind {
        EntryKind::Whiteout => {
            let (parent, name) = split(head.path);
            put_mark(&join(parent, &[WHITEOUT, name].concat()), output);
        }
        EntryKind::Directory { opaque } => {
            let path = [head.path, b"/"].concat();
            put_member(head, &path, b'5', Vec::new(), output);
            if opaque {
                put_mark(&join(head.path, OPAQUE), output);
            }
        }
        EntryKind::File => put_member(head, head.path, b'0', Vec::new(), output),
        EntryKind::HardLink => put_member(head, head.path, b'1', Vec::new(), output),
        EntryKind::Symlink => put_member(head, head.path, b'2', Vec::new(), output),
        EntryKind::CharDevice => put_member(head, head.path, b'3', Vec::new(), output),
        EntryKind::BlockDevice => put_member(head, head.path, b'4', Vec::new(), output),
        EntryKind::Fifo => put_member(head, head.path, b'6', Vec::new(), output),
    }
}

/// Appends what comes before the parts of a sparse regular file that have data, in GNU's PAX format 1.0, which GNU tar and
/// libarchive read. The bytes of these parts must follow, one behind another, and padding as if the content had the size
/// that this returns. The parts are in order, and lie in the file.
pub(crate) fn put_sparse(head: &Head<'_>, parts: &[Part], output: &mut Vec<u8>) -> u64 {
    // Where a file ends in a hole, its end is an empty part.
    let last = Part { offset: head.size, length: 0 };
    let ends_in_hole = parts.last().is_none_or(|part| part.offset + part.length < head.size);
    let parts: Vec<&Part> = parts.iter().chain(ends_in_hole.then_some(&last)).collect();
    let mut map = format!("{}\n", parts.len());
    for part in &parts {
        map.push_str(&format!("{}\n{}\n", part.offset, part.length));
    }
    let mut map = map.into_bytes();
    put_padding(map.len() as u64, &mut map);
    let stored = map.len() as u64 + parts.iter().map(|part| part.length).sum::<u64>();
    let mut records = Vec::new();
    put_record(b"GNU.sparse.major", b"1", &mut records);
    put_record(b"GNU.sparse.minor", b"0", &mut records);
    put_record(b"GNU.sparse.name", head.path, &mut records);
    put_record(b"GNU.sparse.realsize", head.size.to_string().as_bytes(), &mut records);
    // The name that programs see which know nothing of it.
    let (parent, name) = split(head.path);
    let path = join(parent, &[b"GNUSparseFile.0/", name].concat());
    let (path, xattrs) = (&path[..], head.xattrs.clone());
    put_member(&Head { path, size: stored, xattrs, ..*head }, path, b'0', records, output);
    output.extend_from_slice(&map);
    stored
}

/// Fills the last block of a content of this size.
pub(crate) fn put_padding(size: u64, output: &mut Vec<u8>) {
    output.resize(output.len() + (512 - (size % 512) as usize) % 512, 0);
}

/// What comes behind the last entry.
pub(crate) fn end() -> [u8; 1024] {
    [0; 1024]
}

/// An empty file whose name is what counts.
fn put_mark(path: &[u8], output: &mut Vec<u8>) {
    let kind = EntryKind::File;
    let mark = Head {
        path,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        nanos: 0,
        device: Device::default(),
        target: &[],
        xattrs: Vec::new(),
    };
    put_member(&mark, path, b'0', Vec::new(), output);
}

/// `pax` are records that it has anyway.
fn put_member(head: &Head<'_>, path: &[u8], kind: u8, mut pax: Vec<u8>, output: &mut Vec<u8>) {
    let size = if kind == b'0' { head.size } else { 0 };
    let mut header = tar::Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        match split_path(path) {
            Some((prefix, name)) => {
                put_text(&mut ustar.prefix, prefix);
                put_text(&mut ustar.name, name);
            }
            None => {
                put_text(&mut ustar.name, path);
                put_record(b"path", path, &mut pax);
            }
        }
        if head.target.len() > ustar.linkname.len() || !head.target.is_ascii() {
            put_record(b"linkpath", head.target, &mut pax);
        }
        put_text(&mut ustar.linkname, head.target);
        ustar.typeflag = [kind];
        put_number(&mut ustar.mode, u64::from(head.mode));
        put_counted(b"uid", &mut ustar.uid, i128::from(head.uid), &mut pax);
        put_counted(b"gid", &mut ustar.gid, i128::from(head.gid), &mut pax);
        put_counted(b"size", &mut ustar.size, i128::from(size), &mut pax);
        match head.nanos {
            0 => put_counted(b"mtime", &mut ustar.mtime, i128::from(head.mtime), &mut pax),
            nanos => {
                put_number(&mut ustar.mtime, head.mtime.max(0).unsigned_abs());
                put_record(b"mtime", fraction(head.mtime, nanos).as_bytes(), &mut pax);
            }
        }
        put_number(&mut ustar.dev_major, u64::from(head.device.major));
        put_number(&mut ustar.dev_minor, u64::from(head.device.minor));
    }
    if kind != b'1' {
        for (name, value) in &head.xattrs {
            put_record(&[XATTR, name].concat(), value, &mut pax);
        }
    }
    put_pax(path, &pax, output);
    header.set_cksum();
    output.extend_from_slice(header.as_bytes());
}

/// The PAX header that carries these records for the member after it, if there are any.
fn put_pax(path: &[u8], records: &[u8], output: &mut Vec<u8>) {
    if records.is_empty() {
        return;
    }
    let mut header = tar::Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        let name = split(path.strip_suffix(b"/").unwrap_or(path)).1;
        put_text(&mut ustar.name, &[b"PaxHeaders.0/", name].concat());
        ustar.typeflag = *b"x";
        put_number(&mut ustar.mode, 0o644);
        put_number(&mut ustar.uid, 0);
        put_number(&mut ustar.gid, 0);
        put_number(&mut ustar.size, records.len() as u64);
        put_number(&mut ustar.mtime, 0);
    }
    header.set_cksum();
    output.extend_from_slice(header.as_bytes());
    output.extend_from_slice(records);
    put_padding(records.len() as u64, output);
}

/// How ustar holds a path: prefix and name. `None` where it cannot.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((&[], path));
    }
    // The slash at the end of a directory is part of its name.
    let slash = path[..path.len() - 1].iter().take(156).rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!prefix.is_empty() && name.len() <= 100).then_some((prefix, name))
}

/// As much of a text as fits.
fn put_text(field: &mut [u8], text: &[u8]) {
    let count = field.len().min(text.len());
    field[..count].copy_from_slice(&text[..count]);
}

/// A number as octal digits and a NUL; one that is too large is cut.
fn put_number(field: &mut [u8], mut number: u64) {
    if let Some((last, digits)) = field.split_last_mut() {
        *last = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number & 7) as u8;
            number >>= 3;
        }
    }
}

/// A number in its field where it fits, else as a PAX record.
fn put_counted(key: &[u8], field: &mut [u8], number: i128, pax: &mut Vec<u8>) {
    let most = (1_i128 << (3 * (field.len() - 1))) - 1;
    if (0..=most).contains(&number) {
        put_number(field, number.unsigned_abs() as u64);
    } else {
        put_number(field, 0);
        put_record(key, number.to_string().as_bytes(), pax);
    }
}

/// A time with nanoseconds in decimal.
fn fraction(seconds: i64, nanos: u32) -> String {
    match seconds {
        0.. => format!("{seconds}.{nanos:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000_u32.saturating_sub(nanos)),
    }
}

/// A PAX record: its own length in decimal, a space, `key=value` and a line feed.
fn put_record(key: &[u8], value: &[u8], output: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() + rest > length {
        length = rest + length.to_string().len();
    }
    output.extend_from_slice(length.to_string().as_bytes());
    output.push(b' ');
    output.extend_from_slice(key);
    output.push(b'=');
    output.extend_from_slice(value);
    output.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [0, 1, 80, 90, 91, 92, 93, 94, 95, 985, 990, 991, 992, 993, 9990] {
            let mut record = Vec::new();
            put_record(b"path", &vec![b'x'; length], &mut record);
            let space = record.iter().position(|byte| *byte == b' ').unwrap();
            let told: usize = std::str::from_utf8(&record[..space]).unwrap().parse().unwrap();
            assert_eq!(told, record.len(), "{length}");
        }
    }

    #[test]
    fn times_before_1970_have_fractions() {
        assert_eq!(fraction(1, 5), "1.000000005");
        assert_eq!(fraction(-2, 750_000_000), "-1.250000000");
        assert_eq!(fraction(-1, 1), "-0.999999999");
    }

    #[test]
    fn long_paths_are_split_where_ustar_can() {
        let name = "n".repeat(100);
        let prefix = "p".repeat(155);
        assert!(split_path(name.as_bytes()).is_some());
        assert!(split_path(format!("{name}n").as_bytes()).is_none());
        assert_eq!(split_path(format!("{prefix}/{name}").as_bytes()), Some((prefix.as_bytes(), name.as_bytes())));
        assert!(split_path(format!("{prefix}p/{name}").as_bytes()).is_none());
        assert!(split_path(format!("{prefix}/{name}/").as_bytes()).is_none());
        assert!(split_path("é".as_bytes()).is_none());
    }
}
