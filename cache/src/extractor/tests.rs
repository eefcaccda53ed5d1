//! Hostile and odd archives.

use crate::archive::ArchiveError;
use crate::testing::*;
use crate::{EntryKind, StoreError, StoredLayer};

/// An archive made by hand.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// Adds a member with whatever header fields.
    fn add(mut self, kind: u8, path: &str, target: &str, content: &[u8]) -> Self {
        self.put(kind, path.as_bytes(), target.as_bytes(), content, |_| {});
        self
    }

    fn put(&mut self, kind: u8, path: &[u8], target: &[u8], content: &[u8], change: impl FnOnce(&mut [u8; 512])) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_mtime(1);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path);
        bytes[157..157 + target.len()].copy_from_slice(target);
        bytes[156] = kind;
        change(bytes);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(b'0', path, "", content.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.add(b'5', path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.add(b'2', path, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(b'1', path, target, b"")
    }

    /// Adds a PAX header with one record, its length counted.
    fn record(self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..rest + 9).find(|length| length.to_string().len() + rest == *length).unwrap();
        self.pax(&[format!("{length} {key}=").as_bytes(), value, b"\n"].concat())
    }

    fn pax(mut self, records: &[u8]) -> Self {
        self.put(b'x', b"pax", b"", records, |_| {});
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Imports an archive; the layer and what it says of itself.
fn unpack(tar: Tar) -> Result<(tempfile::TempDir, StoredLayer), StoreError> {
    let (root, store) = store();
    let result = import(&store, &tar.end());
    assert_eq!(left_in_tmp(&store), 0);
    if result.is_err() {
        assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
    }
    Ok((root, result?))
}

fn refused(tar: Tar) -> String {
    match unpack(tar) {
        Err(StoreError::Archive(error @ (ArchiveError::Refused { .. } | ArchiveError::Malformed { .. }))) => {
            error.to_string()
        }
        Err(error) => panic!("{error}"),
        Ok((_, layer)) => panic!("{:?}", paths(&layer)),
    }
}

fn content(layer: &StoredLayer, path: &str) -> String {
    let entry = layer.index().get(path.as_bytes()).unwrap();
    std::io::read_to_string(layer.open(&entry).unwrap()).unwrap()
}

#[test]
fn paths_that_lead_out_are_refused() {
    let cases = [
        Tar::default().file("../evil", "x"),
        Tar::default().file("a/../../evil", "x"),
        Tar::default().directory(".."),
        Tar::default().file("/../evil", "x"),
        Tar::default().file("a", "x").hard_link("b", "../../etc/passwd"),
    ];
    for case in cases {
        refused(case);
    }
}

#[test]
fn paths_are_cleaned() {
    let tar =
        Tar::default().file("/abs", "1").file("./a//b/./c", "2").file("x/../y", "3").directory("./").directory("d/");
    let (_root, layer) = unpack(tar).unwrap();
    assert_eq!(paths(&layer), ["a", "a/b", "a/b/c", "abs", "d", "y"]);
    let made = layer.index().get(b"a/b").unwrap();
    assert_eq!((made.mode, made.uid, made.mtime.seconds), (0o755, 0, 0));
}

#[test]
fn symbolic_links_are_followed_within_the_layer() {
    let tar = Tar::default()
        .symlink("lib", "usr/lib")
        .file("lib/a", "1")
        .symlink("up", "../../../../usr/lib")
        .file("up/b", "2")
        .symlink("abs", "/etc")
        .file("abs/passwd", "3")
        .symlink("usr/lib/back", "..")
        .file("lib/back/share/c", "4")
        .hard_link("linked", "lib/a");
    let (_root, layer) = unpack(tar).unwrap();
    let expected = [
        "abs",
        "etc",
        "etc/passwd",
        "lib",
        "linked",
        "up",
        "usr",
        "usr/lib",
        "usr/lib/a",
        "usr/lib/b",
        "usr/lib/back",
        "usr/share",
        "usr/share/c",
    ];
    assert_eq!(paths(&layer), expected);
    assert_eq!(content(&layer, "etc/passwd"), "3");
    assert_eq!(content(&layer, "linked"), "1");
    assert_ne!(std::fs::read_to_string("/etc/passwd").unwrap(), "3");
}

#[test]
fn a_symbolic_link_at_the_end_is_replaced_not_followed() {
    let tar = Tar::default().symlink("a", "/etc/passwd").file("a", "mine").symlink("d", "/etc").directory("d");
    let (_root, layer) = unpack(tar).unwrap();
    assert_eq!(content(&layer, "a"), "mine");
    assert!(layer.index().get(b"d").unwrap().is_directory());
    assert!(std::fs::symlink_metadata(layer.mount_source().join("d")).unwrap().is_dir());
}

#[test]
fn circles_of_symbolic_links_are_refused() {
    let tar = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "x");
    assert!(refused(tar).contains("too many symbolic links"));
    assert!(refused(Tar::default().file("a", "x").file("a/b", "x")).contains("not a directory"));
}

#[test]
fn hard_links_stay_inside() {
    for target in ["/etc/passwd", "missing", "d", "a/b", ""] {
        let tar = Tar::default().directory("d").symlink("a", "/etc").hard_link("l", target);
        refused(tar);
    }
    let (_root, layer) = unpack(Tar::default().symlink("s", "/etc/passwd").hard_link("l", "/s")).unwrap();
    let entry = layer.index().get(b"l").unwrap();
    assert_eq!((entry.kind, entry.target), (EntryKind::Symlink, &b"/etc/passwd"[..]));
    let (_root, layer) = unpack(Tar::default().file("z", "x").hard_link("a", "z").hard_link("z", "z")).unwrap();
    assert_eq!(layer.index().get(b"z").unwrap().target, b"a");
}

#[test]
fn later_members_replace_earlier_ones() {
    let tar = Tar::default()
        .file("a", "first")
        .file("a", "second")
        .file("d/deep/x", "x")
        .file("d", "now a file")
        .file("f", "x")
        .directory("f")
        .file("f/in", "y")
        .file("h", "shared")
        .hard_link("i", "h")
        .file("h", "own");
    let (_root, layer) = unpack(tar).unwrap();
    assert_eq!(paths(&layer), ["a", "d", "f", "f/in", "h", "i"]);
    assert_eq!([content(&layer, "a"), content(&layer, "d")], ["second", "now a file"]);
    assert_eq!([content(&layer, "h"), content(&layer, "i")], ["own", "shared"]);
    assert_eq!(layer.index().get(b"i").unwrap().kind, EntryKind::File);
    refused(Tar::default().file("d/x", "x").hard_link("d", "d/x"));
}

#[test]
fn directories_keep_what_is_in_them() {
    let mut tar = Tar::default().directory("d").file("d/x", "x");
    tar.put(b'5', b"d", b"", b"", |header| header[100..108].copy_from_slice(b"0000500\0"));
    let (_root, layer) = unpack(tar).unwrap();
    assert_eq!(paths(&layer), ["d", "d/x"]);
    assert_eq!(layer.index().get(b"d").unwrap().mode, 0o500);
}

#[test]
fn whiteouts_count_for_lower_layers_wherever_they_stand() {
    let tar = Tar::default()
        .file("d/.wh..wh..opq", "")
        .file("d/new", "x")
        .file("e/new", "x")
        .file("e/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .file(".wh.back", "")
        .file("back", "x")
        .file("stays", "x")
        .file(".wh.stays", "")
        .file(".wh.dir", "")
        .file("dir/x", "x")
        .directory("dir2")
        .file(".wh.dir2", "")
        .file(".wh..wh.aufs", "")
        .file(".wh..wh.plnk/1.2", "");
    let (_root, layer) = unpack(tar).unwrap();
    assert_eq!(paths(&layer), ["back", "d", "d/new", "dir", "dir/x", "dir2", "e", "e/new", "gone", "stays"]);
    let kind = |path: &str| layer.index().get(path.as_bytes()).unwrap().kind;
    for path in ["d", "e", "dir", "dir2"] {
        assert_eq!(kind(path), EntryKind::Directory { opaque: true }, "{path}");
        let mut mark = [0; 4];
        let length = rustix::fs::lgetxattr(layer.mount_source().join(path), "trusted.overlay.opaque", &mut mark[..]);
        assert_eq!(length.map(|length| &mark[..length]), Ok(&b"y"[..]));
    }
    assert_eq!((kind("gone"), kind("back"), kind("stays")), (EntryKind::Whiteout, EntryKind::File, EntryKind::File));
}

#[test]
fn senseless_whiteouts_are_refused() {
    for path in [".wh.", "d/.wh..", ".wh...", ".wh..wh..opq", ".wh.d/file"] {
        refused(Tar::default().file(path, ""));
    }
    refused(Tar::default().file(".wh.a", "").hard_link("b", "a"));
}

#[test]
fn marks_of_overlayfs_are_not_taken_from_archives() {
    let tar = Tar::default()
        .record("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .record("SCHILY.xattr.user.mine", b"value\n")
        .directory("d");
    let (_root, layer) = unpack(tar).unwrap();
    let xattrs: Vec<_> = layer.index().get(b"d").unwrap().xattrs().collect();
    assert_eq!(xattrs, [(&b"user.mine"[..], &b"value\n"[..])]);
    let names = shell(layer.mount_source(), "getfattr -m - d 2>/dev/null | grep -v '^#' || true");
    assert_eq!(names.trim(), "user.mine");
}

#[test]
fn pax_headers_say_more_than_ustar_can() {
    let long = format!("{}/x", "l".repeat(200));
    let records = [("path", long.as_str()), ("uid", "3000000"), ("gid", "4000000"), ("mtime", "-5.25")];
    let tar = records.iter().fold(Tar::default(), |tar, (key, value)| tar.record(key, value.as_bytes()));
    let (_root, layer) = unpack(tar.file("short", "x")).unwrap();
    let entry = layer.index().get(long.as_bytes()).unwrap();
    assert_eq!((entry.uid, entry.gid), (3_000_000, 4_000_000));
    assert_eq!((entry.mtime.seconds, entry.mtime.nanos), (-6, 750_000_000));
}

#[test]
fn headers_that_say_nonsense_are_malformed() {
    let changed = |change: fn(&mut [u8; 512])| {
        let mut tar = Tar::default();
        tar.put(b'0', b"a", b"", b"content", change);
        tar
    };
    refused(changed(|header| header[108..116].copy_from_slice(b"zzzzzzzz")));
    refused(changed(|header| header[124..136].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00")));
    refused(changed(|header| header[108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff")));
    refused(changed(|header| header[156] = b'M'));
    refused(Tar::default().pax(b"99 path=short\n").file("a", "x"));
    refused(Tar::default().record("path", b"a\0b").file("a", "x"));
    refused(Tar::default().record("uid", b"4294967295").file("a", "x"));
    let mut tar = Tar::default().file("a", "x");
    tar.0[0] = b'b';
    assert!(refused(tar).contains("checksum"));
    let mut tar = Tar::default();
    tar.put(b'L', b"x", b"", b"", |header| header[124..136].copy_from_slice(b"77777777777\0"));
    assert!(refused(tar).contains("longer than 1 MiB"));
}

#[test]
fn sizes_beyond_the_stream_are_errors() {
    for size in [b"77777777777\0", b"00000010001\0", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"] {
        for kind in [b'0', b'S', b'g'] {
            let mut tar = Tar::default();
            tar.put(kind, b"a", b"", b"few", |header| header[124..136].copy_from_slice(size));
            let (_root, store) = store();
            assert!(import(&store, &tar.end()).is_err(), "{kind}");
            assert_eq!(left_in_tmp(&store), 0);
        }
    }
}

#[test]
fn maps_of_sparse_files_are_checked() {
    let cases: [&[(&str, &str)]; 6] = [
        &[("major", "1"), ("minor", "0")],
        &[("map", "0,1,0,6"), ("size", "50")],
        &[("map", "10,1,0,6"), ("size", "50")],
        &[("map", "0,99999999999")],
        &[("map", "0,18446744073709551615,18446744073709551615,8")],
        &[("numbytes", "7")],
    ];
    for case in cases {
        let add = |tar: Tar, (key, value): &(&str, &str)| tar.record(&format!("GNU.sparse.{key}"), value.as_bytes());
        refused(case.iter().fold(Tar::default(), add).file("a", "content"));
    }
    let map = [("map", "2,3,9,4"), ("size", "20")];
    let tar =
        map.iter().fold(Tar::default(), |tar, (key, value)| tar.record(&format!("GNU.sparse.{key}"), value.as_bytes()));
    let (_root, layer) = unpack(tar.file("a", "content")).unwrap();
    assert_eq!(content(&layer, "a"), "\0\0con\0\0\0\0tent\0\0\0\0\0\0\0");
}

#[test]
fn holes_take_no_room_on_disk() {
    use std::os::unix::fs::MetadataExt as _;
    let map = [("map", "1048576,7"), ("size", "268435456")];
    let tar =
        map.iter().fold(Tar::default(), |tar, (key, value)| tar.record(&format!("GNU.sparse.{key}"), value.as_bytes()));
    let zeros = "\0".repeat(3 << 20);
    let (_root, layer) = unpack(tar.file("a", "content").file("zeros", &zeros)).unwrap();
    let file = std::fs::File::open(layer.mount_source().join("a")).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 256 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let mut bytes = [1; 9];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, (1 << 20) - 1).unwrap();
    assert_eq!(&bytes, b"\0content\0");
    assert!(content(&layer, "zeros") == zeros);
}

#[test]
fn headers_of_a_member_do_not_pile_up() {
    let piles = |count: usize| {
        let value = vec![b'x'; 1_000_000];
        (0..count).fold(Tar::default(), |tar, number| tar.record(&format!("comment{number}"), &value)).file("a", "x")
    };
    assert_eq!(paths(&unpack(piles(4)).unwrap().1), ["a"]);
    assert!(refused(piles(5)).contains("longer than 4 MiB"));
}

/// What was replaced used to stay in memory to the end.
#[test]
fn what_is_replaced_is_forgotten() {
    use super::tree::{ROOT, Tree};
    use crate::index::Record;
    let mut tree = Tree::new();
    for _ in 0..100 {
        let directory = tree.insert(ROOT, b"d", Record::new(Vec::new(), EntryKind::Directory { opaque: false }, 0o755));
        tree.insert(directory, b"f", Record::new(Vec::new(), EntryKind::File, 0o644));
        tree.remove(ROOT, b"d");
    }
    let file = tree.insert(ROOT, b"f", Record::new(Vec::new(), EntryKind::File, 0o644));
    tree.insert_link(ROOT, b"g", file);
    assert_eq!(tree.size(), 3);
}

#[test]
fn devices_pipes_and_modes_are_made() {
    let mut tar = Tar::default().add(b'3', "null", "", b"").add(b'4', "disk", "", b"").add(b'6', "pipe", "", b"");
    tar.put(b'0', b"su", b"", b"x", |header| {
        header[100..108].copy_from_slice(b"0006755\0");
        header[108..116].copy_from_slice(b"0000007\0");
    });
    let (_root, layer) = unpack(tar).unwrap();
    let list = shell(layer.mount_source(), "stat -c '%n %F %a %u %t:%T' *");
    assert_eq!(
        list,
        "disk block special file 644 0 1:3\nnull character special file 644 0 1:3\npipe fifo 644 0 0:0\n\
         su regular file 6755 7 0:0\n"
    );
}

#[test]
fn an_archive_may_end_without_its_empty_blocks() {
    let (_root, store) = store();
    let mut bytes = Tar::default().file("a", "x").0;
    assert_eq!(paths(&import(&store, &bytes).unwrap()), ["a"]);
    bytes.extend([0; 1024]);
    bytes.extend(b"what is behind the end is hashed and nothing else");
    assert_eq!(paths(&import(&store, &bytes).unwrap()), ["a"]);
    assert!(import(&store, b"").unwrap().index().is_empty());
}

#[test]
fn any_flipped_byte_is_survived() {
    let whole = Tar::default()
        .directory("d")
        .record("SCHILY.xattr.user.a", b"value")
        .file("d/f", "content")
        .symlink("l", "d")
        .hard_link("d/h", "l/f")
        .file("d/.wh.x", "")
        .end();
    let (_folder, folder) = folder();
    for position in (0..whole.len() - 1024).filter(|position| position % 512 < 345) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x41;
        let header = position / 512 * 512;
        // With a right checksum, so that the damage is looked at.
        let byte = |at: usize| if (148..156).contains(&at) { 32 } else { u32::from(damaged[header + at]) };
        let sum: u32 = (0..512).map(byte).sum();
        if !(148..156).contains(&(position % 512)) {
            damaged[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let root = folder.join("root");
        std::fs::create_dir(&root).unwrap();
        let _ = super::extract(
            &damaged[..],
            crate::sys::open_directory(&root).unwrap(),
            crate::Whiteouts::Trusted,
            crate::Allowance::unlimited(),
        );
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
