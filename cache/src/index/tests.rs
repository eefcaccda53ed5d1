//! What is pushed is found again, and damage is an error.

use super::*;
use crate::StoreError;
use kiln_solver::Digest;

fn directory(path: &str) -> Record {
    Record::new(path.into(), EntryKind::Directory { opaque: false }, 0o755)
}

fn file(path: &str, content: &[u8]) -> Record {
    let mut record = Record::new(path.into(), EntryKind::File, 0o644);
    record.size = content.len() as u64;
    record.content = Some(Digest::of(content));
    record
}

fn bytes(records: Vec<Record>) -> (Vec<u8>, Digest) {
    let mut builder = Builder::default();
    records.into_iter().for_each(|record| builder.push(record));
    builder.finish()
}

fn open(bytes: &[u8]) -> Result<Index, StoreError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    std::fs::write(&path, bytes).unwrap();
    Index::open(&path)
}

fn sample() -> Vec<Record> {
    let mut link = Record::new(b"a/link".to_vec(), EntryKind::Symlink, 0o777);
    link.target = b"../etc".to_vec();
    link.mtime = Timestamp { seconds: -7, nanos: 5 };
    let mut special = file("a/f", b"x");
    special.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())];
    let mut device = Record::new(b"null".to_vec(), EntryKind::CharDevice, 0o666);
    device.device = Device { major: 1, minor: 3 };
    vec![
        directory("a"),
        special,
        link,
        directory("a/sub"),
        file("a/sub/deep", b""),
        file("a-b", b"y"),
        file("a.c", b"z"),
        Record::whiteout(b"gone".to_vec()),
        device,
    ]
}

#[test]
fn entries_come_back_in_order() {
    let mut records = sample();
    let expected = records.clone();
    records.reverse();
    let index = open(&bytes(records).0).unwrap();
    let paths: Vec<_> = index.entries().map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect();
    assert_eq!(paths, ["a", "a/f", "a/link", "a/sub", "a/sub/deep", "a-b", "a.c", "gone", "null"]);
    for record in &expected {
        let entry = index.get(&record.path).unwrap();
        let xattrs: Vec<_> = entry.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!((entry.kind, entry.mode, entry.size), (record.kind, record.mode, record.size));
        assert_eq!((entry.target, entry.mtime, entry.device), (&record.target[..], record.mtime, record.device));
        assert_eq!((entry.content, xattrs), (record.content, record.xattrs.clone()));
    }
    for missing in ["", "b", "a/", "a/su", "a/sub/deeper", "zzz"] {
        assert!(index.get(missing.as_bytes()).is_none(), "{missing}");
    }
}

#[test]
fn directories_list_what_is_theirs() {
    let index = open(&bytes(sample()).0).unwrap();
    let names = |path: &str| -> Vec<_> {
        index.children(path.as_bytes()).map(|entry| String::from_utf8_lossy(entry.name()).into_owned()).collect()
    };
    assert_eq!(names(""), ["a", "a-b", "a.c", "gone", "null"]);
    assert_eq!(names("a"), ["f", "link", "sub"]);
    assert_eq!(names("a/sub"), ["deep"]);
    assert!(names("a-b").is_empty() && names("nothing").is_empty());
    assert_eq!(index.below(b"a").count(), 4);
}

#[test]
fn positions_lead_to_what_lies_below() {
    let index = open(&bytes(sample()).0).unwrap();
    for (position, entry) in index.entries().enumerate() {
        assert_eq!(index.path_at(position), entry.path);
        assert_eq!(index.at(position).unwrap().path, entry.path);
        assert_eq!(index.positions_below(position).len(), index.below(entry.path).count(), "{:?}", entry.path);
        let (directory, name) = split(entry.path);
        let siblings = match (0..index.len()).find(|&position| index.path_at(position) == directory) {
            Some(position) => index.positions_below(position),
            None => 0..index.len(),
        };
        for start in siblings.start..=position {
            assert_eq!(index.position_in(start..siblings.end, directory, name), Some(position));
        }
        assert_eq!(index.position_in(position + 1..siblings.end, directory, name), None);
        assert_eq!(index.position_in(siblings, directory, b"b"), None);
    }
    assert!(index.at(index.len()).is_none() && index.path_at(usize::MAX).is_empty());
    assert!(index.positions_below(usize::MAX).is_empty());
    assert_eq!(index.position_in(0..usize::MAX, b"", b"null"), Some(index.len() - 1));
}

#[test]
fn the_content_digest_counts_all_but_times() {
    let digest = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = sample();
        change(&mut records);
        bytes(records).1
    };
    let plain = digest(&|_| {});
    assert_eq!(plain.to_string(), "sha256:35828667c7a7758c78119c65385ed22768345e50ba6d6d34698f717c88bea696");
    assert_eq!(digest(&|records| records[1].mtime.seconds = 9), plain);
    assert_eq!(digest(&|records| records.reverse()), plain);
    type Change = dyn Fn(&mut Vec<Record>);
    let changes: [&Change; 9] = [
        &|records| records[1].mode = 0o600,
        &|records| records[1].uid = 1,
        &|records| records[1].gid = 1,
        &|records| records[1].content = Some(Digest::of(b"other")),
        &|records| records[1].xattrs[1].1 = b"v".to_vec(),
        &|records| records[2].target = b"/etc".to_vec(),
        &|records| records[8].device.minor = 5,
        &|records| records[0].kind = EntryKind::Directory { opaque: true },
        &|records| records[5].path = b"a-c".to_vec(),
    ];
    for (number, change) in changes.iter().enumerate() {
        assert_ne!(digest(change), plain, "{number}");
    }
}

#[test]
fn an_empty_index_is_one() {
    let index = open(&bytes(Vec::new()).0).unwrap();
    assert!(index.is_empty() && index.children(b"").next().is_none());
}

#[test]
fn any_flipped_byte_is_harmless_or_an_error() {
    let whole = bytes(sample()).0;
    for position in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] ^= flip;
            if let Ok(index) = open(&damaged) {
                assert!(index.entries().map(|entry| entry.xattrs().count()).sum::<usize>() < whole.len());
                index.children(b"a").for_each(drop);
                index.get(b"a/sub/deep");
            }
        }
    }
}

#[test]
fn any_cut_is_an_error() {
    let whole = bytes(sample()).0;
    for length in 0..whole.len() {
        assert!(open(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn improper_paths_are_damage() {
    let cases = [
        vec![file("a/b", b"")],
        vec![file("a", b""), file("a/b", b"")],
        vec![file("..", b"")],
        vec![directory("a"), file("a/..", b"")],
        vec![file("/etc", b"")],
        vec![file("", b"")],
        vec![file("a", b""), file("a", b"")],
        vec![file("a\0b", b"")],
    ];
    for case in cases {
        assert!(open(&bytes(case.clone()).0).is_err(), "{case:?}");
    }
}
