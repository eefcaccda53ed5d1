//! The layers below, which other steps and images share, and marks that mean something to overlayfs.

use std::fs;

use libc::{EOPNOTSUPP, EPERM, EXDEV};

use super::{Attempt, Ground, program, special};

// That no layer was changed is seen by [`super::Machine`] after each attempt.
pub const ALL: &[Attempt] = &[
    program("immutable", &["flags", "/data/file", "0x10"], &[EPERM]),
    program("append_only", &["flags", "/data/file", "0x20"], &[EPERM]),
    program("directory_into_lower", &["rename", "/data/old", "/data/moved"], &[EXDEV]),
    program("opaque_mark", &["setxattr", "/data", "trusted.overlay.opaque", "y"], &[EPERM]),
    program("redirect_mark", &["setxattr", "/data", "trusted.overlay.redirect", "/bin"], &[EPERM]),
    program("origin_mark", &["setxattr", "/data", "trusted.overlay.origin", "x"], &[EPERM]),
    special("mauling_files", mauling_files),
    special("nameless_files", nameless_files),
    special("whole_trees", whole_trees),
    special("marks_of_users", marks_of_users),
    special("whiteouts_by_hand", whiteouts_by_hand),
    special("paths_of_the_store", paths_of_the_store),
];

fn mauling_files(ground: &Ground<'_>) {
    for path in ["/bin/busybox", "/data/file", "/data/old/file"] {
        ground.run(&["maul", path]).assert_ok();
    }
}

fn nameless_files(ground: &Ground<'_>) {
    for directory in ["/data", "/data/old", "/bin"] {
        let outcome = ground.run(&["nameless", directory]);
        assert!([0, EOPNOTSUPP].contains(&outcome.code()), "{outcome:?}");
    }
}

fn whole_trees(ground: &Ground<'_>) {
    let script = "cp -a /data /copy; chmod -R 777 /data; chown -R 0:0 /data; find /data -exec touch -t 200001010000 {} +; \
                  ln /data/file /linked; echo x >> /linked; mv /data/file /data/old/; rm -rf /data/gone; \
                  mv /data/old/file /; rm -rf /data /etc/passwd; ln -s / /data; rm -rf /bin";
    let _ = ground.world.sh(script).code();
}

/// In a user namespace overlayfs has its marks in `user.overlay.*`, where a command may write. It then must see
/// them as its own attributes, and the layer must not be marked by them.
fn marks_of_users(ground: &Ground<'_>) {
    for (name, value) in [("opaque", "y"), ("redirect", "/bin"), ("whiteout", ""), ("metacopy", ""), ("origin", "x")] {
        let name = format!("user.overlay.{name}");
        for path in ["/data", "/data/file"] {
            let outcome = ground.run(&["setxattr", path, &name, value]);
            if outcome.code() != 0 {
                assert!([EPERM, EOPNOTSUPP].contains(&outcome.code()), "{outcome:?}");
                continue;
            }
            // The next step sees what was there.
            let mut spec = ground.world.spec("cat /data/file /data/old/file");
            spec.root.lowers.push(outcome.upper);
            let next = ground.world.run(&spec);
            assert_eq!(next.assert_ok().stdout, "old\nold\n", "{name} at {path}");
        }
    }
}

fn whiteouts_by_hand(ground: &Ground<'_>) {
    let outcome = ground.world.sh("rm /data/file; mknod /data/file c 0 0; mknod /data/old/file c 0 0; exit 0");
    outcome.assert_ok();
    let mut spec = ground.world.spec("cat /data/old/file; test ! -e /data/file");
    spec.root.lowers.push(outcome.upper);
    assert_eq!(ground.world.run(&spec).assert_ok().stdout, "old\n");
}

/// The mount table tells where layers are, but there is no way there.
fn paths_of_the_store(ground: &Ground<'_>) {
    let table = ground.world.says("cat /proc/self/mountinfo");
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let options = root.split(' ').next_back().unwrap();
    let paths: Vec<&str> =
        options.split([',', ':']).filter_map(|option| option.split_once('=')).map(|pair| pair.1).collect();
    let directories = paths.iter().filter(|path| path.starts_with('/'));
    let base = ground.world.base.to_str().unwrap();
    for path in directories.chain([&base]) {
        assert!(
            fs::metadata(path).is_ok() || path.contains("upper") || path.contains("work") || path.contains("overlay")
        );
        ground.is_stopped(&ground.spec(&["open-read", path]), &[libc::ENOENT]);
    }
}
