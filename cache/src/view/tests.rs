//! A view shows what overlayfs would.

use std::path::Path;

use super::*;
use crate::Store;
use crate::testing::*;
use rustix::fs::FileType;

fn put(files: &Path, names: &[&str]) {
    for name in names {
        let path = files.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, name).unwrap();
        set_mtime(&path, 1);
    }
}

fn link(files: &Path, target: &str, name: &str) {
    let path = files.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

fn whiteout(files: &Path, name: &str) {
    std::fs::create_dir_all(files.join(name).parent().unwrap()).unwrap();
    make_node(&files.join(name), FileType::CharacterDevice, 0, 0);
}

fn opaque(files: &Path, name: &str) {
    std::fs::create_dir_all(files.join(name)).unwrap();
    set_xattr(&files.join(name), "trusted.overlay.opaque", b"y");
}

fn sample(store: &Store) -> View {
    let base = layer(store, |files| {
        put(files, &["etc/passwd", "etc/group", "usr/lib/a", "usr/lib/b", "old/x", "old/y", "f", "g/deep/x", "h"]);
        link(files, "usr/lib", "lib");
        link(files, "/etc", "usr/config");
        link(files, "loop2", "loop1");
        link(files, "loop1", "loop2");
        link(files, "../../../../etc/passwd", "usr/far");
        link(files, "nowhere", "dangling");
        std::fs::hard_link(files.join("h"), files.join("h2")).unwrap();
        std::fs::hard_link(files.join("f"), files.join("f2")).unwrap();
    });
    let middle = layer(store, |files| {
        whiteout(files, "etc/group");
        put(files, &["etc/shadow", "old/z"]);
        opaque(files, "old");
        whiteout(files, "usr/lib/a");
        put(files, &["g"]);
        set_mode(&files.join("etc"), 0o700);
        std::fs::write(files.join("f"), "new f").unwrap();
    });
    let top = layer(store, |files| {
        put(files, &["etc/group", "g2"]);
        std::fs::remove_file(files.join("g2")).unwrap();
        whiteout(files, "never-was");
        put(files, &["usr/lib/a/now-a-directory"]);
    });
    View::new(vec![base, middle, top])
}

fn names(found: &[Found<'_>]) -> Vec<String> {
    found.iter().map(|found| String::from_utf8_lossy(found.entry.path).into_owned()).collect()
}

#[test]
fn layers_merge_as_overlayfs_merges_them() {
    let (_root, store) = store();
    let view = sample(&store);
    let (_folder, folder) = folder();
    let lowers: Vec<_> = view.layers().iter().rev().map(|layer| layer.mount_source().display().to_string()).collect();
    let script = format!(
        "unshare --mount sh -ec 'mkdir m; mount -t overlay overlay -o ro,lowerdir={} m; cd m; \
         find . -mindepth 1 -printf \"%P %y %m\\n\" | LC_ALL=C sort; echo; cat f etc/group'",
        lowers.join(":")
    );
    let expected = shell(&folder, &script);
    let (expected, contents) = expected.split_once("\n\n").unwrap();
    let mut seen: Vec<String> = view
        .walk(b"")
        .unwrap()
        .iter()
        .map(|found| {
            let kind = match found.entry.kind {
                EntryKind::Directory { .. } => 'd',
                EntryKind::Symlink => 'l',
                _ => 'f',
            };
            format!("{} {kind} {:o}", String::from_utf8_lossy(found.entry.path), found.entry.mode)
        })
        .collect();
    seen.sort();
    assert_eq!(seen.join("\n"), expected);
    let read = |path: &str| String::from_utf8(view.read(path.as_bytes(), 100).unwrap().unwrap()).unwrap();
    assert_eq!(read("f") + &read("etc/group"), contents);
}

#[test]
fn paths_resolve_as_in_a_root_of_their_own() {
    let (_root, store) = store();
    let view = sample(&store);
    let resolve = |path: &str, follow| {
        let resolved = view.resolve(path.as_bytes(), follow).unwrap();
        let kind = match resolved.target {
            Target::Root => "root",
            Target::Missing => "missing",
            Target::Entry(found) if found.entry.is_directory() => "directory",
            Target::Entry(found) if found.entry.kind == EntryKind::Symlink => "link",
            Target::Entry(_) => "file",
        };
        assert_eq!(resolved.is_directory(), matches!(kind, "root" | "directory"));
        (String::from_utf8(resolved.path).unwrap(), kind)
    };
    let cases = [
        ("", true, "", "root"),
        ("/", true, "", "root"),
        ("/../..", true, "", "root"),
        ("lib", false, "lib", "link"),
        ("lib", true, "usr/lib", "directory"),
        ("/lib//./b/", true, "usr/lib/b", "file"),
        ("lib/..", true, "usr", "directory"),
        ("usr/config/passwd", false, "etc/passwd", "file"),
        ("usr/far", true, "etc/passwd", "file"),
        ("dangling", true, "nowhere", "missing"),
        ("dangling/x/../y", true, "nowhere/y", "missing"),
        ("lib/new/deep", true, "usr/lib/new/deep", "missing"),
        ("never-was", true, "never-was", "missing"),
        ("old/x", true, "old/x", "missing"),
        ("lib/a", true, "usr/lib/a", "directory"),
    ];
    for (path, follow, expected, kind) in cases {
        assert_eq!(resolve(path, follow), (expected.to_owned(), kind), "{path}");
    }
    assert!(matches!(view.resolve(b"loop1", true), Err(ViewError::Loop(_))));
    assert!(view.resolve(b"loop1", false).is_ok());
    assert!(matches!(view.resolve(b"f/x", true), Err(ViewError::NotADirectory(path)) if path == b"f"));
    assert!(matches!(view.resolve(b"f/..", true), Err(ViewError::NotADirectory(_))));
}

#[test]
fn directories_list_and_files_open() {
    let (_root, store) = store();
    let view = sample(&store);
    assert_eq!(names(&view.list(b"/etc/").unwrap()), ["etc/group", "etc/passwd", "etc/shadow"]);
    assert_eq!(names(&view.walk(b"usr/lib").unwrap()), ["usr/lib/a", "usr/lib/a/now-a-directory", "usr/lib/b"]);
    assert!(matches!(view.list(b"lib"), Err(ViewError::NotADirectory(_))));
    assert!(matches!(view.list(b"gone"), Err(ViewError::Missing(_))));
    assert_eq!(view.read(b"lib/b", 9).unwrap().as_deref(), Some(&b"usr/lib/b"[..]));
    assert!(matches!(view.read(b"lib/b", 8), Err(ViewError::TooLarge { size: 9, limit: 8, .. })));
    assert!(view.read(b"dangling", 9).unwrap().is_none());
    assert!(matches!(view.read(b"etc", 9), Err(ViewError::NotAFile(_))));
    assert_eq!(std::io::read_to_string(view.open(b"/usr/config/group").unwrap()).unwrap(), "etc/group");
    assert!(matches!(view.open(b"etc"), Err(ViewError::NotAFile(_))));
    assert!(matches!(view.open(b"none"), Err(ViewError::Missing(_))));
    assert_eq!(view.entry(b"etc").unwrap().entry.mode, 0o755);
    assert!(view.entry(b"").is_none() && view.entry(b"lib/b").is_none());
}

#[test]
fn hard_links_hold_as_long_as_their_target_shows() {
    let (_root, store) = store();
    let view = sample(&store);
    let target = |path: &str| view.link_target(&view.entry(path.as_bytes()).unwrap()).map(<[u8]>::to_vec);
    assert_eq!(target("h2").as_deref(), Some(&b"h"[..]));
    assert_eq!(target("f2"), None);
    assert_eq!(view.read(b"f2", 9).unwrap().as_deref(), Some(&b"f"[..]));
}

#[test]
fn the_archive_of_a_view_has_no_layers() {
    let (_root, store) = store();
    let view = sample(&store);
    let mut bytes = Vec::new();
    view.write_archive(&mut bytes).unwrap();
    let (_root, other) = crate::testing::store();
    let flat = import(&other, &bytes).unwrap();
    assert_eq!(paths(&flat), names(&view.walk(b"").unwrap()));
    assert!(flat.index().entries().all(|entry| entry.kind != EntryKind::Directory { opaque: true }));
    assert_eq!(flat.index().get(b"f2").unwrap().kind, EntryKind::File);
    assert_eq!(flat.index().get(b"h2").unwrap().kind, EntryKind::HardLink);
}

#[test]
fn no_layers_are_the_empty_tree() {
    let view = View::new(Vec::new());
    assert!(view.walk(b"").unwrap().is_empty() && view.list(b"/").unwrap().is_empty());
    assert!(matches!(view.resolve(b"a/b", true).unwrap().target, Target::Missing));
    let mut bytes = Vec::new();
    view.write_archive(&mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024]);
}
