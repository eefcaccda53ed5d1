//! Base images made from Debian packages at test time: a busybox and a minimal Debian, as OCI layouts.
//!
//! They are kept under `target/test-cache/`, by a digest of the recipe, so that only a first run makes them.

use crate::command;
use crate::layout::{self, Layout};
use crate::run;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
";
const GROUP: &str = "root:x:0:
daemon:x:1:
staff:x:50:www-data
www-data:x:33:
nogroup:x:65534:
";

/// What mmdebstrap is told: the smallest set with apt, without documentation.
const DEBIAN: &[&str] = &[
    "--variant=minbase",
    "--mode=root",
    "--format=tar",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "bookworm",
];

/// The layout of the busybox image, tag `latest`: one static program with a link for each applet.
pub fn busybox() -> PathBuf {
    let program = fs::read("/bin/busybox").expect("`/bin/busybox` (Debian package busybox-static; `make deps`)");
    cached("busybox", &[&program, PASSWD.as_bytes(), GROUP.as_bytes(), b"3"], |path| {
        let applets = command::run(Command::new("/bin/busybox").arg("--list"));
        let archive = busybox_archive(&program, &applets);
        single_layer(path, &archive, json!({ "Env": [PATH], "Cmd": ["sh"] }));
    })
}

/// The layout of the Debian image, tag `latest`.
pub fn debian() -> PathBuf {
    cached("debian", &[DEBIAN.join(" ").as_bytes(), b"1"], |path| {
        fs::create_dir_all(path).unwrap();
        let archive = path.join("root.tar");
        command::run(Command::new("mmdebstrap").args(DEBIAN).arg(&archive));
        single_layer(path, &fs::read(&archive).unwrap(), json!({ "Env": [PATH], "Cmd": ["bash"] }));
        fs::remove_file(archive).unwrap();
    })
}

fn single_layer(path: &Path, archive: &[u8], inner: serde_json::Value) {
    let layout = Layout::create(path);
    let layer = layout.layer(archive);
    let manifest = layout.image(layout::config(inner), &[layer]);
    layout.tag(&[("latest", &manifest)]);
}

fn busybox_archive(program: &[u8], applets: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("proc/", 0o755),
        ("root/", 0o700),
        ("run/", 0o755),
        ("sys/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("usr/bin/", 0o755),
        ("usr/sbin/", 0o755),
        ("var/", 0o755),
        ("var/www/", 0o755),
    ] {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        builder.append_data(&mut header, path, std::io::empty()).unwrap();
    }
    for (path, mode, content) in [
        ("bin/busybox", 0o755, program),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
        // Builders show files of their own in these places. What the image has there must come out unchanged.
        ("etc/hostname", 0o644, b"of-the-image\n"),
        ("etc/hosts", 0o644, b"192.0.2.1 of-the-image\n"),
        ("etc/resolv.conf", 0o644, b"# of the image\n"),
    ] {
        let mut header = header(tar::EntryType::Regular, mode, content.len());
        builder.append_data(&mut header, path, content).unwrap();
    }
    for applet in applets.lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        builder.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    builder.append_link(&mut link, "usr/bin/env", "/bin/busybox").unwrap();
    builder.into_inner().unwrap()
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size as u64);
    header.set_mtime(1_700_000_000);
    header
}

/// Makes a thing once: beside its place and renamed, so that a run which is stopped halfway leaves nothing half.
fn cached(name: &str, recipe: &[&[u8]], make: impl FnOnce(&Path)) -> PathBuf {
    let key = layout::sha256(recipe.join(&0).as_slice());
    let place = run::cache_directory().join(format!("{name}-{}", &key[..16]));
    let lock = fs::File::create(run::cache_directory().join(format!("{name}.lock"))).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !place.exists() {
        let beside = tempfile::tempdir_in(run::cache_directory()).unwrap();
        fs::set_permissions(beside.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = beside.path().join(name);
        make(&made);
        fs::rename(made, &place).unwrap();
    }
    place
}
