//! Layers are what was put into them, whichever way they come.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Cursor;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_solver::Digest;
use rustix::fs::FileType;

use super::commit::{self, Owners};
use crate::testing::*;
use crate::{EntryKind, Store, StoreError, Whiteouts};

/// The archive's digest and the content digest of a directory.
fn scan(files: &std::path::Path) -> (Digest, Digest) {
    let (builder, diff_id) = commit::scan(files, Whiteouts::Trusted, &Owners::new()).unwrap();
    (diff_id, builder.finish().1)
}

#[test]
fn a_committed_layer_holds_everything() {
    let (_root, store) = store();
    let created = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_007);
    let draft = store.begin_layer().unwrap();
    fill_with_everything(draft.files());
    let _socket = std::os::unix::net::UnixListener::bind(draft.files().join("socket")).unwrap();
    let layer = draft.commit(created).unwrap();
    assert_eq!(layer.created(), created);
    assert_eq!(Digest::of(&archive(&layer)), *layer.diff_id());
    assert_eq!(layer.content(), layer.index().content());
    let get = |path: &str| layer.index().get(path.as_bytes()).unwrap();
    assert!(layer.index().get(b"socket").is_none());
    assert_eq!((get("usr/bin/su").mode, get("usr/bin/su").gid), (0o4755, 3_000_000));
    assert_eq!(get("usr/bin/ping").content, Some(Digest::of(&vec![b'p'; 1_500_000])));
    assert_eq!(get("usr/bin/ping").xattrs().count(), 2);
    assert_eq!((get("bin").kind, get("bin").target, get("bin").uid), (EntryKind::Symlink, &b"/usr/bin"[..], 1000));
    assert_eq!(get("hard/a").kind, EntryKind::File);
    for name in ["hard/m", "hard/z"] {
        assert_eq!((get(name).kind, get(name).target, get(name).size), (EntryKind::HardLink, &b"hard/a"[..], 6));
    }
    assert_eq!((get("null").device.major, get("null").device.minor), (1, 3));
    assert_eq!((get("disk").device.major, get("disk").device.minor), (259, 1_000_000));
    assert_eq!(get("old").mtime.seconds, -12);
    assert_eq!(left_in_tmp(&store), 0);
    let reopened = Store::open(store.root(), Whiteouts::Trusted).unwrap();
    let found = reopened.layer(layer.diff_id()).unwrap().unwrap();
    assert_eq!(describe_all(&found), describe_all(&layer));
    assert_eq!(found.created(), created);
}

