//! What is cached, and what is not.

use kiln_tests::{Project, World};
use rustix::fs::inotify;

const TWO_STAGES: &str = "FROM busybox AS build
WORKDIR /src
COPY one.txt .
RUN cat one.txt > made
COPY two.txt .
RUN cat two.txt >> made
FROM busybox
RUN echo independent > /independent
COPY --from=build /src/made /made
RUN wc -c /made > /count
";

fn two_stages(world: &World) -> Project {
    world.project(&[("Dockerfile", TWO_STAGES), ("one.txt", "one\n"), ("two.txt", "two\n"), ("unused.txt", "x\n")])
}

#[test]
fn the_second_build_is_all_cached() {
    let world = World::new();
    let project = two_stages(&world);
    let first = world.image(&project, &[]);
    let outcome = world.build(&project).succeeds();
    outcome.all_cached();
    for step in ["WORKDIR /src", "COPY one.txt", "RUN cat two.txt", "RUN wc -c", "COPY --from=build"] {
        outcome.cached(step);
    }
    assert_eq!(world.image(&project, &[]).id, first.id, "the same build gives the same image");
}

#[test]
fn an_edit_runs_just_what_depends_on_it() {
    let world = World::new();
    let project = two_stages(&world);
    world.build(&project).succeeds();
    project.write("two.txt", "two, changed\n");
    let outcome = world.build(&project).succeeds();
    outcome.cached("WORKDIR /src").cached("COPY one.txt").cached("RUN cat one.txt").cached("RUN echo independent");
    outcome.ran("COPY two.txt").ran("RUN cat two.txt").ran("COPY --from=build").ran("RUN wc -c");
    assert_eq!(world.tree(&project).text("made"), "one\ntwo, changed\n");
}

#[test]
fn an_edit_of_the_same_size_and_time_is_seen() {
    let world = World::new();
    let project = two_stages(&world);
    let time = std::fs::metadata(project.join("two.txt")).unwrap().modified().unwrap();
    world.build(&project).succeeds();
    project.write("two.txt", "owt\n");
    std::fs::File::options().write(true).open(project.join("two.txt")).unwrap().set_modified(time).unwrap();
    world.build(&project).succeeds().ran("COPY two.txt");
}

#[test]
fn touch_runs_nothing() {
    let world = World::new();
    let project = two_stages(&world);
    world.build(&project).succeeds();
    for file in ["one.txt", "two.txt", "Dockerfile"] {
        project.touch(file);
    }
    world.build(&project).succeeds().all_cached();
}

#[test]
fn files_that_nothing_copies_do_not_matter() {
    let world = World::new();
    let project = two_stages(&world);
    world.build(&project).succeeds();
    project.write("unused.txt", "changed\n");
    project.write("new/file", "new\n");
    world.build(&project).succeeds().all_cached();
}

#[test]
fn ignored_files_do_not_matter() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", "FROM busybox\nCOPY . /app\nRUN ls /app > /list\n"),
        (".dockerignore", "*.log\n"),
        ("a", "a"),
        ("x.log", "1"),
    ]);
    world.build(&project).succeeds();
    project.write("x.log", "2");
    project.write("y.log", "new");
    world.build(&project).succeeds().all_cached();
    project.write("b", "b");
    world.build(&project).succeeds().ran("COPY . /app").ran("RUN ls");
}

