//! Every bad input ends in one clear error, a non-zero exit, and a store that is as it was before.

use kiln_tests::{Project, World};

const FINE: &str = "FROM busybox\nCOPY file /file\nRUN cat /file > /copy\n";

/// A world with a store that holds something, so that a change would show.
fn world() -> World {
    let world = World::new();
    let project = world.project(&[("Dockerfile", FINE), ("file", "x")]);
    world.build(&project).args(["-t", "earlier"]).succeeds();
    world
}

/// Builds what cannot be built: all of `says` is to be said in one error.
fn refused(world: &World, project: &Project, args: &[&str], says: &[&str]) {
    let before = world.store_listing();
    let outcome = world.build(project).args(args).args(["-t", "bad"]).run();
    let code = outcome.status.code();
    assert!(matches!(code, Some(1 | 2)), "exit {code:?}\n{outcome}");
    outcome.says_one_error().does_not_say("panicked");
    for text in says {
        outcome.says(text);
    }
    assert!(outcome.stdout.is_empty(), "{outcome}");
    assert_eq!(world.store_listing(), before, "the store was touched\n{outcome}");
}

/// As [`refused`], of a Dockerfile alone.
fn refused_file(dockerfile: &str, says: &[&str]) {
    let world = world();
    let project = world.project(&[("Dockerfile", dockerfile), ("file", "x")]);
    refused(&world, &project, &[], says);
}

#[test]
fn no_dockerfile() {
    let world = world();
    let project = world.project(&[("file", "x")]);
    refused(&world, &project, &[], &["Dockerfile"]);
    refused(&world, &project, &["-f", "other/file"], &["other/file"]);
    project.write("directory/x", "x");
    refused(&world, &project, &["-f", "directory"], &["directory"]);
}

#[test]
fn no_context() {
    let world = world();
    let before = world.store_listing();
    world.kiln(["build", "/no/such/directory"]).fails().says_one_error().says("/no/such/directory");
    world.kiln(["build"]).fails_with(2);
    assert_eq!(world.store_listing(), before);
}

#[test]
fn empty_dockerfile() {
    refused_file("", &["Dockerfile", "no instructions"]);
    refused_file("# only a comment\n\n", &["Dockerfile"]);
}

#[test]
fn no_from() {
    refused_file("RUN true\n", &["FROM", "Dockerfile:1"]);
}

#[test]
fn unknown_instruction() {
    refused_file("FROM busybox\nRUNN true\n", &["Dockerfile:2", "RUNN", "RUN"]);
    refused_file("FROM busybox\nCOYP file /file\n", &["Dockerfile:2", "COYP", "COPY"]);
}

#[test]
fn unknown_flag_of_an_instruction() {
    refused_file("FROM busybox\nCOPY --chwon=1 file /file\n", &["Dockerfile:2", "--chwon", "--chown"]);
    refused_file("FROM busybox\nRUN --fancy true\n", &["Dockerfile:2", "--fancy"]);
}

#[test]
fn arguments_that_are_missing() {
    refused_file("FROM\n", &["Dockerfile:1", "FROM"]);
    refused_file("FROM busybox\nCOPY file\n", &["Dockerfile:2", "COPY"]);
    refused_file("FROM busybox\nENV name\n", &["Dockerfile:2", "ENV"]);
}

#[test]
fn missing_copy_source() {
    refused_file("FROM busybox\nCOPY file /file\nCOPY no-such-file /x\n", &["Dockerfile:3", "no-such-file"]);
    refused_file("FROM busybox\nCOPY --from=busybox /no/such /x\n", &["Dockerfile:2", "/no/such"]);
}

#[test]
fn an_ignored_copy_source_is_missing_too() {
    let world = world();
    let project =
        world.project(&[("Dockerfile", "FROM busybox\nCOPY file /file\n"), ("file", "x"), (".dockerignore", "file\n")]);
    refused(&world, &project, &[], &["Dockerfile:2", "file", ".dockerignore"]);
}

#[test]
fn a_path_that_leaves_the_context() {
    let world = world();
    std::fs::write(world.path().join("secret"), "outside").unwrap();
    // `..` stops at the top of the context, as it does for Docker: the file is not found.
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY ../secret /x\n")]);
    refused(&world, &project, &[], &["Dockerfile:2", "secret"]);
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY link/secret /x\n")]);
    std::os::unix::fs::symlink(world.path(), project.join("link")).unwrap();
    refused(&world, &project, &[], &["Dockerfile:2", "link"]);
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY passwd /x\n")]);
    std::os::unix::fs::symlink("/etc/passwd", project.join("passwd")).unwrap();
    refused(&world, &project, &[], &["Dockerfile:2", "passwd"]);
}

