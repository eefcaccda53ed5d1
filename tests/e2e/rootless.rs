//! kiln run by an ordinary user.

use kiln_tests::users::{self, User};
use kiln_tests::{Project, World};

const DOCKERFILE: &str = "FROM busybox
RUN echo made > /made && id -u > /uid
COPY dir /dir
WORKDIR /work
RUN cat /dir/file > copied
";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE), ("dir/file", "text\n")])
}

fn builds(user: User) -> World {
    let world = World::of(user);
    let project = project(&world);
    let outcome = world.build(&project).args(["-t", "app"]).succeeds();
    outcome.ran("RUN echo made");
    world.build(&project).succeeds().all_cached();
    let tree = world.tree(&project);
    assert_eq!((tree.text("uid"), tree.text("work/copied")), ("0\n".to_owned(), "text\n".to_owned()));
    for path in ["made", "dir", "dir/file", "work", "work/copied"] {
        assert_eq!((tree.node(path).uid, tree.node(path).gid), (0, 0), "{path}");
    }
    assert!(world.kiln(["images"]).succeeds().stdout_text().contains("app"));
    world
}

#[test]
fn with_ranges_of_ids() {
    builds(users::with_ranges());
}

#[test]
fn without_ranges_of_ids() {
    let world = builds(users::without_ranges());
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    world.build(&project).succeeds().says("warning").says("subuid");
}

#[test]
fn it_builds_what_root_builds() {
    let (root, user) = (World::new(), World::of(users::with_ranges()));
    let dockerfile = "FROM busybox AS build\nRUN mkdir /out && echo x > /out/x && chown 33:33 /out && chmod 4755 /out/x && ln -s x /out/l && rm /etc/group\n\
                      RUN rm -r /var/www && mkdir /var/www && echo y > /var/www/y\nFROM build\nCOPY --chown=www-data:50 dir /dir\n\
                      COPY --from=build /out /again\nUSER www-data\nRUN id -u > /tmp/uid\n";
    let files = [("Dockerfile", dockerfile), ("dir/file", "text\n")];
    let (ours, theirs) = (root.project(&files), user.project(&files));
    let (of_root, of_user) = (root.image(&ours, &[]), user.image(&theirs, &[]));
    kiln_tests::compare::assert_same(&of_user, &of_root, &[]);
}

#[test]
fn without_ranges_another_owner_is_a_clear_error() {
    let world = World::of(users::without_ranges());
    let project = world.project(&[("Dockerfile", "FROM busybox\nUSER www-data\nRUN id -u\n")]);
    world.build(&project).fails().says_one_error().says("Dockerfile:3").says("subuid");
}

#[test]
fn the_default_store_is_in_the_home_directory() {
    let world = World::of(users::with_ranges());
    let project = project(&world);
    world.build(&project).env_remove("KILN_ROOT").args(["-t", "app"]).succeeds();
    assert!(world.home().join(".local/share/kiln/kiln.db").exists());
    let data = world.home().join("data");
    world.build(&project).env_remove("KILN_ROOT").env("XDG_DATA_HOME", &data).succeeds();
    assert!(data.join("kiln/kiln.db").exists());
}

#[test]
fn a_directory_is_exported_with_owners_of_the_user() {
    use std::os::unix::fs::MetadataExt;
    let user = users::with_ranges();
    let world = World::of(user);
    let project = project(&world);
    let out = world.home().join("out");
    world.build(&project).arg("-o").arg(&out).succeeds();
    assert_eq!(std::fs::metadata(out.join("made")).unwrap().uid(), user.uid);
}
