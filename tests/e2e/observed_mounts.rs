//! What a command looked at of a bind mount counts, and nothing else of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use kiln_tests::{Project, World, users};

/// What is done to a project, in words.
type Edit = (&'static str, fn(&Project));

/// Reads, lists, follows a link and looks for what is not there, below `/src`.
const LOOK: &str = "cat /src/read /src/link > /out; echo /src/listed/* >> /out; test -e /src/absent; \
                    test -e /src/none/at/all; true";

/// Of what [`LOOK`] looks at, nothing.
const UNSEEN: &[Edit] = &[
    ("a file that it did not read", |project| project.write("src/other", "2")),
    ("a file that is new", |project| project.write("src/more", "1")),
    ("a file far below", |project| project.write("src/dir/deep/file", "2")),
    ("the content of what it only saw the name of", |project| project.write("src/listed/a", "2")),
    ("a file that is gone", |project| fs::remove_file(project.join("src/other")).unwrap()),
    ("the mode of a file that it did not look at", |project| chmod(project, "src/dir/deep/file", 0o600)),
];

/// Each of what [`LOOK`] looks at, by where it finds it.
const SEEN: &[Edit] = &[
    ("`/src/read`", |project| project.write("src/read", "2")),
    ("`/src/read`", |project| chmod(project, "src/read", 0o600)),
    ("`/src/listed`", |project| project.write("src/listed/b", "1")),
    ("`/src/listed`", |project| fs::remove_file(project.join("src/listed/a")).unwrap()),
    ("`/src/absent`", |project| project.write("src/absent", "1")),
    ("`/src/none`", |project| fs::create_dir(project.join("src/none")).unwrap()),
    ("`/src/none/at`", |project| project.write("src/none/at", "1")),
    ("`/src/target`", |project| project.write("src/target", "2")),
    ("`/src/link`", |project| {
        fs::remove_file(project.join("src/link")).unwrap();
        symlink("read", project.join("src/link")).unwrap();
    }),
    ("`/src/read`: a file", |project| {
        fs::remove_file(project.join("src/read")).unwrap();
        fs::create_dir(project.join("src/read")).unwrap();
    }),
];

fn chmod(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.join(path), PermissionsExt::from_mode(mode)).unwrap();
}

fn project(world: &World, dockerfile: &str) -> Project {
    let names = ["read", "other", "target", "listed/a", "dir/deep/file"].map(|name| format!("src/{name}"));
    let mut files = vec![("Dockerfile", dockerfile)];
    files.extend(names.iter().map(|name| (name.as_str(), "1")));
    let project = world.project(&files);
    symlink("target", project.join("src/link")).unwrap();
    project
}

/// Builds again and again: what nothing looked at leaves the command cached, anything else runs it.
fn check(world: &World, dockerfile: &str, flags: &[&str]) {
    let project = project(world, dockerfile);
    let build = || world.build(&project).arg("--explain").args(flags).succeeds();
    build().ran("cat /src/read");
    build().all_cached();
    for (what, edit) in UNSEEN {
        edit(&project);
        let outcome = build();
        assert!(outcome.progress().cached("cat /src/read"), "{what}\n{outcome}");
        outcome.says("cached, by observations");
    }
    for (what, edit) in SEEN {
        edit(&project);
        let outcome = build();
        assert!(outcome.progress().ran("cat /src/read"), "{what}\n{outcome}");
        outcome.says(what);
        build().all_cached();
    }
}

fn of_context(world: &World) {
    let text = format!(
        "FROM busybox\nRUN --network=none --mount=type=bind,target=/all --mount=source=src,target=/src {LOOK}\n"
    );
    check(world, &text, &[]);
}

#[test]
fn of_the_context() {
    of_context(&World::new());
}

#[test]
fn of_the_context_without_root() {
    of_context(&World::of(users::with_ranges()));
}

#[test]
fn of_the_context_without_ranges_of_ids() {
    of_context(&World::of(users::without_ranges()));
}

#[test]
fn of_a_named_context() {
    let world = World::new();
    let text = format!("FROM busybox\nRUN --network=none --mount=from=lib,source=src,target=/src {LOOK}\n");
    check(&world, &text, &["--build-context", "lib=."]);
}

