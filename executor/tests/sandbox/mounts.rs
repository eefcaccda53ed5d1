//! What a command asks to be mounted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_executor::sandbox::{Mount, MountSource, Root, RunSpec, Secret};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, XattrFlags};

use crate::cases::Case;
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("layers_are_mounted_as_they_are_merged", layers_are_mounted_as_they_are_merged),
    ("selectors_stay_in_their_tree", selectors_stay_in_their_tree),
    ("mount_points_leave_no_trace", mount_points_leave_no_trace),
    ("mounts_can_be_inside_of_others", mounts_can_be_inside_of_others),
    ("places_that_cannot_be_are_clear_errors", places_that_cannot_be_are_clear_errors),
    ("directories_keep_what_is_written", directories_keep_what_is_written),
    ("tmpfs_is_as_large_as_asked", tmpfs_is_as_large_as_asked),
    ("secrets_are_files_in_memory", secrets_are_files_in_memory),
    ("sockets_are_shown", sockets_are_shown),
    ("locks_are_free_when_the_command_is_dead", locks_are_free_when_the_command_is_dead),
];

fn mount(destination: &str, source: MountSource) -> Mount {
    Mount { destination: destination.to_owned(), readonly: false, source }
}

fn read_only(destination: &str, source: MountSource) -> Mount {
    Mount { readonly: true, ..mount(destination, source) }
}

fn layers(world: &World, lowers: &[PathBuf], selector: &str) -> MountSource {
    let tree = Root { lowers: lowers.to_vec(), traced: None, upper: world.directory(), work: world.directory() };
    MountSource::Layers { tree, selector: selector.to_owned() }
}

fn tmpfs() -> MountSource {
    MountSource::Tmpfs { size: None }
}

fn upper(source: &MountSource) -> &Path {
    match source {
        MountSource::Layers { tree, .. } => &tree.upper,
        _ => panic!("no layers"),
    }
}

fn with(world: &World, mounts: Vec<Mount>, script: &str) -> RunSpec {
    RunSpec { mounts, ..world.spec(script) }
}

/// A whiteout as a layer has it.
pub fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn opaque(world: &World, path: &Path) {
    let name = if world.identity.in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    rustix::fs::lsetxattr(path, name, b"y", XattrFlags::empty()).unwrap();
}

fn layers_are_mounted_as_they_are_merged(world: &World) {
    let low = world.layer(|root| {
        fs::create_dir_all(root.join("gone")).unwrap();
        fs::create_dir_all(root.join("dir/hidden")).unwrap();
        fs::write(root.join("file"), "low").unwrap();
    });
    let high = world.layer(|root| {
        whiteout(&root.join("gone"));
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("dir/new"), "high").unwrap();
        opaque(world, &root.join("dir"));
    });
    let script = "ls /m /m/dir && echo x > /m/file && cat /m/file";
    let spec = with(world, vec![mount("/m", layers(world, &[low.clone(), high.clone()], "/"))], script);
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, "/m:\ndir\nfile\n\n/m/dir:\nnew\nx\n");
    assert!(outcome.changes().is_empty(), "{outcome:?}");
    assert_eq!(fs::read_to_string(upper(&spec.mounts[0].source).join("file")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(low.join("file")).unwrap(), "low");
    let spec = with(world, vec![read_only("/m", layers(world, &[low, high], "/"))], "echo x > /m/file; touch /m/dir/y");
    let outcome = world.run(&spec);
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome:?}");
    let spec = with(world, vec![mount("/m", layers(world, &[], "/"))], "ls /m; echo x > /m/x; cat /m/x");
    assert_eq!(world.run(&spec).assert_ok().stdout, "x\n");
}

fn selectors_stay_in_their_tree(world: &World) {
    let tree = [world.layer(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "found\n").unwrap();
        symlink("/a/b", root.join("link")).unwrap();
        symlink("../../../../a/b/file", root.join("up")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    })];
    let shown = |selector: &str, script: &str| {
        world.run(&with(world, vec![read_only("/m", layers(world, &tree, selector))], script))
    };
    for selector in ["/a/b", "a/b", "/link", "/link/../b", "/../a/b"] {
        assert_eq!(shown(selector, "cat /m/file").assert_ok().stdout, "found\n", "{selector}");
    }
    for selector in ["/a/b/file", "/link/file", "/up"] {
        let outcome = shown(selector, "cat /m; test -f /m");
        assert_eq!(outcome.assert_ok().stdout, "found\n", "{selector}");
        assert!(outcome.changes().is_empty(), "{outcome:?}");
    }
    for selector in ["/none", "/magic", "/a/b/file/x"] {
        let error = shown(selector, "true").result.unwrap_err().to_string();
        assert!(error.contains(selector) && error.contains("/m"), "{error}");
    }
}

