//! `kiln cache export-mounts` and `import-mounts`: what cache mounts have is found on another machine.

use std::path::{Path, PathBuf};

use kiln_tests::users::{self, User};
use kiln_tests::{Project, World};

/// What fills two caches, one of them with an owner and a mode of its own.
const FILL: &str = "FROM busybox
RUN --mount=type=cache,target=/c --mount=type=cache,id=owned,target=/d,uid=33,gid=33,mode=0750 \
    echo carried > /c/file && ln /c/file /c/name && chown 33:50 /c/file && chmod 4640 /c/file && touch /d/of-33\n";
/// What looks at them.
const LOOK: &str = "FROM busybox
RUN --mount=type=cache,target=/c --mount=type=cache,id=owned,target=/d,uid=33,gid=33,mode=0750 \
    cat /c/file > /seen && stat -c '%u:%g %a %h' /c/name >> /seen && stat -c '%u %a' /d >> /seen && ls /d >> /seen\n";
const SEEN: &str = "carried\n33:50 4640 2\n33 750\nof-33\n";

fn project(world: &World, dockerfile: &str) -> Project {
    world.project(&[("Dockerfile", dockerfile)])
}

fn filled(user: Option<User>) -> World {
    let world = user.map_or_else(World::new, World::of);
    world.build(&project(&world, FILL)).succeeds();
    world
}

fn export(world: &World, name: &str) -> PathBuf {
    let file = world.home().join(name);
    let outcome = world.kiln(["cache", "export-mounts", "-o", file.to_str().unwrap()]).succeeds();
    outcome.says_on_stdout("Exported cache mount: /c\n").says_on_stdout("Exported cache mount: owned\n");
    file
}

/// Takes the archive of another world in, through a pipe.
fn import(world: &World, archive: &Path) {
    let outcome = world.kiln(["cache", "import-mounts", "-i", "-"]).input(archive).succeeds();
    outcome.says_on_stdout("Imported cache mount: /c\n").says_on_stdout("Imported cache mount: owned\n");
}

fn sees_them(world: &World) {
    assert_eq!(world.tree(&project(world, LOOK)).text("seen"), SEEN);
}

#[test]
fn a_build_elsewhere_finds_what_was_carried() {
    let (from, to) = (filled(None), World::new());
    let archive = export(&from, "mounts.tar.zst");
    import(&to, &archive);
    let again = export(&to, "again.tar.zst");
    assert!(std::fs::read(&archive).unwrap() == std::fs::read(again).unwrap(), "the same mounts, the same bytes");
    sees_them(&to);
    let words = ["cache", "import-mounts", "-i", archive.to_str().unwrap()];
    to.kiln(words).succeeds().says_on_stdout("Kept cache mount: /c");
    to.kiln(words).arg("--replace").succeeds().says_on_stdout("Imported cache mount: /c\n");
    to.kiln(["cache", "export-mounts", "-o", "-", "/c"]).succeeds().does_not_say("error");
    to.kiln(["cache", "export-mounts", "-o", "-", "other"]).fails_with(1).says("no cache mount `other`").says("hint:");
}

#[test]
fn root_and_ordinary_users_can_use_each_others() {
    let (root, user) = (filled(None), World::of(users::with_ranges()));
    import(&user, &export(&root, "mounts.tar.gz"));
    sees_them(&user);
    let (back, single) = (World::new(), World::of(users::without_ranges()));
    let archive = export(&user, "mounts.tar");
    import(&back, &archive);
    sees_them(&back);
    // Without subordinate ids all is the user's own, and still there.
    import(&single, &archive);
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let (from, to) = (filled(None), World::new());
    let archive = export(&from, "mounts.tar.zst");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let outcome = to.kiln(["cache", "import-mounts", "-i", archive.to_str().unwrap()]).fails_with(1);
    outcome.says_one_error().says("cannot read the archive");
    assert_eq!(std::fs::read_dir(to.root().join("mounts")).unwrap().count(), 0);
}