#[test]
fn a_mode_counts() {
    let world = World::new();
    let project = two_stages(&world);
    world.build(&project).succeeds();
    std::fs::set_permissions(project.join("one.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    world.build(&project).succeeds().ran("COPY one.txt").cached("RUN echo independent");
    assert_eq!(world.image(&project, &["--target", "build"]).tree().node("src/one.txt").mode, 0o600);
}

#[test]
fn a_copy_does_not_depend_on_what_it_does_not_touch() {
    let world = World::new();
    let text = "FROM busybox
ARG V
RUN echo $V > /version; if [ $V = 3 ]; then mkdir -m 700 /data; fi
WORKDIR /app
COPY one.txt .
COPY --chown=7:7 --chmod=600 two.txt /data/
RUN ls /app > /list
";
    let project = world.project(&[("Dockerfile", text), ("one.txt", "one\n"), ("two.txt", "two\n")]);
    let first = world.image(&project, &["--build-arg", "V=1"]);
    let outcome = world.build(&project).args(["--build-arg", "V=2"]).succeeds();
    outcome.ran("RUN echo").cached("WORKDIR").cached("COPY one").cached("COPY --chown").ran("RUN ls");
    let second = world.image(&project, &["--build-arg", "V=2"]);
    let diff_ids = |image: &kiln_tests::Image| image.config["rootfs"]["diff_ids"].as_array().unwrap().clone();
    let (first, second) = (diff_ids(&first), diff_ids(&second));
    assert_ne!(first[first.len() - 5], second[second.len() - 5]);
    assert_eq!(first[first.len() - 4..first.len() - 1], second[second.len() - 4..second.len() - 1]);
    // The owner and mode of the source are not looked at, either.
    std::fs::set_permissions(project.join("two.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(project.join("two.txt"), Some(9), Some(9)).unwrap();
    world.build(&project).args(["--build-arg", "V=2"]).succeeds().all_cached();
    // The directory that it copies into is.
    let outcome = world.build(&project).args(["--build-arg", "V=3"]).succeeds();
    outcome.cached("WORKDIR").cached("COPY one").ran("COPY --chown");
}

#[test]
fn a_comment_or_other_spacing_changes_nothing() {
    let world = World::new();
    let project = two_stages(&world);
    world.build(&project).succeeds();
    project.write("Dockerfile", &format!("# comment\n\n{}", TWO_STAGES.replace("COPY ", "copy   ")));
    world.build(&project).succeeds().all_cached();
}

#[test]
fn the_context_may_be_elsewhere() {
    let world = World::new();
    let first = two_stages(&world);
    world.build(&first).succeeds();
    world.build(&two_stages(&world)).succeeds().all_cached();
}

#[test]
fn a_rerun_that_makes_the_same_stops_there() {
    let world = World::new();
    let dockerfile = "FROM busybox AS build\nCOPY in /in\nRUN head -n 1 /in > /out\nFROM busybox\n\
                      COPY --from=build /out /out\nRUN wc /out > /count\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("in", "same\none\n")]);
    world.build(&project).succeeds();
    project.write("in", "same\ntwo\n");
    let outcome = world.build(&project).succeeds();
    outcome.ran("COPY in").ran("RUN head").cached("COPY --from=build").cached("RUN wc");
}

#[test]
fn arguments_count_where_they_are_in_scope() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo before > /before\nARG version=1\nRUN echo $version > /version\n",
    )]);
    world.build(&project).succeeds();
    world.build(&project).args(["--build-arg", "version=1"]).succeeds().all_cached();
    let outcome = world.build(&project).args(["--build-arg", "version=2"]).succeeds();
    outcome.cached("RUN echo before").ran("RUN echo 2");
    world.build(&project).succeeds().all_cached();
}

#[test]
fn metadata_runs_nothing() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\nLABEL a=1\n")]);
    let first = world.image(&project, &[]);
    project.write("Dockerfile", "FROM busybox\nLABEL b=2\nRUN echo x > /x\nCMD [\"x\"]\n");
    world.build(&project).succeeds().all_cached();
    let second = world.image(&project, &[]);
    assert_eq!(first.layers.last().unwrap().0, second.layers.last().unwrap().0);
    assert_eq!(second.field("Labels")["b"], "2");
}

#[test]
fn explain_says_why_each_step_ran() {
    let world = World::new();
    let text = "FROM busybox
ARG V=1
RUN echo $V > /version
WORKDIR /app
COPY . .
RUN cat /app/a > /list
RUN cat /list
";
    let project = world.project(&[("Dockerfile", text), ("a", "a\n"), (".dockerignore", "Dockerfile\n")]);
    let explained = |args: &[&str]| {
        let outcome = world.build(&project).arg("--explain=json").args(args).succeeds();
        let steps: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
        let step = |step: &serde_json::Value| {
            let reasons = step["reasons"].as_array().unwrap().iter();
            let reasons: Vec<&str> = reasons.map(|reason| reason["message"].as_str().unwrap()).collect();
            let outcome = step["key"].as_str().or(step["outcome"].as_str()).unwrap();
            let name = step["step"].as_str().unwrap();
            format!("{}: {outcome}: {}", name.split("] ").last().unwrap(), reasons.join(", "))
        };
        steps.as_array().unwrap().iter().map(step).collect::<Vec<_>>()
    };
    let first = explained(&[]);
    assert!(first.iter().all(|step| step.ends_with(": ran: never built here")), "{first:?}");
    project.write("a", "b\n");
    let content = "content 87428fc52280 → content 0263829989b6";
    let edit = format!("`/app/a`: {content}");
    assert_eq!(
        explained(&[]),
        [
            "RUN echo 1 > /version: not needed: ".to_owned(),
            "WORKDIR /app: definition: ".to_owned(),
            format!("COPY . .: ran: {edit}"),
            format!("RUN cat /app/a > /list: ran: {edit}, which this step looked at"),
            format!("RUN cat /list: ran: `/list`: {content}, which this step looked at"),
        ]
    );
    let version = "`/version`: content 4355a46b19d3 → content 53c234e5e847";
    assert_eq!(
        explained(&["--build-arg", "V=2"])[..3],
        [
            "RUN echo 2 > /version: ran: `variable V`: 1 → 2".to_owned(),
            format!("WORKDIR /app: observations: {version}"),
            format!("COPY . .: observations: {version}"),
        ]
    );
    let again = explained(&["--no-cache"]);
    assert!(again.iter().all(|step| step.ends_with(": ran: the cache was not to be used")), "{again:?}");
    let text = world.build(&project).arg("--explain").succeeds();
    text.says("RUN cat /list\n  cached, by definition\n");
    world.build(&project).args(["--explain=json", "-q"]).fails_with(2).says("both go to standard output");
}

