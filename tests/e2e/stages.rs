//! Stages, and what COPY takes from them and from elsewhere.

use kiln_tests::{Kind, World};

#[test]
fn hello_world() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo hello > /hello\n")]);
    let outcome = world.build(&project).args(["-t", "hello"]).succeeds();
    outcome.ran("RUN echo hello > /hello");
    assert!(outcome.stdout.is_empty(), "stdout carries data alone\n{outcome}");
    let image = world.image(&project, &[]);
    assert_eq!(image.tree().text("hello"), "hello\n");
    assert_eq!(image.last_layer().paths(), ["hello"], "a layer has what changed, and no more");
}

#[test]
fn copy_from_a_stage_an_index_and_an_image() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS one\nRUN echo 1 > /one\nFROM busybox\nRUN echo 2 > /two\nFROM scratch\n\
         COPY --from=one /one /\nCOPY --from=1 /two /\nCOPY --from=busybox:latest /etc/passwd /passwd\n",
    )]);
    let tree = world.tree(&project);
    assert_eq!(tree.paths(), ["one", "passwd", "two"]);
    assert_eq!((tree.text("one"), tree.text("two")), ("1\n".to_owned(), "2\n".to_owned()));
    assert!(tree.text("passwd").contains("www-data"));
}

#[test]
fn stage_names_are_case_insensitive() {
    let world = World::new();
    let project = world
        .project(&[("Dockerfile", "FROM busybox AS Build\nRUN echo x > /x\nFROM scratch\nCOPY --from=build /x /y\n")]);
    assert_eq!(world.tree(&project).text("y"), "x\n");
}

#[test]
fn scratch_has_nothing_but_what_is_copied() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY a /b/c\n"), ("a", "text")]);
    let image = world.image(&project, &[]);
    assert_eq!(image.layers.len(), 1);
    let tree = image.tree();
    assert_eq!(tree.paths(), ["b", "b/c"]);
    assert_eq!(tree.node("b").kind, Kind::Directory);
    assert_eq!((tree.node("b").mode, tree.node("b").uid), (0o755, 0));
}

#[test]
fn an_image_may_have_no_layer_at_all() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nLABEL empty=yes\n")]);
    let image = world.image(&project, &[]);
    assert!(image.layers.is_empty());
    assert_eq!(image.field("Labels")["empty"], "yes");
}

#[test]
fn unneeded_stages_do_not_run() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS unneeded\nRUN echo unneeded && false\nFROM busybox AS needed\nRUN echo needed > /n\n\
         FROM scratch\nCOPY --from=needed /n /n\n",
    )]);
    let outcome = world.build(&project).succeeds();
    outcome.ran("RUN echo needed").never_mentions("RUN echo unneeded");
}

#[test]
fn a_layer_from_a_stage_keeps_times() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS build\nRUN touch -d '2001-02-03 04:05:06' /old\nFROM scratch\nCOPY --from=build /old /new\n",
    )]);
    assert_eq!(world.tree(&project).node("new").mtime, 981_173_106);
}

#[test]
fn a_pattern_that_matches_nothing_copies_nothing() {
    let world = World::new();
    let project =
        world.project(&[("Dockerfile", "FROM scratch\nCOPY file *.none /x/\nCOPY *.none /y/\n"), ("file", "x")]);
    assert_eq!(world.tree(&project).below("x"), ["file"], "as with BuildKit; only a plain name has to be there");
}

/// overlayfs refuses to mount one directory twice, and steps that change nothing share one layer.
#[test]
fn layers_that_come_more_than_once() {
    let world = World::new();
    let again = "RUN echo same > /same && touch -d @1700000000 /same /\nRUN rm /same\n";
    let dockerfile = format!("FROM busybox\n{}{}RUN test ! -e /same\n", "RUN true\n".repeat(5), again.repeat(3));
    let project = world.project(&[("Dockerfile", &dockerfile)]);
    assert!(!world.image(&project, &["--no-cache"]).tree().has("same"));
}
