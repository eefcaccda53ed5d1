//! The forms of the Dockerfile language that reach files: heredocs, fetched sources, flags of `COPY` and `ADD`,
//! triggers and named contexts.

use std::os::unix::fs::PermissionsExt as _;

use kiln_tests::{Project, Tree, Web, World};
use serde_json::json;

fn tree_of(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> Tree {
    let mut all = vec![("Dockerfile", dockerfile)];
    all.extend(files);
    world.tree(&world.project(&all))
}

fn owned(tree: &Tree, path: &str) -> (u32, u64, u64) {
    let node = tree.node(path);
    (node.mode, node.uid, node.gid)
}

#[test]
fn heredocs_are_scripts_and_input() {
    let dockerfile = "FROM busybox
ARG NAME=world
RUN <<EOF
set -e
echo one > /one
echo \"hello $NAME\" > /two
EOF
RUN cat <<EOF > /three && cat <<'QUOTED' > /four
$NAME
EOF
$NAME
QUOTED
RUN <<-EOF
	echo tabs > /five
	EOF
";
    let tree = tree_of(&World::new(), dockerfile, &[]);
    let texts = ["one", "two", "three", "four", "five"].map(|path| tree.text(path));
    assert_eq!(texts, ["one\n", "hello world\n", "world\n", "$NAME\n", "tabs\n"]);
}

#[test]
fn a_failing_line_of_a_script_ends_the_build_where_the_shell_is_told_so() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN <<EOF\nset -e\nfalse\ntrue\nEOF\n")]);
    world.build(&project).fails_with(1).says_one_error().says("Dockerfile:2");
}

#[test]
fn heredocs_are_files() {
    let dockerfile = "FROM busybox
ENV NAME=world
WORKDIR /app
COPY <<a.txt <<'b.txt' from-context conf/
hello $NAME
a.txt
hello $NAME
b.txt
COPY --chown=1:2 --chmod=750 <<EOF /bin/script
#!/bin/sh
echo ran
EOF
ADD <<-EOF one
	chomped
	EOF
RUN /bin/script > /ran
";
    let tree = tree_of(&World::new(), dockerfile, &[("from-context", "x")]);
    let texts = ["app/conf/a.txt", "app/conf/b.txt", "app/conf/from-context", "app/one", "ran"];
    let texts = texts.map(|path| tree.text(path));
    assert_eq!(texts, ["hello world\n", "hello $NAME\n", "x", "chomped\n", "ran\n"]);
    assert_eq!(owned(&tree, "app/conf/a.txt"), (0o644, 0, 0));
    assert_eq!(owned(&tree, "bin/script"), (0o750, 1, 2));
}

#[test]
fn an_edit_of_a_heredoc_runs_what_depends_on_it() {
    let world = World::new();
    let text = |word: &str| format!("FROM busybox\nCOPY <<EOF /x\n{word}\nEOF\nRUN cp /x /y\n");
    let project = world.project(&[("Dockerfile", &text("one"))]);
    world.build(&project).succeeds();
    world.build(&project).succeeds().all_cached();
    project.write("Dockerfile", &text("two"));
    world.build(&project).succeeds().ran("COPY <<EOF /x").ran("RUN cp /x /y");
    assert_eq!(world.tree(&project).text("y"), "two\n");
}

#[test]
fn urls_are_fetched() {
    let world = World::new();
    let served = world.project(&[("file.txt", "fetched"), ("dir/data", "more")]);
    let web = Web::serve(served.path());
    let dockerfile = format!(
        "FROM scratch\nADD {} /\nADD {} /renamed\nADD --chmod=644 --chown=3:4 {} /d/\n",
        web.url("file.txt"),
        web.url("dir/data"),
        web.url("dir/data?x=y")
    );
    let project = world.project(&[("Dockerfile", &dockerfile)]);
    let tree = world.tree(&project);
    assert_eq!(tree.paths(), ["d", "d/data", "file.txt", "renamed"]);
    assert_eq!((tree.text("file.txt"), tree.text("renamed")), ("fetched".to_owned(), "more".to_owned()));
    assert_eq!(owned(&tree, "file.txt"), (0o600, 0, 0));
    assert_eq!(owned(&tree, "d/data"), (0o644, 3, 4));
    // Archives from elsewhere are files like any other, unless it is said.
    served.write("file.txt", "changed");
    assert_eq!(world.tree(&project).text("file.txt"), "changed");
}

#[test]
fn a_checksum_is_checked() {
    let world = World::new();
    let served = world.project(&[("empty", "")]);
    let web = Web::serve(served.path());
    let build = |digest: &str| {
        let add = format!("FROM scratch\nADD --checksum=sha256:{digest} {} /\n", web.url("empty"));
        world.build(&world.project(&[("Dockerfile", &add)])).run()
    };
    let right = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert!(build(right).status.success());
    let wrong = build(&right.replace('e', "f"));
    assert_eq!(wrong.status.code(), Some(1), "{wrong}");
    wrong.says_one_error().says("Dockerfile:2");
}

#[test]
fn exclude_and_parents() {
    let world = World::new();
    let files = [("src/a.c", "a"), ("src/a.md", "m"), ("src/sub/b.c", "b"), ("src/sub/b.md", "n"), ("top", "t")];
    let dockerfile = "FROM scratch
COPY --exclude=*.md --exclude=**/*.md src /plain/
COPY --parents src/sub/b.c top /parents/
COPY --parents src/./sub/*.md /pivot/
COPY --parents **/*.c /all/
";
    let tree = tree_of(&world, dockerfile, &files);
    let below = |directory: &str| tree.below(directory).join(" ");
    assert!(
        !below("plain").contains(".md") && tree.has("plain/a.c") && tree.has("plain/sub/b.c"),
        "{:?}",
        tree.paths()
    );
    assert!(tree.has("parents/src/sub/b.c") && tree.has("parents/top"), "{:?}", tree.paths());
    assert!(tree.has("pivot/sub/b.md") && !tree.has("pivot/src"), "{:?}", tree.paths());
    assert!(tree.has("all/src/a.c") && tree.has("all/src/sub/b.c") && !tree.has("all/top"), "{:?}", tree.paths());
}

