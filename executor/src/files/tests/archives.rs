//! `ADD` of archives.

use std::io::Write;

use super::*;

fn archive(members: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_400_000_000);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, b'1' | b'2');
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_cksum();
        builder.append(&header, if is_link { &b""[..] } else { content.as_bytes() }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn add(source: &str, destination: &str) -> CopyAction {
    CopyAction { unpack: true, ..from_to(source, destination) }
}

#[test]
fn archives_are_unpacked_whatever_their_compression() {
    let world = World::new(&[]);
    let tar = archive(&[("d/", b'5', ""), ("d/f", b'0', "x"), ("l", b'2', "d/f"), ("h", b'1', "d/f")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    let forms = [
        ("tar", tar.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd::encode_all(&tar[..], 1).unwrap()),
    ];
    for (name, bytes) in forms {
        fs::write(world.root().join(name), bytes).unwrap();
        let layers = world.copy_from(&world.context(), &[], &add(name, "/to")).unwrap();
        assert_eq!(world.show(&layers), ["to/", "to/d/", "to/d/f=x", "to/h=x", "to/l->d/f"], "{name}");
        let view = world.view(&layers);
        let entry = view.entry(b"to/d/f").unwrap().entry;
        assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime.seconds), (0o640, 7, 8, 1_400_000_000));
        assert_eq!(view.entry(b"to/h").unwrap().entry.kind, EntryKind::HardLink);
    }
    let owner = Some(Owner { user: UserRef::Id(9), group: None });
    let layers = world.copy_from(&world.context(), &[], &CopyAction { owner, ..add("gzip", "/to") }).unwrap();
    let view = world.view(&layers);
    assert!(view.walk(b"").unwrap().iter().all(|found| (found.entry.uid, found.entry.gid) == (9, 9)));
}

#[test]
fn what_is_no_archive_is_copied() {
    let world = World::new(&["plain", "empty="]);
    fs::write(world.root().join("text.gz"), [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    fs::write(world.root().join("none.tar"), [0; 1024]).unwrap();
    for name in ["plain", "empty", "text.gz", "none.tar"] {
        let layers = world.copy_from(&world.context(), &[], &add(name, "/to/")).unwrap();
        assert!(world.view(&layers).entry(format!("to/{name}").as_bytes()).is_some(), "{name}");
    }
}

#[test]
fn archives_merge_and_replace() {
    let world = World::new(&[]);
    let members = [
        ("keep/new", b'0', "1"),
        ("file", b'5', ""),
        ("file/in", b'0', "2"),
        ("dir", b'0', "3"),
        ("back", b'0', ""),
        ("back", b'5', ""),
        ("back/x", b'0', "4"),
    ];
    fs::write(world.root().join("a.tar"), archive(&members)).unwrap();
    let base = world.layer(&["to/keep/old", "to/file", "to/dir/gone", "to/back/gone", "to/back/deep/gone"]);
    let layers = world.copy_from(&world.context(), &base, &add("a.tar", "/to")).unwrap();
    let expected = [
        "to/",
        "to/back/",
        "to/back/x=4",
        "to/dir=3",
        "to/file/",
        "to/file/in=2",
        "to/keep/",
        "to/keep/new=1",
        "to/keep/old=to/keep/old",
    ];
    assert_eq!(world.show(&layers), expected);
}

#[test]
fn hostile_archives_stay_in_their_directory() {
    let world = World::new(&[]);
    let base = world.layer(&["etc/passwd=safe", "to/"]);
    let refused = [
        vec![("../etc/passwd", b'0', "evil")],
        vec![("x/../../etc/passwd", b'0', "evil")],
        vec![("h", b'1', "../etc/passwd")],
        vec![("h", b'1', "missing")],
        vec![("f", b'0', "1"), ("f/x", b'0', "2")],
        vec![("loop", b'2', "loop"), ("loop/x", b'0', "2")],
    ];
    for members in refused {
        fs::write(world.root().join("a.tar"), archive(&members)).unwrap();
        assert!(world.copy_from(&world.context(), &base, &add("a.tar", "/to")).is_err(), "{members:?}");
    }
    let harmless = [
        ("out", b'2', "/etc"),
        ("out/passwd", b'0', "evil"),
        ("/abs", b'0', "1"),
        ("up", b'2', "../../etc"),
        ("up/x", b'0', "2"),
    ];
    fs::write(world.root().join("a.tar"), archive(&harmless)).unwrap();
    let layers = world.copy_from(&world.context(), &base, &add("a.tar", "/to")).unwrap();
    let expected = [
        "etc/",
        "etc/passwd=safe",
        "to/",
        "to/abs=1",
        "to/etc/",
        "to/etc/passwd=evil",
        "to/etc/x=2",
        "to/out->/etc",
        "to/up->../../etc",
    ];
    assert_eq!(world.show(&layers), expected);
}

#[test]
fn endless_names_are_refused() {
    let world = World::new(&[]);
    let base = world.layer(&["file"]);
    for (count, fits) in [(300, true), (2100, false), (100_000, false)] {
        let path = format!("{}f", "d/".repeat(count));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_pax_extensions([("path", path.as_bytes())]).unwrap();
        builder.append_data(&mut header, "short", &b""[..]).unwrap();
        fs::write(world.root().join("a.tar"), builder.into_inner().unwrap()).unwrap();
        let added = world.copy_from(&world.context(), &base, &add("a.tar", "/"));
        assert_eq!(added.is_ok(), fits, "{count}");
    }
}

#[test]
fn hard_links_to_links_are_links() {
    let world = World::new(&[]);
    let members = [("link", b'2', "/etc/passwd"), ("two", b'1', "link"), ("three", b'1', "two"), ("two", b'0', "new")];
    fs::write(world.root().join("a.tar"), archive(&members)).unwrap();
    let base = world.layer(&["etc/passwd=safe"]);
    let layers = world.copy_from(&world.context(), &base, &add("a.tar", "/to")).unwrap();
    let to = ["to/", "to/link->/etc/passwd", "to/three->/etc/passwd", "to/two=new"];
    assert_eq!(world.show(&layers), [&["etc/", "etc/passwd=safe"], &to[..]].concat());
}

#[test]
fn a_truncated_archive_is_an_error_that_names_it() {
    let world = World::new(&[]);
    let tar = archive(&[("a", b'0', &"x".repeat(5000))]);
    fs::write(world.root().join("a.tar"), &tar[..2000]).unwrap();
    let error = world.copy_from(&world.context(), &[], &add("a.tar", "/")).unwrap_err().to_string();
    assert!(error.starts_with("cannot unpack `/a.tar`: "), "{error}");
}