#[test]
fn of_a_stage() {
    for world in [World::new(), World::of(users::with_ranges())] {
        let text = format!(
            "FROM busybox AS files\nRUN --network=none echo below > /below\nCOPY src /some/src\nCOPY src /more\n\
             FROM busybox\nRUN --network=none --mount=from=files,source=/some/src,target=/src {LOOK}\n"
        );
        check(&world, &text, &[]);
    }
}

#[test]
fn of_the_stage_that_is_the_root_too() {
    let text = format!(
        "FROM busybox AS files\nCOPY . /files\nFROM files\n\
         RUN --network=none --mount=from=files,source=/files/src,target=/src,rw {LOOK}\n"
    );
    check(&World::new(), &text, &[]);
}

/// What is written to a mount is thrown away, and what was there counts where it was needed for that.
#[test]
fn that_is_written_to() {
    for world in [World::new(), World::of(users::with_ranges())] {
        let text = "FROM busybox
RUN --network=none --mount=type=bind,target=/src,rw cd /src/src; echo 2 >> read; rm target; mkdir new; \
    mv dir/deep/file moved; cat read link moved > /out; ls new listed >> /out; true
";
        let project = project(&world, text);
        let build = || world.build(&project).arg("--explain").succeeds();
        build();
        project.write("src/other", "2");
        project.write("more", "1");
        build().cached("echo 2").says("cached, by observations");
        let out = |expected: &str| assert_eq!(world.tree(&project).text("out"), expected);
        out("12\n1listed:\na\n\nnew:\n");
        assert!(!world.tree(&project).has("src/src"), "nothing of the mount is left in the image");
        let edits: [(Edit, &str); 6] = [
            (("`/src/src/read`", |project| project.write("src/read", "3")), "32\n1listed:\na\n\nnew:\n"),
            (
                ("`/src/src/target`", |project| fs::remove_file(project.join("src/target")).unwrap()),
                "32\n1listed:\na\n\nnew:\n",
            ),
            (
                ("`/src/src/dir/deep/file`", |project| project.write("src/dir/deep/file", "4")),
                "32\n4listed:\na\n\nnew:\n",
            ),
            (("`/src/src/new`", |project| project.write("src/new/x", "")), "32\n4listed:\na\n\nnew:\nx\n"),
            (("`/src/src/new`", |project| project.write("src/new/y", "")), "32\n4listed:\na\n\nnew:\nx\ny\n"),
            (("`/src/src/listed`", |project| project.write("src/listed/b", "")), "32\n4listed:\na\nb\n\nnew:\nx\ny\n"),
        ];
        for ((what, edit), expected) in edits {
            edit(&project);
            build().ran("echo 2").says(what);
            out(expected);
        }
    }
}

/// A mount of one file, one through a link, and one that begins empty.
#[test]
fn that_is_a_file_or_comes_to_be_one() {
    let world = World::new();
    let text = "FROM busybox
RUN --network=none --mount=source=src/link,target=/one --mount=source=dir,target=/dir cat /one > /out; echo /dir/* >> /out
";
    let project = project(&world, text);
    fs::create_dir(project.join("dir")).unwrap();
    let build = || world.build(&project).arg("--explain").succeeds();
    let out = |expected: &str| assert_eq!(world.tree(&project).text("out"), expected);
    build();
    out("1/dir/*\n");
    project.write("src/other", "2");
    build().all_cached();
    project.write("src/target", "2");
    build().ran("cat /one");
    out("2/dir/*\n");
    project.write("dir/new", "1");
    build().ran("cat /one").says("/dir");
    out("2/dir/new\n");
    project.write("dir/new", "2");
    build().cached("cat /one").says("cached, by observations");
    fs::remove_file(project.join("src/link")).unwrap();
    symlink("read", project.join("src/link")).unwrap();
    project.write("src/read", "3");
    build().ran("cat /one");
    out("3/dir/new\n");
    fs::remove_file(project.join("src/link")).unwrap();
    world.build(&project).fails_with(1).says("src/link");
}

/// What a seed of a cache mount holds is only seen by the first that makes the cache, and counts as a whole.
#[test]
fn not_where_a_cache_begins_with_it() {
    let world = World::new();
    let text = "FROM busybox AS files\nCOPY src /src\nFROM busybox
RUN --network=none --mount=from=files,source=/src,target=/src \
    --mount=type=cache,target=/cache,from=files,source=/src cat /src/read > /out
";
    let project = project(&world, text);
    let build = || world.build(&project).arg("--explain").succeeds();
    build();
    project.write("src/other", "2");
    build().ran("cat /src/read");
}