fn mount_points_leave_no_trace(world: &World) {
    let hostile = world.layer(|root| {
        fs::create_dir(root.join("real")).unwrap();
        symlink("/real", root.join("link")).unwrap();
        symlink("nowhere/below", root.join("dangling")).unwrap();
        symlink("/../../../../../outside", root.join("out")).unwrap();
        fs::create_dir(root.join("opaque")).unwrap();
        fs::set_permissions(root.join("opaque"), PermissionsExt::from_mode(0o700)).unwrap();
        opaque(world, &root.join("opaque"));
        whiteout(&root.join("white"));
    });
    let places =
        ["/data", "/new/deep/er", "/link/below", "/link2", "/dangling", "/out/x", "/opaque/a/b", "/white/x", "/tmp"];
    for place in places {
        let mut spec = with(world, vec![mount(place, tmpfs())], &format!("touch {place}/x && ls -a {place}"));
        spec.root.lowers.push(hostile.clone());
        let outcome = world.run(&spec);
        assert_eq!(outcome.assert_ok().stdout, ".\n..\nx\n", "{place}");
        assert!(outcome.changes().is_empty(), "{place} {outcome:?}");
    }
    let all = places.map(|place| mount(place, tmpfs())).to_vec();
    let mut spec = with(world, all, "stat -c %a /opaque /; test -d /real/below && test ! -e /outside/y");
    spec.root.lowers.push(hostile);
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, "700\n755\n");
    assert!(outcome.changes().is_empty(), "{outcome:?}");
    // A file is shown at a file, and what is written beside it stays.
    let file = layers(world, &[world.layer(|root| fs::write(root.join("f"), "x\n").unwrap())], "/f");
    let spec = with(world, vec![mount("/new/place/f", file)], "cat /new/place/f; touch /new/mine");
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, "x\n");
    assert_eq!(outcome.changes(), ["new/", "new/mine"]);
}

fn mounts_can_be_inside_of_others(world: &World) {
    let cache = world.directory();
    let tree = layers(world, &[world.layer(|root| fs::create_dir(root.join("there")).unwrap())], "/");
    let mounts = vec![
        mount("/cache", MountSource::Directory(cache.clone())),
        mount("/dev/mine", tmpfs()),
        mount("/t", tmpfs()),
        read_only("/tree", tree),
        mount("/cache/a/b", tmpfs()),
        mount("/t/t", tmpfs()),
        mount("/tree/there", tmpfs()),
    ];
    let script = "for d in /dev/mine /t /cache/a/b /t/t /tree/there; do touch $d/x || exit 1; done; ls /cache/a /t";
    let outcome = world.run(&with(world, mounts, script));
    assert_eq!(outcome.assert_ok().stdout, "/cache/a:\nb\n\n/t:\nt\nx\n");
    assert!(outcome.changes().is_empty(), "{outcome:?}");
    assert!(cache.join("a/b").is_dir());
}

