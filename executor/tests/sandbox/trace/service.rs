//! The server itself: all bytes, all names, no way to write, no way to lose facts.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;

use kiln_executor::sandbox::FileIndex;
use kiln_executor::trace::{Tracing, Union};
use kiln_solver::Digest;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Place, inherit};
use crate::cases::until;
use crate::world::World;

pub fn contents_are_whole(world: &World) {
    let place = Place::new(world);
    let mut large = Vec::with_capacity(9 << 20);
    while large.len() < 9_000_001 {
        large.extend_from_slice(Digest::of(&large.len().to_le_bytes()).as_bytes());
    }
    let union = Arc::new(Union::new(&[place.filled(|root| {
        fs::create_dir(root.join("traced")).unwrap();
        fs::write(root.join("traced/large"), &large).unwrap();
        fs::write(root.join("traced/empty"), "").unwrap();
        let sparse = fs::File::create(root.join("traced/sparse")).unwrap();
        sparse.set_len(200 << 20).unwrap();
        fs::write(root.join("traced").join(OsStr::from_bytes(b"not-\xff-utf8")), "odd").unwrap();
        fs::write(root.join("traced").join("n".repeat(255)), "long").unwrap();
    })]));
    let script = "cd traced; sha256sum < large; wc -c < empty; tail -c 1 sparse | wc -c; stat -c %s sparse; cat not* nn*; \
        ls nnn* | wc -c; dd if=large bs=1 skip=8999999 count=1 status=none | sha256sum; cat $(printf '%0300d' 0) 2>&1";
    let traced = place.traced(&union, script, false);
    let digest = |bytes: &[u8]| format!("{}  -", Digest::of(bytes).hex());
    let expected = [
        digest(&large),
        "0".into(),
        "1".into(),
        (200_u64 << 20).to_string(),
        "oddlong256".into(),
        digest(&large[8_999_999..9_000_000]),
    ];
    let stdout = traced.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..6], expected, "{:?}", traced.output);
    assert!(lines[6].contains("File name too long"), "{}", lines[6]);
    assert!(
        traced.observations.facts().any(|fact| fact.path == b"traced/not-\xff-utf8" && fact.seen.content.is_some())
    );
}

pub fn huge_directories(world: &World) {
    let place = Place::new(world);
    let union = Arc::new(Union::new(&[place.filled(|root| {
        fs::create_dir(root.join("traced")).unwrap();
        (0..20_000).for_each(|number| fs::write(root.join(format!("traced/name-of-file-{number}")), "").unwrap());
    })]));
    let traced = place.traced(&union, "find traced -mindepth 1 | sort -u | wc -l; ls traced/name-of-file-19999", false);
    assert_eq!(traced.stdout(), "20000\ntraced/name-of-file-19999\n", "{:?}", traced.output);
    assert!(traced.below("traced").contains(&"traced/name-of-file-19999 read".to_owned()));
    let listed = traced.observations.facts().find(|fact| fact.path == b"traced").unwrap().seen.listing.unwrap();
    assert_eq!(listed.len(), 20_000);
}

