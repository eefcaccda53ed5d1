//! The records of a PAX header.

use std::collections::BTreeMap;

use super::sparse::Map;
use super::{XATTR, number};

/// What PAX headers, and GNU's headers for long names, say about the member that comes after them.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Option<Sparse>,
}

/// What they say about a sparse file.
#[derive(Default)]
pub(super) struct Sparse {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) map: Map,
    /// Version 1: the map is in front of the content.
    pub(super) map_in_content: bool,
    offset: Option<u64>,
}

impl Extensions {
    /// Takes in the records of a PAX header. An empty value takes the record of an earlier header back.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let (key, value, rest) = next_record(bytes).ok_or("a PAX record is malformed")?;
            self.take_record(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let decimal = || match value {
            [] => Ok(None),
            _ => number::decimal(value).map(Some).ok_or("a PAX number is malformed"),
        };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.target = text(),
            b"size" => self.size = decimal()?,
            b"uid" => self.uid = decimal()?,
            b"gid" => self.gid = decimal()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(number::time(value).ok_or("a PAX time is malformed")?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    let sparse = self.sparse.get_or_insert_default();
                    sparse.take_record(key, value).ok_or("the map of a sparse file is malformed")?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.map_in_content = number::decimal(value)? == 1,
            b"name" => self.path = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number::decimal(value)?),
            b"map" => self.map = Map::from_list(value)?,
            b"offset" => self.offset = Some(number::decimal(value)?),
            b"numbytes" => self.map.push(self.offset.take()?, number::decimal(value)?)?,
            _ => {}
        }
        Some(())
    }
}

/// The first record of a PAX header: key, value and what is behind it.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number::decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_by_their_length() {
        let mut extensions = Extensions::default();
        extensions.take(b"12 path=a\nb\n30 SCHILY.xattr.user.k=\0\n=\xff\nx\n10 size=7\n").unwrap();
        assert_eq!(extensions.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(extensions.size, Some(7));
        assert_eq!(extensions.xattrs[&b"user.k"[..]], b"\0\n=\xff\nx");
        extensions.take(b"8 path=\n").unwrap();
        assert_eq!(extensions.path, None);
    }

    #[test]
    fn malformed_records_are_errors() {
        for bytes in ["x", "5 a=b", "99 path=a\n", "0 \n", "6 a=bc", "7 path\n", "5 =bc\n", "10 size=x\n", "-8 path=\n"]
        {
            assert!(Extensions::default().take(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