#[test]
fn unknown_stage() {
    let world = world();
    let project = world.project(&[("Dockerfile", "FROM busybox AS build\nRUN true\n")]);
    refused(&world, &project, &["--target", "biuld"], &["biuld", "build"]);
    refused_file("FROM busybox\nCOPY --from=7 /x /x\n", &["Dockerfile:2", "7"]);
}

#[test]
fn a_cycle_of_stages() {
    refused_file(
        "FROM busybox AS one\nCOPY --from=two /x /x\nFROM busybox AS two\nCOPY --from=one /x /x\n",
        &["Dockerfile:2", "two"],
    );
    refused_file("FROM busybox AS self\nCOPY --from=self /x /x\n", &["Dockerfile:2", "self"]);
}

#[test]
fn a_cycle_of_named_contexts() {
    let world = world();
    let project = world.project(&[("Dockerfile", "FROM one\nRUN true\n")]);
    let args = ["--build-context", "one=docker-image://two", "--build-context", "two=docker-image://one"];
    refused(&world, &project, &args, &["one", "two"]);
}

#[test]
fn named_contexts_that_are_not_there() {
    let world = world();
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY --from=more /x /x\n"), ("file", "x")]);
    refused(&world, &project, &["--build-context", "more=/no/such/directory"], &["/no/such/directory"]);
    refused(&world, &project, &["--build-context", "more"], &["more"]);
    let project = world.project(&[("Dockerfile", "FROM base\n")]);
    refused(&world, &project, &["--build-context", "base=oci-layout:///no/such/layout"], &["/no/such/layout"]);
}

#[test]
fn a_layout_that_is_none() {
    let world = world();
    let project = world.project(&[("Dockerfile", "FROM base\n")]);
    let broken = world.project(&[("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"), ("index.json", "not json")]);
    let context = format!("base=oci-layout://{}", broken.path().display());
    refused(&world, &project, &["--build-context", &context], &["index.json"]);
}

#[test]
fn a_name_that_is_none() {
    let world = world();
    let project = world.project(&[("Dockerfile", FINE), ("file", "x")]);
    refused(&world, &project, &["-t", "Not/A:Name:At all"], &["Not/A:Name:At all"]);
    refused_file("FROM Upper/Case\n", &["Dockerfile:1", "Upper/Case"]);
}

#[test]
fn unknown_flags_of_the_command_line() {
    let world = world();
    let project = world.project(&[("Dockerfile", FINE), ("file", "x")]);
    let before = world.store_listing();
    world.build(&project).arg("--taget=x").fails_with(2).says("--taget").says("--target");
    world.build(&project).args(["-o", "type=oci,desk=x"]).fails_with(2).says_one_error().says("desk");
    assert_eq!(world.store_listing(), before);
}

#[test]
fn a_broken_config_file() {
    let world = world();
    let project = world.project(&[("Dockerfile", FINE), ("file", "x")]);
    world.configure("[registry.\"x\"]\nhttp = \"maybe\"\n");
    let outcome = world.build(&project).run();
    assert!(!outcome.status.success());
    outcome.says_one_error().says("kiln.toml").says("http");
    let outcome = world.build(&project).env("KILN_CONFIG", "/no/such/kiln.toml").run();
    assert!(!outcome.status.success());
    outcome.says_one_error().says("/no/such/kiln.toml");
}

#[test]
fn bytes_that_are_no_text() {
    let world = world();
    let project = world.project(&[]);
    std::fs::write(project.join("Dockerfile"), b"FROM busybox\nRUN echo \xff\xfe\n").unwrap();
    refused(&world, &project, &[], &["Dockerfile"]);
    std::fs::write(project.join("Dockerfile"), vec![0_u8; 100_000]).unwrap();
    refused(&world, &project, &[], &["Dockerfile"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let world = world();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUNN one\nCOYP two\n")]);
    world.build(&project).fails().says("RUNN").says("COYP");
}

#[test]
fn a_platform_that_is_none() {
    let world = world();
    let project = world.project(&[("Dockerfile", FINE), ("file", "x")]);
    refused(&world, &project, &["--platform", "amiga"], &["amiga"]);
}