pub fn many_at_once(world: &World) {
    let place = Place::new(world);
    let names: Vec<String> = (0..600).map(|number| format!("traced/d{}/f{number}: {number}\n", number % 20)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let union = place.union(&[&names]);
    // By way of a file: the `xargs -P` of busybox takes a read that the end of a child interrupts, as one of a slow pipe
    // may be, for the end of its input.
    let script = "find traced -type f >/names; xargs -P 8 -n 7 cat </names | sort -n | tail -1; \
                  xargs -P 8 -n 50 cat </names | wc -l";
    let traced = place.traced(&union, script, false);
    assert_eq!(traced.stdout(), "599\n600\n", "{:?}", traced.output);
    assert_eq!(traced.below("traced").iter().filter(|fact| fact.ends_with(" read")).count(), 600);
    // Any number of commands over one union, each with its own trace.
    let tracings: Vec<Tracing> = (0..3).map(|_| Tracing::start(union.clone()).unwrap()).collect();
    for (number, tracing) in tracings.into_iter().enumerate() {
        assert!(place.over(&tracing, &format!("cat traced/d{number}/f{number}"), false).status.success());
        assert_eq!(tracing.finish().unwrap().facts().filter(|fact| fact.seen.content.is_some()).count(), 1);
    }
}

pub fn cannot_be_written_to(world: &World) {
    let place = Place::new(world);
    let tracing = Tracing::start(place.union(&[&["traced/a"]])).unwrap();
    let open = |path: &str, flags| rustix::fs::openat(tracing.mount(), path, flags, Mode::RUSR);
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC] {
        assert_eq!(open("traced/a", flags).unwrap_err(), Errno::ROFS);
    }
    assert_eq!(open("traced/new", OFlags::CREATE | OFlags::WRONLY).unwrap_err(), Errno::ROFS);
    assert_eq!(rustix::fs::mkdirat(tracing.mount(), "traced/d", Mode::RUSR).unwrap_err(), Errno::ROFS);
    let file = open("traced/a", OFlags::RDONLY).unwrap();
    assert!(rustix::io::write(&file, b"x").is_err() && rustix::fs::ftruncate(&file, 0).is_err());
    assert!(rustix::fs::fchmod(&file, Mode::RWXU).is_err());
    let mut bytes = [0; 16];
    assert_eq!(rustix::io::read(&file, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes[..8], b"traced/a");
    tracing.finish().unwrap();
}

pub fn a_dead_server_is_an_error(world: &World) {
    let place = Place::new(world);
    let layer = place.layer(&["traced/a: 123", "traced/b: 123"]);
    let tracing = Tracing::start(Arc::new(Union::new(std::slice::from_ref(&layer)))).unwrap();
    let mount = rustix::io::fcntl_dupfd_cloexec(tracing.mount(), 3).unwrap();
    tracing.finish().unwrap();
    let lower = format!("/proc/self/fd/{}", inherit(std::os::fd::AsFd::as_fd(&mount)));
    assert!(!place.run(&lower, "cat traced/a", false).status.success());
    // A layer that is not what its index says is no source of facts.
    let tracing = Tracing::start(Arc::new(Union::new(std::slice::from_ref(&layer)))).unwrap();
    fs::write(layer.mount_source().join("traced/a"), "longer").unwrap();
    let output = place.over(&tracing, "cat traced/a", false);
    assert!(!output.status.success(), "{output:?}");
    assert!(tracing.finish().unwrap_err().to_string().contains("behind the back"));
}

pub fn an_abandoned_service_ends(world: &World) {
    let place = Place::new(world);
    let union = place.union(&[&["traced/a"]]);
    let threads = || -> BTreeSet<OsString> {
        fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().file_name()).collect()
    };
    let before = threads();
    let tracing = Tracing::start(union.clone()).unwrap();
    let with = threads();
    assert_eq!(with.difference(&before).count(), 1);
    drop(tracing);
    assert_eq!(Arc::strong_count(&union), 1);
    // A thread may still be listed for a moment after it has been waited for.
    assert!(until(|| threads().is_subset(&before)), "{before:?} {with:?} {:?}", threads());
}

/// As kernels before 6.15 need it.
pub fn an_attached_mount_is_a_layer_too(world: &World) {
    let place = Place::new(world);
    let tracing = Tracing::start(place.union(&[&["traced/a"]])).unwrap();
    let target = place.empty("target");
    let script = r#"python3 - "$1" "$2" <<'END'
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(429, int(sys.argv[1]), b"", -100, sys.argv[2].encode(), 4) != 0:
    sys.exit("move_mount: %d" % ctypes.get_errno())
END
cat "$2/traced/a""#;
    let number = inherit(tracing.mount()).to_string();
    let output = Command::new("unshare").args(["--mount", "sh", "-ec", script, "sh", &number]).arg(target).output();
    let output = output.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "traced/a", "{output:?}");
    assert_eq!(tracing.finish().unwrap().len(), 2);
}

/// As steps have it: over the world's own base, with all that a sandbox mounts.
pub fn in_the_sandbox(world: &World) {
    let place = Place::new(world);
    let union = place.union(&[
        &["app/read: 1", "app/other: 1", "app/gone/file", "etc/resolv.conf: mine", "proc: no directory"],
        &["-proc", "-data/file", "data/old/ opaque", "data/old/new"],
    ]);
    let tracing = Tracing::start(union.clone()).unwrap();
    let script = "cat /app/read; rm -r /app/gone; echo x > /app/made; cat /data/file 2>/dev/null; ls /data/old /proc/self/fd >&2";
    let mut spec = world.spec(script);
    spec.files = vec![tracing.layer().unwrap()];
    spec.root.traced = Some(FileIndex(0));
    let outcome = world.run(&spec);
    assert_eq!((outcome.code(), &outcome.stdout[..]), (0, "1"), "{outcome:?}");
    assert!(outcome.stderr.starts_with("/data/old:\nnew\n"), "{outcome:?}");
    assert_eq!(outcome.changes(), ["app/", "app/gone whiteout", "app/made"]);
    let observations = tracing.finish().unwrap();
    let facts: Vec<String> = observations.facts().map(|fact| super::describe(&fact)).collect();
    for fact in ["app", "app/gone listed", "app/gone/file", "app/made absent", "app/read read", "bin absent"] {
        assert!(facts.iter().any(|seen| seen.starts_with(fact)), "{fact} in {facts:?}");
    }
    for fact in ["data/file removed", "data/old listed"] {
        assert!(facts.iter().any(|seen| seen == fact), "{fact} in {facts:?}");
    }
    assert!(facts.iter().all(|seen| !seen.starts_with("app/other")), "{facts:?}");
    assert_eq!(observations.check(&union), None);
}
