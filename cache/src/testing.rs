//! What the tests of this crate share.

use std::ffi::OsStr;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use kiln_solver::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::{Entry, Store, StoredLayer, Whiteouts};

/// A store in a folder that goes away with it.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
    (root, store)
}

/// How many things a store has in `tmp/`.
pub(crate) fn left_in_tmp(store: &Store) -> usize {
    std::fs::read_dir(store.inner().session().unwrap().directory()).unwrap().count()
}

/// Commits what `fill` puts into a directory.
pub(crate) fn layer(store: &Store, fill: impl FnOnce(&Path)) -> StoredLayer {
    let draft = store.begin_layer().unwrap();
    fill(draft.files());
    draft.commit(SystemTime::now()).unwrap()
}

/// Imports an archive, whatever it is.
pub(crate) fn import(store: &Store, archive: &[u8]) -> Result<StoredLayer, crate::StoreError> {
    store.import_layer(&mut Cursor::new(archive), &Digest::of(archive))
}

/// The archive of a layer.
pub(crate) fn archive(layer: &StoredLayer) -> Vec<u8> {
    let mut bytes = Vec::new();
    layer.write_archive(&mut bytes).unwrap();
    bytes
}

/// An entry in words, for comparison.
pub(crate) fn describe(entry: &Entry<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let xattrs: Vec<_> = entry.xattrs().map(|(name, value)| format!("{}={value:?}", text(name))).collect();
    format!(
        "{} {:?} {:o} {}:{} {} @{} {:?} -> {} {:?} {xattrs:?}",
        text(entry.path),
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.mtime.seconds,
        entry.device,
        text(entry.target),
        entry.content,
    )
}

/// All entries of a layer in words.
pub(crate) fn describe_all(layer: &StoredLayer) -> Vec<String> {
    layer.index().entries().map(|entry| describe(&entry)).collect()
}

/// The paths of a layer.
pub(crate) fn paths(layer: &StoredLayer) -> Vec<String> {
    layer.index().entries().map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect()
}

/// Sets access and modification time in seconds.
pub(crate) fn set_mtime(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

pub(crate) fn make_node(path: &Path, kind: FileType, major: u32, minor: u32) {
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, rustix::fs::makedev(major, minor)).unwrap();
}

/// One of everything that a layer can hold but whiteouts and opaque marks.
pub(crate) fn fill_with_everything(root: &Path) {
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).unwrap();
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    write("usr/bin/su", b"#!/bin/true");
    std::os::unix::fs::chown(root.join("usr/bin/su"), Some(0), Some(3_000_000)).unwrap();
    set_mode(&root.join("usr/bin/su"), 0o4755);
    write("usr/bin/ping", &vec![b'p'; 1_500_000]);
    // cap_net_raw+ep
    set_xattr(&root.join("usr/bin/ping"), "security.capability", &capability());
    set_xattr(&root.join("usr/bin/ping"), "user.note", b"a\0b\nc=d");
    std::os::unix::fs::symlink("/usr/bin", root.join("bin")).unwrap();
    std::os::unix::fs::symlink("é".repeat(60), root.join("long-link")).unwrap();
    std::os::unix::fs::lchown(root.join("bin"), Some(1000), Some(1000)).unwrap();
    std::fs::create_dir(root.join("hard")).unwrap();
    write("hard/z", b"shared");
    std::fs::hard_link(root.join("hard/z"), root.join("hard/a")).unwrap();
    std::fs::hard_link(root.join("hard/z"), root.join("hard/m")).unwrap();
    std::fs::create_dir(root.join("read-only")).unwrap();
    write("read-only/secret", b"");
    set_mode(&root.join("read-only/secret"), 0);
    set_mode(&root.join("read-only"), 0o555);
    let long = format!("{}/{}", "d".repeat(90), "e".repeat(120));
    std::fs::create_dir_all(root.join(&long)).unwrap();
    write(&format!("{long}/{}", "f".repeat(101)), b"far away");
    std::fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
    write("line\nfeed", b"x");
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    make_node(&root.join("null"), FileType::CharacterDevice, 1, 3);
    make_node(&root.join("disk"), FileType::BlockDevice, 259, 1_000_000);
    std::fs::create_dir(root.join("sticky")).unwrap();
    set_mode(&root.join("sticky"), 0o1777);
    write("old", b"1969");
    set_mtime(&root.join("old"), -12);
    set_mtime(&root.join("bin"), 1_000_000_000);
    for directory in ["usr/bin", "usr", "hard", "read-only", "sticky"] {
        set_mtime(&root.join(directory), 1_234_567_890);
    }
}

fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs a shell script and gives what it prints.
pub(crate) fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `shell` prints, as bytes.
pub(crate) fn shell_bytes(directory: &Path, script: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A folder that keeps its place: what `tempfile` makes.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}