const OBSERVED: &str = "FROM busybox
COPY . /app
WORKDIR /app
RUN --network=none cat read > /out; echo listed/* > /names; test -e absent; true
RUN --network=none cat /out
";

fn observed(world: &World) -> Project {
    let files = [("Dockerfile", OBSERVED), ("read", "1"), ("other", "1"), ("listed/a", "1"), ("dir/deep", "1")];
    world.project(&files)
}

/// RUN depends on nothing of the layers above its base image that it did not look at.
#[test]
fn run_does_not_depend_on_what_it_did_not_look_at() {
    let world = World::new();
    let project = observed(&world);
    world.build(&project).succeeds();
    type Edit = (&'static str, fn(&Project));
    let hits: [Edit; 5] = [
        ("a file that it did not read", |project| project.write("other", "2")),
        ("a new file that it did not look for", |project| project.write("more", "1")),
        ("a file in a directory that it did not look into", |project| project.write("dir/deep", "2")),
        ("the content of a file that it only saw the name of", |project| project.write("listed/a", "2")),
        ("a file that is gone", |project| std::fs::remove_file(project.join("other")).unwrap()),
    ];
    for (what, edit) in hits {
        edit(&project);
        let outcome = world.build(&project).arg("--explain").succeeds();
        outcome.ran("COPY . /app").cached("cat read").cached("cat /out").says("  cached, by observations\n");
        let tree = world.tree(&project);
        for file in ["other", "more", "dir/deep", "listed/a"] {
            let expected = std::fs::read_to_string(project.join(file)).ok();
            let found = tree.has(&format!("app/{file}")).then(|| tree.text(&format!("app/{file}")));
            assert_eq!(found, expected, "{what}: `{file}` is that of today");
        }
    }
    let misses: [Edit; 5] = [
        ("`/app/read`", |project| project.write("read", "2")),
        ("`/app/listed`", |project| project.write("listed/b", "1")),
        ("`/app/absent`", |project| project.write("absent", "1")),
        ("`/app/absent`", |project| project.write("absent", "2")),
        ("`/app/listed`", |project| std::fs::remove_file(project.join("listed/a")).unwrap()),
    ];
    for (what, edit) in misses {
        edit(&project);
        let outcome = world.build(&project).arg("--explain").succeeds();
        outcome.ran("cat read").says(what);
    }
}

#[test]
fn tracing_can_be_switched_off() {
    let world = World::new();
    let project = observed(&world);
    world.build(&project).arg("--trace=off").succeeds();
    project.write("other", "2");
    world.build(&project).arg("--trace=off").succeeds().ran("cat read");
    project.write("other", "3");
    world.build(&project).succeeds().ran("cat read");
    project.write("other", "4");
    world.build(&project).arg("--trace=off").succeeds().ran("cat read");
    project.write("other", "5");
    world.build(&project).succeeds().cached("cat read");
}

#[test]
fn an_instruction_can_say_that_it_runs_always() {
    let world = World::new();
    let text = "FROM busybox
# kiln: always
RUN --network=none test -e /proc && echo same > /same
RUN --network=none cat /same > /copy
";
    let project = world.project(&[("Dockerfile", text)]);
    world.build(&project).succeeds();
    let outcome = world.build(&project).arg("--explain").succeeds();
    outcome.ran("echo same").cached("cat /same").says("it is marked to run always").says("cached, by content");
    project.write("Dockerfile", &text.replace("# kiln: always\n", "# kiln: comes too late\n\n"));
    world.build(&project).fails_with(1).says("belongs to no instruction");
    project.write("Dockerfile", &text.replace("# kiln: always\n", ""));
    world.build(&project).succeeds().all_cached();
}

#[test]
fn an_instruction_can_say_that_it_is_not_observed() {
    let world = World::new();
    let project = observed(&world);
    project.write(
        "Dockerfile",
        &OBSERVED.replace("RUN --network=none cat read", "# kiln: untraced\nRUN --network=none cat read"),
    );
    world.build(&project).succeeds();
    world.build(&project).succeeds().all_cached();
    project.write("other", "2");
    let outcome = world.build(&project).arg("--explain").succeeds();
    outcome.ran("cat read").cached("cat /out").says("not observed, as its instruction says");
    project.write("other", "1");
    world.build(&project).succeeds().cached("cat read");
    // The word of an observation counts no more once it is not wanted.
    project.write("Dockerfile", OBSERVED);
    world.build(&project).succeeds().ran("cat read");
}

#[test]
fn an_instruction_can_ignore_arguments() {
    let world = World::new();
    let text = "FROM busybox
ARG VERSION
ARG OTHER=1
COPY file /file
# kiln: ignore-arg=VERSION
RUN --network=none echo $VERSION $OTHER > /said; cat /file
RUN --network=none echo $VERSION > /counts
";
    let project = world.project(&[("Dockerfile", text), ("file", "1"), ("more", "1")]);
    let build = |args: &[&str]| world.build(&project).arg("--explain").args(args).succeeds();
    build(&["--build-arg", "VERSION=1"]);
    let said = |args: &[&str]| world.image(&project, args).tree().text("said");
    // By definition; without any value, too.
    for args in [&["--build-arg", "VERSION=2"][..], &[]] {
        build(args).cached("cat /file").ran("/counts").says("whatever the values of VERSION");
        assert_eq!(said(args), "1 1\n");
    }
    // Another argument counts, and so does a file; what is ignored is no reason.
    let outcome = build(&["--build-arg", "VERSION=3", "--build-arg", "OTHER=2"]);
    outcome.ran("cat /file").says("`variable OTHER`: 1 → 2").does_not_say("`variable VERSION`: ignored");
    assert_eq!(said(&["--build-arg", "OTHER=2"]), "3 2\n");
    project.write("file", "2");
    build(&["--build-arg", "VERSION=4"]).ran("cat /file").says("`/file`");
    // By content, and by observation.
    project.touch("file");
    build(&["--build-arg", "VERSION=5"]).cached("cat /file");
    project.write("Dockerfile", &text.replace("COPY file /file", "COPY . /"));
    build(&["--build-arg", "VERSION=6"]);
    project.write("more", "2");
    build(&["--build-arg", "VERSION=7"]).cached("cat /file").says("cached, by observations");
    project.write("Dockerfile", &text.replace("=VERSION", "=VERSON"));
    world.build(&project).fails_with(1).says("did you mean `VERSION`?");
}

/// Whom `USER` means is looked up before the command runs.
#[test]
fn who_the_user_is_counts() {
    let world = World::new();
    let text = "FROM busybox
COPY passwd /etc/passwd
COPY other /other
USER ada
RUN --network=none id -u > /tmp/id
";
    let project = world.project(&[("Dockerfile", text), ("passwd", "ada:x:7:7::/:/bin/sh\n"), ("other", "1")]);
    world.build(&project).succeeds();
    project.write("other", "2");
    world.build(&project).succeeds().cached("id -u");
    project.write("passwd", "ada:x:8:8::/:/bin/sh\n");
    let outcome = world.build(&project).arg("--explain").succeeds();
    outcome.ran("id -u").says("`user ada`: 7:7 [7] → 8:8 [8]");
    assert_eq!(world.tree(&project).text("tmp/id"), "8\n");
}

/// What such a build costs must not depend on how much else there is.
#[test]
fn a_cached_build_writes_no_row_and_lists_no_folder_of_the_store() {
    let world = World::new();
    let text = "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN --network=none cat file > copy\n";
    let project = world.project(&[("Dockerfile", text), ("file", "x\n")]);
    world.build(&project).args(["-t", "app"]).succeeds();
    world.build(&project).args(["-t", "app"]).succeeds().all_cached();
    let database = || ["kiln.db", "kiln.db-wal"].map(|name| std::fs::read(world.root().join(name)).unwrap());
    let before = database();
    let inotify = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let mut folders = vec![world.root().join("layers"), world.root().join("blobs/sha256")];
    while let Some(folder) = folders.pop() {
        inotify::add_watch(&inotify, &folder, inotify::WatchFlags::OPEN).unwrap();
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        folders.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
    }
    // Our own looking around.
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&inotify, &mut buffer);
    while events.next().is_ok() {}
    world.build(&project).args(["-t", "app"]).succeeds().all_cached();
    assert!(database() == before, "something was written");
    let mut opened = Vec::new();
    while let Ok(event) = events.next() {
        opened.extend(event.events().contains(inotify::ReadFlags::ISDIR).then(|| format!("{:?}", event.file_name())));
    }
    assert_eq!(opened, [""; 0], "folders were opened");
}