#[test]
fn the_same_files_are_one_layer() {
    let (_root, store) = store();
    let first = store.begin_layer().unwrap();
    fill_with_everything(first.files());
    let early = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    // Same times, whatever the clock does.
    let times = |draft: &crate::LayerDraft| shell(draft.files(), "find . -depth -exec touch -h -d @1000000000 {} +");
    times(&first);
    let first = first.commit(early).unwrap();
    let second = store.begin_layer().unwrap();
    fill_with_everything(second.files());
    times(&second);
    let second = second.commit(SystemTime::now()).unwrap();
    assert_eq!(first.diff_id(), second.diff_id());
    assert_eq!(second.created(), early);
    assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 1);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn a_layer_without_entries_is_one() {
    let (_root, store) = store();
    let layer = layer(&store, |_| {});
    assert!(layer.index().is_empty());
    assert_eq!(archive(&layer), [0; 1024]);
    assert_eq!(layer.diff_id().to_string(), "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    let metadata = std::fs::metadata(layer.mount_source()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_written_is_what_is_imported() {
    let (_root, here) = store();
    let original = layer(&here, |files| {
        fill_with_everything(files);
        make_node(&files.join("usr/gone"), FileType::CharacterDevice, 0, 0);
        set_xattr(&files.join("sticky"), "trusted.overlay.opaque", b"y");
        set_xattr(&files.join("sticky"), "trusted.overlay.origin", b"x");
    });
    assert_eq!(original.index().get(b"sticky").unwrap().kind, EntryKind::Directory { opaque: true });
    assert_eq!(original.index().get(b"sticky").unwrap().xattrs().count(), 0);
    assert_eq!(original.index().get(b"usr/gone").unwrap().kind, EntryKind::Whiteout);
    let bytes = archive(&original);
    let (_root, there) = store();
    let copy = there.import_layer(&mut Cursor::new(&bytes), original.diff_id()).unwrap();
    assert_eq!(describe_all(&copy), describe_all(&original));
    assert_eq!(copy.content(), original.content());
    // And the disk is what the index says.
    assert_eq!(scan(copy.mount_source()), (*original.diff_id(), original.content()));
    assert!(matches!(copy.write_archive(&mut Vec::new()), Err(StoreError::NoArchive(_))));
    assert_eq!(left_in_tmp(&there), 0);
}

#[test]
fn an_imported_layer_that_is_built_too_can_be_written() {
    let (_root, there) = store();
    let fill = |files: &std::path::Path| {
        std::fs::write(files.join("a"), "a").unwrap();
        set_mtime(&files.join("a"), 7);
    };
    let (_root, here) = store();
    let bytes = archive(&layer(&here, fill));
    assert!(import(&there, &bytes).unwrap().write_archive(&mut Vec::new()).is_err());
    assert_eq!(archive(&layer(&there, fill)), bytes);
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let (_root, store) = store();
    let layer = layer(&store, fill_with_everything);
    let (_folder, folder) = folder();
    std::fs::write(folder.join("layer.tar"), archive(&layer)).unwrap();
    let list = shell(&folder, "LC_ALL=C.UTF-8 tar --numeric-owner -tvf layer.tar");
    for line in ["-rwsr-xr-x 0/3000000", "hard/z link to hard/a", "crw------- 0/0", "259,1000000", "drwxrwxrwt"] {
        assert!(list.contains(line), "{line} in {list}");
    }
    shell(&folder, "mkdir out && tar -C out --numeric-owner --xattrs --xattrs-include='*' -xpf layer.tar");
    assert_eq!(scan(&folder.join("out")), (*layer.diff_id(), layer.content()));
}

#[test]
fn every_format_of_gnu_tar_is_read() {
    let (_root, store) = store();
    let (_folder, folder) = folder();
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).unwrap();
    let (_, content) = {
        fill_with_everything(&tree);
        let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"head", 0).unwrap();
        for part in 1..60 {
            std::os::unix::fs::FileExt::write_all_at(&sparse, b"part", part * 100_000).unwrap();
        }
        sparse.set_len(7_000_000).unwrap();
        scan(&tree)
    };
    let cases = [
        "--format=gnu",
        "--format=oldgnu",
        "--format=posix",
        "--format=gnu --sparse",
        "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=1.0",
        "--format=posix --sort=inode --absolute-names --transform='s,^[.],/,'",
    ];
    for case in cases {
        let xattrs = if case.contains("posix") { "--xattrs --xattrs-include='*'" } else { "" };
        let bytes = shell_bytes(&tree, &format!("tar --numeric-owner {case} {xattrs} -cf - ."));
        let layer = import(&store, &bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        let ping = layer.index().get(b"usr/bin/ping").unwrap();
        if ping.xattrs().count() == 2 {
            assert_eq!(layer.content(), content, "{case}");
            assert_eq!(scan(layer.mount_source()).1, content, "{case}");
        } else {
            assert_eq!(layer.index().len(), import_count(&tree), "{case}");
            let sparse = layer.index().get(b"sparse").unwrap();
            assert_eq!((sparse.size, sparse.content), (7_000_000, sparse_digest(&tree)), "{case}");
        }
    }
}

fn import_count(tree: &std::path::Path) -> usize {
    shell(tree, "find . -mindepth 1 -printf x").len()
}

fn sparse_digest(tree: &std::path::Path) -> Option<Digest> {
    Some(Digest::of(&std::fs::read(tree.join("sparse")).unwrap()))
}

#[test]
fn old_headers_are_read() {
    let (_root, store) = store();
    let (_folder, folder) = folder();
    shell(&folder, "mkdir d && echo hello > d/file && ln d/file d/link && ln -s file d/soft");
    for format in ["v7", "ustar"] {
        let bytes = shell_bytes(&folder, &format!("tar --format={format} -cf - d"));
        let layer = import(&store, &bytes).unwrap();
        assert_eq!(paths(&layer), ["d", "d/file", "d/link", "d/soft"]);
        assert_eq!(layer.index().get(b"d/link").unwrap().kind, EntryKind::HardLink);
    }
}

#[test]
fn owners_that_the_disk_cannot_hold_are_declared() {
    let (_root, store) = store();
    let draft = store.begin_layer().unwrap();
    std::fs::write(draft.files().join("a"), "a").unwrap();
    draft.set_owner(b"a", 1000, 1001);
    let layer = draft.commit(SystemTime::now()).unwrap();
    let entry = layer.index().get(b"a").unwrap();
    assert_eq!((entry.uid, entry.gid), (1000, 1001));
    assert_eq!(Digest::of(&archive(&layer)), *layer.diff_id());
}