#[test]
fn symbolic_modes_depend_on_the_file() {
    let world = World::new();
    let project = world.project(&[
        (
            "Dockerfile",
            "FROM scratch\nARG WHO=go\nCOPY --chmod=u=rwX,$WHO=rX dir /d/\nCOPY --chmod=a-w,u+x dir/plain /p\n",
        ),
        ("dir/plain", "x"),
        ("dir/program", "x"),
        ("dir/sub/file", "x"),
    ]);
    for (path, mode) in [("dir/plain", 0o600), ("dir/program", 0o700), ("dir/sub", 0o700), ("dir/sub/file", 0o666)] {
        std::fs::set_permissions(project.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let tree = world.tree(&project);
    let modes = ["d/plain", "d/program", "d/sub", "d/sub/file", "p"].map(|path| tree.node(path).mode);
    assert_eq!(modes, [0o644, 0o755, 0o755, 0o644, 0o500]);
}

#[test]
fn triggers_run_in_the_child_and_are_gone_then() {
    let world = World::new();
    let base = world.project(&[(
        "Dockerfile",
        "FROM busybox\nONBUILD COPY <<EOF /from-base\ntrigger\nEOF\nONBUILD RUN cat /from-base > /ran\n",
    )]);
    world.build(&base).args(["-t", "base:1"]).succeeds();
    assert!(!world.tree(&base).has("from-base"));
    let child = world.project(&[("Dockerfile", "FROM base:1\nRUN cp /ran /last\n")]);
    let image = world.image(&child, &[]);
    assert_eq!(image.tree().text("last"), "trigger\n");
    assert!(image.field("OnBuild").is_null(), "{}", image.config);
}

#[test]
fn triggers_of_a_stage_run_in_the_next() {
    let dockerfile = "FROM busybox AS base\nONBUILD RUN echo $X > /x\nENV X=1\nFROM base\nENV X=2\nRUN cat /x > /y\n";
    assert_eq!(tree_of(&World::new(), dockerfile, &[]).text("y"), "1\n");
}

#[test]
fn a_command_may_be_without_a_network() {
    let dockerfile = "FROM busybox\nRUN --network=none ls /sys/class/net > /none; cat /proc/net/dev > /devices\n";
    let devices = tree_of(&World::new(), dockerfile, &[]).text("devices");
    let others = devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).count();
    assert_eq!(others, 0, "{devices}");
}

#[test]
fn a_named_context_may_be_a_stage() {
    let world = World::new();
    let dockerfile = "FROM tools\nCOPY --from=tools /made /copied\nFROM busybox AS build\nRUN echo built > /made\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let image = world.image(&project, &["--build-context", "tools=target:build", "--target", "0"]);
    assert_eq!(image.tree().text("copied"), "built\n");
}

fn refused(world: &World, dockerfile: &str, says: &[&str]) {
    let project: Project = world.project(&[("Dockerfile", dockerfile)]);
    let outcome = world.build(&project).fails();
    for text in says {
        outcome.says(text);
    }
}

#[test]
fn another_frontend_is_told_whatever_the_file_looks_like() {
    let world = World::new();
    for text in
        ["# syntax=example.com/x\nFROM a\n", "// syntax=example.com/x\nmodule\n", "{ \"syntax\": \"example.com/x\" }\n"]
    {
        let project = world.project(&[("Dockerfile", text)]);
        world.build(&project).fails().says_one_error().says("the frontend `example.com/x` is not supported");
    }
}

#[test]
fn what_is_not_allowed_is_told() {
    let world = World::new();
    refused(&world, "FROM busybox\nRUN --network=host true\n", &["Dockerfile:2", "network.host"]);
    refused(
        &world,
        "FROM busybox\nRUN --mount=type=chache,target=/x true\n",
        &["Dockerfile:2", "did you mean `cache`?"],
    );
    refused(&world, "FROM busybox\nARG X=a\nCOPY --from=$X /a /b\n", &["Dockerfile:3", "--from"]);
}

#[test]
fn the_config_has_every_form() {
    let world = World::new();
    let dockerfile = "FROM busybox\nARG P=\"8000-8002/udp 53/SCTP\"\nEXPOSE 80 $P\nVOLUME [\"/a b\"]\nVOLUME /c /d\n\
        STOPSIGNAL SIGRTMIN+3\nMAINTAINER somebody\nSHELL [\"/bin/ash\", \"-c\"]\nCMD x\n\
        HEALTHCHECK --start-interval=2s CMD [\"true\"]\n";
    let image = world.image(&world.project(&[("Dockerfile", dockerfile)]), &[]);
    assert_eq!(
        image.field("ExposedPorts"),
        &json!({ "80/tcp": {}, "8000/udp": {}, "8001/udp": {}, "8002/udp": {}, "53/sctp": {} })
    );
    assert_eq!(image.field("Volumes"), &json!({ "/a b": {}, "/c": {}, "/d": {} }));
    assert_eq!(image.field("StopSignal"), "SIGRTMIN+3");
    assert_eq!(image.config["author"], "somebody");
    assert_eq!(image.field("Cmd"), &json!(["/bin/ash", "-c", "x"]));
    assert_eq!(image.field("Healthcheck"), &json!({ "Test": ["CMD", "true"], "StartInterval": 2_000_000_000_u64 }));
}