fn places_that_cannot_be_are_clear_errors(world: &World) {
    let fails = |mounts: Vec<Mount>, words: &[&str]| {
        let error = world.run(&with(world, mounts, "true")).result.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let empty = || layers(world, &[world.layer(|_| {})], "/");
    fails(vec![read_only("/m", empty()), mount("/m/below", tmpfs())], &["/m/below", "read-only"]);
    fails(vec![mount("/proc/sys", tmpfs())], &["/proc/sys", "not permitted"]);
    fails(vec![mount("/proc", tmpfs())], &["/proc", "not permitted"]);
    fails(vec![mount("/data/file", tmpfs())], &["/data/file", "Not a directory"]);
    fails(vec![mount("/data/file/x", tmpfs())], &["/data/file/x", "Not a directory"]);
    for place in ["/", "relative", "/a/../../b", ""] {
        fails(vec![mount(place, tmpfs())], &[place, "Invalid argument"]);
    }
    // A way out of a mount by a link that only the mount has.
    let linked = layers(world, &[world.layer(|root| symlink("/etc", root.join("l")).unwrap())], "/");
    fails(vec![mount("/m", linked), mount("/m/l/new", tmpfs())], &["/m/l/new", "leads out of the mount"]);
    let to_proc = layers(world, &[world.layer(|root| symlink("/proc", root.join("l")).unwrap())], "/");
    fails(vec![mount("/m", to_proc), mount("/m/l/sys", tmpfs())], &["/m/l/sys", "not permitted"]);
}

fn directories_keep_what_is_written(world: &World) {
    let cache = world.directory();
    let shown = |script: &str| {
        world.run(&with(world, vec![mount("/root/.cache", MountSource::Directory(cache.clone()))], script))
    };
    assert!(shown("echo one > /root/.cache/x").assert_ok().changes().is_empty());
    assert_eq!(shown("cat /root/.cache/x").assert_ok().stdout, "one\n");
    assert_eq!(fs::read_to_string(cache.join("x")).unwrap(), "one\n");
    if !world.identity.in_user_namespace() {
        shown("mknod /root/.cache/null c 1 3 && echo > /root/.cache/null").assert_ok();
    }
}

fn tmpfs_is_as_large_as_asked(world: &World) {
    let mounts = vec![mount("/t", MountSource::Tmpfs { size: Some(1 << 20) }), mount("/dev/shm", tmpfs())];
    let script = "stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=2 2>&1 | grep -c 'No space'; stat -c %s /t/x; \
                  grep -E ' (/t|/dev/shm) ' /proc/mounts | sort | while read a b c d e; do echo $b $c ${d%%,rel*}; done";
    let outcome = world.run(&with(world, mounts, script));
    let lines: Vec<&str> = outcome.assert_ok().stdout.lines().collect();
    assert_eq!(lines[..3], ["1777", "1", "1048576"], "{outcome:?}");
    let devices = if world.identity.in_user_namespace() { ",nodev" } else { "" };
    assert!(lines.contains(&&*format!("/t tmpfs rw,nosuid{devices}")), "{outcome:?}");
    assert!(lines.contains(&"/dev/shm tmpfs rw,nosuid,nodev,noexec"), "{outcome:?}");
}

fn secrets_are_files_in_memory(world: &World) {
    let secret = |destination: &str, owner: u32, mode: u32| {
        let content = Secret::new(b"hunter2\0\xff".to_vec());
        mount(destination, MountSource::Secret { content, uid: owner, gid: owner, mode })
    };
    let owner = if world.single() { 0 } else { 1000 };
    let mounts = vec![secret("/run/secrets/a", owner, 0o400), secret("/etc/passwd", 0, 0o644)];
    let script = "stat -c '%u %g %a %s' /run/secrets/a /etc/passwd; grep /run/secrets/a /proc/mounts | cut -d' ' -f 3; \
                  (echo x >> /run/secrets/a) 2>&1 | grep -o Read-only; cat /run/secrets/a | wc -c; rm -f /run/secrets/a";
    let outcome = world.run(&with(world, mounts, script));
    assert_eq!(outcome.stdout, format!("{owner} {owner} 400 9\n0 0 644 9\nramfs\nRead-only\n9\n"), "{outcome:?}");
    assert!(outcome.changes().is_empty(), "{outcome:?}");
    if world.single() {
        let error = world.run(&with(world, vec![secret("/s", 7, 0o400)], "true")).result.unwrap_err().to_string();
        assert!(error.contains("/s") && error.contains("hint: this user namespace"), "{error}");
    }
}

fn sockets_are_shown(world: &World) {
    let directory = world.directory();
    let path = directory.join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let outcome =
        world.run(&with(world, vec![mount("/run/agent/0", MountSource::Socket(path))], "test -S /run/agent/0"));
    assert!(outcome.assert_ok().changes().is_empty(), "{outcome:?}");
}

fn locks_are_free_when_the_command_is_dead(world: &World) {
    let path = world.directory().join("lock");
    let open = || fs::File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    for _ in 0..20 {
        let lock = open();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut spec = world.spec("true");
        spec.files.push(Arc::new(lock.into()));
        world.run(&spec).assert_ok();
    }
}