/// They are opened ahead, in batches.
#[test]
fn many_files_are_taken_in_order_with_what_each_holds() {
    for count in [0, 1, 15, 16, 17, 32, 200] {
        let (_root, store) = store();
        let layer = layer(&store, |files| {
            for file in 0..count {
                std::fs::write(files.join(format!("{file:03}")), format!("content {file}")).unwrap();
            }
        });
        let found: Vec<_> = layer.index().entries().map(|entry| (entry.path.to_vec(), entry.content)).collect();
        let expected = (0..count).map(|file| {
            let content = Digest::of(format!("content {file}").as_bytes());
            (format!("{file:03}").into_bytes(), Some(content))
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn what_a_layer_cannot_hold_is_an_error() {
    let cases: [&dyn Fn(&std::path::Path); 5] = [
        &|files| std::fs::write(files.join(".wh.name"), "x").unwrap(),
        &|files| {
            std::fs::create_dir(files.join("d")).unwrap();
            set_xattr(&files.join("d"), "trusted.overlay.redirect", b"/elsewhere");
        },
        &|files| {
            std::fs::write(files.join("f"), "x").unwrap();
            set_xattr(&files.join("f"), "trusted.overlay.metacopy", b"");
        },
        &|files| {
            let mut here = crate::sys::open_directory(files).unwrap();
            let name = "d".repeat(200);
            for _ in 0..25 {
                rustix::fs::mkdirat(&here, &name, rustix::fs::Mode::RWXU).unwrap();
                let flags = rustix::fs::OFlags::DIRECTORY;
                here = rustix::fs::openat(&here, &name, flags, rustix::fs::Mode::empty()).unwrap();
            }
        },
        &|files| {
            std::fs::write(files.join("f"), "x").unwrap();
            set_xattr(&files.join("f"), "user.a=b", b"1");
        },
    ];
    let (_root, store) = store();
    // Behind many files it is met by a thread that reads ahead.
    for files_before in [0, 100] {
        for (number, case) in cases.iter().enumerate() {
            let draft = store.begin_layer().unwrap();
            for file in 0..files_before {
                std::fs::write(draft.files().join(format!("-{file}")), "").unwrap();
            }
            case(draft.files());
            let result = draft.commit(SystemTime::now());
            assert!(matches!(result, Err(StoreError::Unstorable { .. })), "{number}: {:?}", result.err());
        }
    }
    assert_eq!(left_in_tmp(&store), 0);
    assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_dropped_draft_leaves_nothing() {
    let (_root, store) = store();
    let draft = store.begin_layer().unwrap();
    fill_with_everything(draft.files());
    drop(draft);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let (_root, there) = store();
    let (_root, here) = store();
    let bytes = archive(&layer(&here, fill_with_everything));
    let wrong = Digest::of(b"something else");
    let result = there.import_layer(&mut Cursor::new(&bytes), &wrong);
    assert!(matches!(result, Err(StoreError::WrongDigest { .. })));
    for cut in [1, 511, 512, 700, 1_500_000] {
        assert!(there.import_layer(&mut Cursor::new(&bytes[..cut]), &wrong).is_err(), "{cut}");
    }
    assert_eq!(left_in_tmp(&there), 0);
    assert_eq!(std::fs::read_dir(there.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_failing_stream_is_its_own_error() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 { Err(std::io::Error::other("the network is down")) } else { Ok(buffer.len().min(512)) }
        }
    }
    let (_root, store) = store();
    let error = store.import_layer(&mut Failing(0), &Digest::of(b"")).unwrap_err();
    assert!(error.to_string().contains("the network is down"), "{error}");
}

#[test]
fn what_a_crash_left_gives_way() {
    let (_root, store) = store();
    let fill = |files: &std::path::Path| {
        std::fs::write(files.join("a"), "a").unwrap();
        set_mtime(&files.join("a"), 7);
    };
    let (_root, other) = crate::testing::store();
    let diff_id = *layer(&other, fill).diff_id();
    let orphan = store.root().join("layers").join(diff_id.hex());
    std::fs::create_dir_all(orphan.join("files")).unwrap();
    std::fs::write(orphan.join("index"), "half an ind").unwrap();
    assert!(store.layer(&diff_id).unwrap().is_none());
    let made = layer(&store, fill);
    assert_eq!(*made.diff_id(), diff_id);
    assert_eq!(paths(&made), ["a"]);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn a_damaged_or_foreign_index_is_an_error() {
    let (_root, store) = store();
    let made = layer(&store, |files| std::fs::write(files.join("a"), "a").unwrap());
    let other = layer(&store, |files| std::fs::write(files.join("b"), "b").unwrap());
    let index = |layer: &crate::StoredLayer| store.root().join("layers").join(layer.diff_id().hex()).join("index");
    std::fs::copy(index(&other), index(&made)).unwrap();
    let store = Store::open(store.root(), Whiteouts::Trusted).unwrap();
    assert!(matches!(store.layer(made.diff_id()), Err(StoreError::DamagedIndex { .. })));
    std::fs::write(index(&other), "kilnidx").unwrap();
    assert!(matches!(store.layer(other.diff_id()), Err(StoreError::DamagedIndex { .. })));
}

#[test]
fn files_open_within_their_layer_alone() {
    let (_root, store) = store();
    let made = layer(&store, |files| {
        std::fs::write(files.join("a"), "inside").unwrap();
        std::fs::create_dir(files.join("d")).unwrap();
        std::fs::write(files.join("d/passwd"), "inside").unwrap();
    });
    let open = |path: &str| made.open(&made.index().get(path.as_bytes()).unwrap());
    assert_eq!(std::io::read_to_string(open("a").unwrap()).unwrap(), "inside");
    assert!(open("d").is_err());
    let files = made.mount_source();
    std::fs::remove_file(files.join("a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", files.join("a")).unwrap();
    std::fs::remove_dir_all(files.join("d")).unwrap();
    std::os::unix::fs::symlink("/etc", files.join("d")).unwrap();
    assert!(open("a").is_err() && open("d/passwd").is_err());
    std::fs::remove_file(files.join("a")).unwrap();
    std::fs::write(files.join("a"), "longer than it was").unwrap();
    assert!(matches!(open("a"), Err(StoreError::ChangedFile { .. })));
    assert!(made.write_archive(&mut Vec::new()).is_err());
}

#[test]
fn the_umask_changes_nothing() {
    let (_root, there) = store();
    let (_root, here) = store();
    let original = layer(&here, fill_with_everything);
    let bytes = archive(&original);
    // The umask belongs to the process: another one for it.
    let script = format!(
        "umask 077; exec '{}' --exact layers::tests::import_from_a_file --ignored --test-threads=1",
        std::env::current_exe().unwrap().display()
    );
    let (_folder, folder) = folder();
    std::fs::write(folder.join("layer.tar"), &bytes).unwrap();
    std::fs::create_dir(folder.join("store")).unwrap();
    shell(&folder, &script);
    let copied = folder.join("store/layers").join(original.diff_id().hex()).join("files");
    assert_eq!(scan(&copied), (*original.diff_id(), original.content()));
    assert_eq!(std::fs::metadata(&copied).unwrap().mode() & 0o7777, 0o755);
    drop(there);
}

#[test]
#[ignore = "a part of other tests, which run it in a process of its own"]
fn import_from_a_file() {
    let store = Store::open("store".as_ref(), Whiteouts::Trusted).unwrap();
    import(&store, &std::fs::read("layer.tar").unwrap()).unwrap();
}

#[test]
fn a_user_namespace_with_one_id_imports_everything() {
    let (_root, here) = store();
    let original = layer(&here, |files| {
        fill_with_everything(files);
        make_node(&files.join("usr/gone"), FileType::CharacterDevice, 0, 0);
        set_xattr(&files.join("sticky"), "trusted.overlay.opaque", b"y");
    });
    let (_folder, folder) = folder();
    std::fs::write(folder.join("layer.tar"), archive(&original)).unwrap();
    let script = format!(
        "exec unshare --user --map-root-user '{}' --exact layers::tests::import_in_a_user_namespace --ignored",
        std::env::current_exe().unwrap().display()
    );
    shell(&folder, &script);
}

#[test]
#[ignore = "a part of another test, which runs it in a user namespace"]
fn import_in_a_user_namespace() {
    let store = Store::open("store".as_ref(), Whiteouts::User).unwrap();
    let bytes = std::fs::read("layer.tar").unwrap();
    let layer = import(&store, &bytes).unwrap();
    let get = |path: &str| layer.index().get(path.as_bytes()).unwrap();
    assert_eq!((get("bin").uid, get("usr/bin/su").gid, get("usr/bin/su").mode), (1000, 3_000_000, 0o4755));
    assert_eq!(get("null").kind, EntryKind::CharDevice);
    assert_eq!(get("sticky").kind, EntryKind::Directory { opaque: true });
    assert!(!layer.mount_source().join("null").exists());
    let mut mark = [0; 8];
    let length = rustix::fs::lgetxattr(layer.mount_source().join("sticky"), "user.overlay.opaque", &mut mark[..]);
    assert_eq!(&mark[..length.unwrap()], b"y");
    // What a step of the same namespace leaves behind, whiteouts and opaque marks of the user's included.
    let step = crate::testing::layer(&store, |files| {
        make_node(&files.join("gone"), FileType::CharacterDevice, 0, 0);
        std::fs::create_dir(files.join("d")).unwrap();
        set_xattr(&files.join("d"), "user.overlay.opaque", b"y");
    });
    assert_eq!(paths(&step), ["d", "gone"]);
    assert_eq!(step.index().get(b"gone").unwrap().kind, EntryKind::Whiteout);
    assert_eq!(step.index().get(b"d").unwrap().kind, EntryKind::Directory { opaque: true });
}

#[test]
fn an_upper_directory_of_overlayfs_becomes_a_layer() {
    let (_root, store) = store();
    let base = layer(&store, |files| {
        for name in ["keep", "remove", "replace/old", "d/one", "d/two"] {
            let path = files.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
    });
    let draft = store.begin_layer().unwrap();
    let script = format!(
        "unshare --mount sh -ec 'mkdir m; mount -t overlay overlay -o redirect_dir=off,metacopy=off,volatile,\
         lowerdir={},upperdir={},workdir={} m; cd m; rm remove; rm -r replace; mkdir replace; echo n >replace/new; \
         chmod 700 d; chmod 600 d/one; ln keep twice; cd ..; umount m; rmdir m'",
        base.mount_source().display(),
        draft.files().display(),
        draft.work().display()
    );
    let (_folder, folder) = folder();
    shell(&folder, &script);
    let layer = draft.commit(SystemTime::now()).unwrap();
    let kinds: HashMap<_, _> = layer.index().entries().map(|entry| (entry.path, entry.kind)).collect();
    assert_eq!(paths(&layer), ["d", "d/one", "keep", "remove", "replace", "replace/new", "twice"]);
    assert_eq!(kinds[&b"remove"[..]], EntryKind::Whiteout);
    assert_eq!(kinds[&b"replace"[..]], EntryKind::Directory { opaque: true });
    assert_eq!(kinds[&b"d"[..]], EntryKind::Directory { opaque: false });
    assert_eq!(kinds[&b"twice"[..]], EntryKind::HardLink);
    assert!(layer.index().entries().all(|entry| entry.xattrs().count() == 0));
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn many_commit_the_same_layer_at_once() {
    let (root, _store) = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
                for number in 0..10 {
                    let layer = layer(&store, |files| {
                        std::fs::write(files.join("a"), number.to_string()).unwrap();
                        set_mtime(&files.join("a"), 7);
                    });
                    assert_eq!(std::fs::read(layer.mount_source().join("a")).unwrap(), number.to_string().as_bytes());
                }
            });
        }
    });
    assert_eq!(std::fs::read_dir(root.path().join("layers")).unwrap().count(), 10);
}

#[test]
fn a_draft_that_came_to_nothing_is_used_again() {
    let (_root, store) = store();
    let commit = |change: &dyn Fn(&Path)| {
        let draft = store.begin_layer().unwrap();
        let files = draft.files().to_owned();
        change(&files);
        assert!(draft.commit(SystemTime::now()).unwrap().index().is_empty());
        files
    };
    // The first makes the empty layer.
    commit(&|_| {});
    let spare = commit(&|_| {});
    assert_eq!(commit(&|_| {}), spare);
    let changes: [&dyn Fn(&Path); 3] = [
        &|files| fs::set_permissions(files, Permissions::from_mode(0o750)).unwrap(),
        &|files| drop(UnixListener::bind(files.join("socket")).unwrap()),
        &|files| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(files, "user.mark", b"x", flags).unwrap();
        },
    ];
    for change in changes {
        let changed = commit(change);
        let next = store.begin_layer().unwrap();
        assert_ne!(next.files(), changed);
        assert!(!changed.exists());
        assert_eq!(fs::metadata(next.files()).unwrap().permissions().mode() & 0o7777, 0o755);
        drop(next);
    }
    let other = store.begin_layer().unwrap();
    let same = store.begin_layer().unwrap();
    assert_ne!(other.files(), same.files(), "two at once are two");
}
