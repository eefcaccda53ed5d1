use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kiln_solver::Cancel;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, Timespec, Timestamps, XattrFlags};

use super::export::choose;
use super::*;
use crate::testing::{left_in_tmp, store};
use crate::{ArchiveLimits, Compression};

const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// Makes a copy of a mount as the executor does; gives its `data`.
fn mount(store: &Store, name: &str, id: &str, number: u32) -> PathBuf {
    let directory = store.root().join("mounts").join(name);
    let copy = directory.join(number.to_string());
    fs::create_dir_all(copy.join("data")).unwrap();
    fs::write(directory.join("id"), id).unwrap();
    fs::write(directory.join("lock"), "").unwrap();
    fs::write(copy.join("lock"), "").unwrap();
    set_time(&copy.join("data"), 7);
    copy.join("data")
}

fn set_time(path: &Path, nanos: i64) {
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn export(store: &Store, wanted: &[&str], compression: Compression) -> Result<(Vec<u8>, Exported), StoreError> {
    let (cancel, mut bytes) = (Cancel::new(), Vec::new());
    let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
    let watch = MountWatch { cancel: &cancel, on_wait: &|id| panic!("waits for {id}") };
    let exported = store.export_mounts(&wanted, compression, &mut bytes, &watch)?;
    Ok((bytes, exported))
}

fn plain(store: &Store) -> Vec<u8> {
    export(store, &[], Compression::Uncompressed).unwrap().0
}

fn import(store: &Store, archive: &[u8], replace: bool) -> Result<Vec<(String, bool)>, StoreError> {
    let cancel = Cancel::new();
    let watch = MountWatch { cancel: &cancel, on_wait: &|id| panic!("waits for {id}") };
    let imported = store.import_mounts(&mut Cursor::new(archive), replace, &watch);
    assert_eq!(left_in_tmp(store), 0);
    Ok(imported?.mounts.into_iter().map(|mount| (mount.id, mount.was_kept)).collect())
}

/// A store with a mount that has some of everything.
fn full() -> (tempfile::TempDir, Store) {
    let (root, store) = store();
    let data = mount(&store, ONE, "/root/.cache", 0);
    fs::create_dir(data.join("directory")).unwrap();
    fs::write(data.join("directory/.wh.file"), "text").unwrap();
    fs::set_permissions(data.join("directory/.wh.file"), fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::setxattr(data.join("directory/.wh.file"), "user.k", b"v", XattrFlags::empty()).unwrap();
    fs::hard_link(data.join("directory/.wh.file"), data.join("name")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
    fs::File::create(data.join("sparse")).unwrap().set_len(4 << 20).unwrap();
    fs::write(data.join("x".repeat(200)), "").unwrap();
    std::os::unix::fs::chown(data.join("x".repeat(200)), Some(70_000), Some(3_000_000_000)).unwrap();
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, data.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("zero", FileType::CharacterDevice, 0);
    node("pipe", FileType::Fifo, 0);
    for path in ["directory/.wh.file", "link", "sparse", "null", "zero", "pipe", "directory", ""] {
        set_time(&data.join(path), 123_456_789);
    }
    set_time(&data.join("x".repeat(200)), 0);
    fs::write(mount(&store, ONE, "/root/.cache", 2).join("second"), "").unwrap();
    set_time(&store.root().join("mounts").join(ONE).join("2/data/second"), 0);
    set_time(&store.root().join("mounts").join(ONE).join("2/data"), 0);
    (root, store)
}

#[test]
fn what_comes_in_is_what_went_out() {
    let ((_a, from), (_b, to)) = (full(), store());
    let archive = plain(&from);
    assert_eq!(import(&to, &archive, false).unwrap(), [("/root/.cache".to_owned(), false)]);
    // The archive tells owners, modes, times, links, attributes and contents.
    assert!(plain(&to) == archive);
    let mount = to.root().join("mounts").join(ONE);
    assert_eq!(fs::read_to_string(mount.join("id")).unwrap(), "/root/.cache");
    assert!(mount.join("lock").exists() && mount.join("0/lock").exists() && mount.join("2/lock").exists());
    let of = |name: &str| fs::symlink_metadata(mount.join("0/data").join(name)).unwrap();
    assert_eq!(of("name").ino(), of("directory/.wh.file").ino());
    assert_eq!((of("name").mode() & 0o7777, of("name").mtime_nsec()), (0o4755, 123_456_789));
    assert_eq!((of(&"x".repeat(200)).uid(), of(&"x".repeat(200)).gid()), (70_000, 3_000_000_000));
    assert_eq!((of("sparse").len(), of("sparse").blocks() < 100), (4 << 20, true));
    assert_eq!((of("null").rdev(), of("zero").rdev()), (rustix::fs::makedev(1, 3), 0));
    assert!(of("pipe").file_type().is_fifo() && of("link").is_symlink());
    assert_eq!(rustix::fs::getxattr(mount.join("0/data/name"), "user.k", &mut [0; 9][..]).unwrap(), 1);
}

#[test]
fn holes_take_no_room_in_archives() {
    let ((_a, from), (_b, to)) = (store(), store());
    let data = mount(&from, ONE, "sparse", 0);
    let parts: [(&str, u64, &[u64]); 4] = [
        ("both", 3 << 20, &[1 << 20]),
        ("start", 1 << 20, &[0]),
        ("end", (1 << 20) + 5, &[1 << 20]),
        ("none", 7 << 20, &[]),
    ];
    for (name, size, offsets) in parts {
        let file = fs::File::create(data.join(name)).unwrap();
        file.set_len(size).unwrap();
        offsets.iter().for_each(|offset| file.write_all_at(b"text", *offset).unwrap());
    }
    fs::set_permissions(data.join("both"), fs::Permissions::from_mode(0o640)).unwrap();
    let long = data.join("y".repeat(240));
    fs::rename(data.join("none"), &long).unwrap();
    let archive = plain(&from);
    assert!(archive.len() < 100 << 10, "{}", archive.len());
    import(&to, &archive, false).unwrap();
    let copy = to.root().join("mounts").join(ONE).join("0/data");
    let listing = |directory: &Path| -> Vec<_> {
        let mut all: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        let name = |path: &PathBuf| path.file_name().unwrap().to_owned();
        all.iter().map(|path| (name(path), fs::metadata(path).unwrap().mode(), fs::read(path).unwrap())).collect()
    };
    assert!(listing(&copy) == listing(&data));
    assert_eq!(plain(&to), archive);
    // As others read it.
    let unpacked = tempfile::tempdir().unwrap();
    fs::write(unpacked.path().join("a.tar"), &archive).unwrap();
    let tar = std::process::Command::new("tar").args(["-xf", "a.tar"]).current_dir(&unpacked).status().unwrap();
    assert!(tar.success());
    let theirs = unpacked.path().join(ONE).join("0/data");
    assert!(listing(&theirs) == listing(&data));
    assert!(fs::metadata(theirs.join("both")).unwrap().blocks() < 100);
}

#[test]
fn attributes_with_names_that_no_archive_holds_are_refused() {
    let (_root, from) = store();
    let data = mount(&from, ONE, "attributes", 0);
    rustix::fs::setxattr(&data, "user.a=b", b"1", XattrFlags::empty()).unwrap();
    let error = export(&from, &[], Compression::Uncompressed).unwrap_err().to_string();
    assert!(error.contains("0/data") && error.contains("has a `=`"), "{error}");
}

#[test]
fn archives_are_compressed_as_told() {
    let (_root, from) = full();
    let archive = plain(&from);
    for compression in [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }] {
        let (_root, to) = store();
        let (bytes, _) = export(&from, &[], compression).unwrap();
        assert!(bytes == export(&from, &[], compression).unwrap().0, "{compression:?}");
        assert!(bytes.len() < archive.len() / 5);
        import(&to, &bytes, false).unwrap();
        assert!(plain(&to) == archive, "{compression:?}");
        let (_root, other) = store();
        assert!(import(&other, &bytes[..bytes.len() - 2], false).is_err(), "{compression:?}");
        assert!(other.mounts().unwrap().is_empty());
    }
}

#[test]
fn a_mount_may_be_a_file_and_sockets_stay_behind() {
    let ((_a, from), (_b, to)) = (store(), store());
    let data = mount(&from, ONE, "file", 0);
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "content").unwrap();
    let socket = mount(&from, TWO, "socket", 0).join("socket");
    rustix::fs::mknodat(CWD, &socket, FileType::Socket, Mode::RWXU, 0).unwrap();
    let (archive, exported) = export(&from, &[], Compression::Uncompressed).unwrap();
    assert_eq!(exported.left_out, [socket]);
    assert_eq!(exported.ids.into_iter().collect::<Vec<_>>(), ["file", "socket"]);
    import(&to, &archive, false).unwrap();
    assert_eq!(fs::read_to_string(to.root().join("mounts").join(ONE).join("0/data")).unwrap(), "content");
}

#[test]
fn mounts_are_chosen_by_id_or_name() {
    let (_root, store) = store();
    mount(&store, ONE, "/root/.cache", 0);
    mount(&store, TWO, "/root/.cache", 0);
    mount(&store, &ONE.replace("11", "3f"), "/apt", 0);
    let chosen = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let chosen = choose(store.mounts().unwrap(), &words);
        chosen.map(|mounts| mounts.into_iter().map(|mount| mount.name[..2].to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&[]).unwrap(), ["3f", "11", "22"]);
    assert_eq!(chosen(&["/root/.cache"]).unwrap(), ["11", "22"]);
    assert_eq!(chosen(&["apt", "222222222222"]).unwrap(), ["3f", "22"]);
    assert_eq!(chosen(&[&format!("mounts/{ONE}/0")]).unwrap(), ["11"]);
    for unknown in ["other", "2222", "/root", ""] {
        assert!(matches!(chosen(&["apt", unknown]), Err(StoreError::NoMount(word)) if word == unknown));
    }
}

#[test]
fn what_is_there_stays_or_is_exchanged_whole() {
    let ((_a, from), (_b, to)) = (store(), store());
    fs::write(mount(&from, ONE, "a", 0).join("new"), "").unwrap();
    mount(&from, TWO, "b", 0);
    fs::write(mount(&to, ONE, "a", 0).join("old"), "").unwrap();
    mount(&to, ONE, "a", 1);
    let archive = plain(&from);
    let data = to.root().join("mounts").join(ONE).join("0/data");
    assert_eq!(import(&to, &archive, false).unwrap(), [("a".to_owned(), true), ("b".to_owned(), false)]);
    assert!(data.join("old").exists() && !data.join("new").exists());
    assert_eq!(import(&to, &archive, true).unwrap(), [("a".to_owned(), false), ("b".to_owned(), false)]);
    assert!(!data.join("old").exists() && data.join("new").exists());
    assert!(plain(&to) == archive, "also the other copies have gone");
    // One whose copies were pruned is not there.
    fs::remove_dir_all(to.root().join("mounts").join(ONE).join("0")).unwrap();
    assert_eq!(import(&to, &archive, false).unwrap(), [("a".to_owned(), false), ("b".to_owned(), true)]);
}

#[test]
fn builds_that_have_a_mount_are_waited_for() {
    let ((_a, from), (_b, to)) = (store(), store());
    for store in [&from, &to] {
        mount(store, ONE, "a", 0);
    }
    let archive = plain(&from);
    for (file, kind) in [("0/lock", FlockOperation::LockShared), ("lock", FlockOperation::LockExclusive)] {
        let held = std::cell::RefCell::new(None);
        let hold = |store: &Store| {
            let lock = fs::File::open(store.root().join("mounts").join(ONE).join(file)).unwrap();
            rustix::fs::flock(&lock, kind).unwrap();
            held.replace(Some(lock));
        };
        let (cancel, told) = (Cancel::new(), std::cell::RefCell::new(Vec::new()));
        let on_wait = |id: &str| {
            told.borrow_mut().push(id.to_owned());
            held.replace(None);
        };
        let watch = MountWatch { cancel: &cancel, on_wait: &on_wait };
        hold(&from);
        from.export_mounts(&[], Compression::Uncompressed, &mut Vec::new(), &watch).unwrap();
        hold(&to);
        to.import_mounts(&mut Cursor::new(&archive), true, &watch).unwrap();
        assert_eq!(told.take(), ["a", "a"]);
    }
}

#[test]
fn waiting_ends_when_it_is_to() {
    let (_root, store) = store();
    let lock = fs::File::open(mount(&store, ONE, "a", 0).with_file_name("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockShared).unwrap();
    let archive = export_of("a");
    let cancel = Cancel::new();
    let watch = MountWatch { cancel: &cancel, on_wait: &|_| cancel.request() };
    let export = store.export_mounts(&[], Compression::Uncompressed, &mut Vec::new(), &watch);
    assert!(matches!(export, Err(StoreError::Cancelled)));
    let import = store.import_mounts(&mut Cursor::new(archive), true, &watch);
    assert!(matches!(import, Err(StoreError::Cancelled)));
    assert_eq!(left_in_tmp(&store), 0);
}

/// An archive of one empty mount.
fn export_of(id: &str) -> Vec<u8> {
    let (_root, store) = store();
    mount(&store, ONE, id, 0);
    plain(&store)
}

/// A member: its path, its type and what it links to.
type Crafted<'a> = (&'a str, tar::EntryType, &'a str);

/// A hand-made archive.
fn crafted(list: &str, members: &[Crafted<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |path: &str, kind, target: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        // Not `set_path`, which refuses what is to be tried here.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    };
    put(MANIFEST, tar::EntryType::Regular, "", list.as_bytes());
    for (path, kind, target) in members {
        put(&path.replace("ONE", ONE), *kind, &target.replace("ONE", ONE), b"");
    }
    archive.into_inner().unwrap()
}

fn list_of(names: &[&str]) -> String {
    let mounts = names.iter().map(|name| Mount { id: "a".to_owned(), name: (*name).to_owned() }).collect();
    serde_json::to_string(&Manifest { format: FORMAT.to_owned(), mounts }).unwrap()
}

#[test]
fn hostile_archives_change_nothing() {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    let data = ("ONE/0/data/", Directory, "");
    let cases: &[(&[Crafted<'_>], &str)] = &[
        (&[data, ("ONE/0/data/../../x", Regular, "")], "simplest form"),
        (&[data, ("ONE/0/data/./x", Regular, "")], "simplest form"),
        (&[("/ONE/0/data", Directory, "")], "belongs to no cache mount"),
        (&[("../0/data", Directory, "")], "not in `kiln-mounts.json`"),
        (&[("ONE/00/data", Directory, "")], "belongs to no cache mount"),
        (&[("ONE/-1/data", Directory, "")], "belongs to no cache mount"),
        (&[("ONE/99999999999/data", Directory, "")], "belongs to no cache mount"),
        (&[("ONE/x", Regular, "")], "belongs to no cache mount"),
        (&[("2222/0/data", Directory, "")], "not in `kiln-mounts.json`"),
        (&[("ONE/0/lock", Regular, "")], "`data` and nothing else"),
        (&[("ONE/0/data", Symlink, "/etc")], "`data` and nothing else"),
        (&[("ONE/0/data", Char, "")], "`data` and nothing else"),
        (&[("ONE/0/data", Link, "ONE/0/lock")], "`data` and nothing else"),
        (&[data, data], "there twice"),
        (&[data, ("ONE/0/data/a", Regular, ""), ("ONE/0/data/a", Symlink, "/etc")], "there twice"),
        (&[data, ("ONE/0/data/a", Symlink, "/etc"), ("ONE/0/data/a/b", Regular, "")], "no directory for it"),
        (&[data, ("ONE/0/data/a/b", Regular, "")], "no directory for it"),
        (&[data, ("ONE/0/data/a", Link, "/etc/passwd")], "links to what is no file"),
        (&[data, ("ONE/0/data/a", Link, "ONE/0/data")], "links to what is no file"),
        (&[data, ("ONE/0/data/a", Link, "ONE/0/lock")], "links to what is no file"),
        (&[data, ("ONE/1/data", Directory, ""), ("ONE/1/data/a", Link, "ONE/0/data")], "links to what is no file"),
        (&[data, ("ONE/1/data", Directory, ""), data], "has ended before"),
    ];
    let (_root, store) = store();
    let refused = |archive: &[u8], why: &str| {
        let error = import(&store, archive, true).unwrap_err().to_string();
        assert!(error.contains(why), "{error} instead of {why}");
        assert_eq!(fs::read_dir(store.root().join("mounts")).unwrap().count(), 0, "{why}");
    };
    for (members, why) in cases {
        refused(&crafted(&list_of(&[ONE]), members), why);
    }
    refused(&crafted(&list_of(&[ONE, ONE]), &[data]), "is malformed");
    refused(&crafted(&list_of(&["../x"]), &[data]), "is malformed");
    refused(&crafted(&list_of(&[ONE]).replace("v1", "v2"), &[data]), "of a newer kiln");
    refused(&crafted("{", &[data]), "is malformed");
    refused(b"no archive", "it ends within a header");
    refused(&[], "does not begin with");
}

#[test]
fn an_archive_that_was_cut_off_changes_nothing() {
    let (_root, store) = store();
    let archive = crafted(&list_of(&[ONE]), &[("ONE/0/data", tar::EntryType::Directory, "")]);
    for length in (0..archive.len() - 1024).step_by(512) {
        assert!(import(&store, &archive[..length], true).is_err(), "{length}");
        assert!(store.mounts().unwrap().is_empty());
    }
    let endless = [archive.clone(), vec![0; 2 << 20]].concat();
    assert!(import(&store, &endless, true).unwrap_err().to_string().contains("much behind its end"));
    import(&store, &archive, true).unwrap();
}

#[test]
fn an_archive_holds_no_more_than_it_may() {
    let (_root, from) = full();
    for replace in [false, true] {
        for limits in [ArchiveLimits { size: Some(1 << 20), entries: 1000 }, ArchiveLimits { size: None, entries: 5 }] {
            let (_root, to) = store();
            // What is skipped counts, too.
            mount(&to, ONE, "/root/.cache", 0);
            to.limit_archives(limits);
            let (bytes, _) = export(&from, &[], Compression::Zstd { level: 3 }).unwrap();
            let error = import(&to, &bytes, replace).unwrap_err().to_string();
            assert!(error.contains("`[archives]`"), "{error}");
        }
    }
}
