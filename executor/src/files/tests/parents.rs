//! `COPY --parents`, as BuildKit has it.

use super::*;

fn with_parents(source: &str, destination: &str) -> CopyAction {
    CopyAction { parents: true, ..from_to(source, destination) }
}

fn world() -> World {
    World::new(&["a/b/x.txt", "a/b/y.md", "a/c/x.txt", "a/c/empty/", "d/x.txt", "top", "link->a"])
}

#[test]
fn directories_on_the_way_are_kept() {
    let world = world();
    let cases: [(&str, &[&str]); 15] = [
        ("top", &["to/", "to/top=top"]),
        ("a/b/x.txt", &["to/", "to/a/", "to/a/b/", "to/a/b/x.txt=a/b/x.txt"]),
        ("./a/b/x.txt", &["to/", "to/a/", "to/a/b/", "to/a/b/x.txt=a/b/x.txt"]),
        ("a/./b/x.txt", &["to/", "to/b/", "to/b/x.txt=a/b/x.txt"]),
        ("a/b/./x.txt", &["to/", "to/x.txt=a/b/x.txt"]),
        ("a/c", &["to/", "to/a/", "to/a/c/", "to/a/c/empty/", "to/a/c/x.txt=a/c/x.txt"]),
        ("a/c/empty/", &["to/", "to/a/", "to/a/c/", "to/a/c/empty/"]),
        ("a/*/*.md", &["to/", "to/a/", "to/a/b/", "to/a/b/y.md=a/b/y.md"]),
        ("a/./*/*.md", &["to/", "to/b/", "to/b/y.md=a/b/y.md"]),
        ("[d]/./x.txt", &["to/", "to/x.txt=d/x.txt"]),
        ("**/*.md", &["to/", "to/a/", "to/a/b/", "to/a/b/y.md=a/b/y.md"]),
        ("a/**/*.md", &["to/", "to/a/", "to/a/b/", "to/a/b/y.md=a/b/y.md"]),
        ("a/./**/x.txt", &["to/", "to/b/", "to/b/x.txt=a/b/x.txt", "to/c/", "to/c/x.txt=a/c/x.txt"]),
        ("none*", &["to/"]),
        ("lin?", &["to/", "to/link->a"]),
    ];
    for (source, expected) in cases {
        assert_eq!(world.copy(&[], &with_parents(source, "/to")).unwrap(), expected, "COPY --parents {source}");
    }
    let all = world.copy(&[], &with_parents(".", "/")).unwrap();
    assert_eq!(all.len(), 11, "{all:?}");
}

#[test]
fn a_path_without_wildcards_has_to_be_there() {
    let world = world();
    let error = |source: &str| world.copy(&[], &with_parents(source, "/to/")).unwrap_err().to_string();
    assert!(error("a/none").starts_with("`/a/none`: not found in the build context"), "{}", error("a/none"));
    assert!(error("none/./x").starts_with("`/none`: not found"), "{}", error("none/./x"));
    assert!(error("top/./x").starts_with("`/top` is not a directory"), "{}", error("top/./x"));
    assert!(error("top/x").starts_with("`/top` is not a directory"), "{}", error("top/x"));
    assert!(error("link/b/x.txt").contains("`/link` is a symbolic link, which `--parents` does not follow"));
    assert!(error("a/./[").contains("not a valid pattern"));
    let ignored = world.context_without("a/b");
    let error = world.copy_from(&ignored, &[], &with_parents("a/b", "/to")).unwrap_err().to_string();
    assert!(error.contains("`.dockerignore` leaves it out"), "{error}");
}

#[test]
fn excludes_are_relative_to_the_pivot() {
    let world = world();
    let exclude = |source, patterns: &[&str]| CopyAction {
        exclude: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..with_parents(source, "/to/")
    };
    let select = |action: &CopyAction| world.select("", action).unwrap();
    assert_eq!(select(&exclude("**/x.txt", &["a/b"])), ["", "a", "a/c", "a/c/x.txt", "d", "d/x.txt"]);
    assert_eq!(select(&exclude("a/./**", &["**/*.md", "c"])), ["a", "a/b", "a/b/x.txt"]);
    assert_eq!(select(&exclude("a/b", &["**/*.txt"])), ["", "a", "a/b", "a/b/y.md"]);
}

#[test]
fn owners_and_modes_are_those_of_all_that_is_made() {
    let world = world();
    fs::set_permissions(world.root().join("a"), Permissions::from_mode(0o700)).unwrap();
    let base = world.layer_of(|root| {
        fill(root, &["to/a/"]);
        fs::set_permissions(root.join("to/a"), Permissions::from_mode(0o711)).unwrap();
    });
    let show = |action: &CopyAction| {
        let layers = world.copy_from(&world.context(), &base, action).unwrap();
        let view = world.view(&layers);
        ["to/a", "to/a/b", "to/a/b/x.txt"].map(|path| {
            let entry = view.entry(path.as_bytes()).unwrap().entry;
            format!("{:o} {}", entry.mode, entry.uid)
        })
    };
    assert_eq!(show(&with_parents("a/b/x.txt", "/to")), ["711 0", "755 0", "644 0"], "what is there stays as it is");
    assert_eq!(show(&with_parents("a", "/to")), ["700 0", "755 0", "644 0"], "what is asked for overwrites");
    let owner = Some(Owner { user: UserRef::Id(7), group: None });
    let changed = CopyAction { owner, mode: Some(0o750.into()), ..with_parents("a/b/x.txt", "/to") };
    assert_eq!(show(&changed), ["711 0", "750 7", "750 7"]);
}

#[test]
fn the_key_is_that_of_what_is_selected() {
    let world = world();
    let action = with_parents("a/b/x.txt", "/to");
    let before = world.key(&world.context(), &action);
    fs::write(world.root().join("a/b/y.md"), "changed").unwrap();
    fs::write(world.root().join("d/new"), "new").unwrap();
    assert_eq!(world.key(&world.context(), &action), before);
    fs::write(world.root().join("a/b/x.txt"), "changed").unwrap();
    assert_ne!(world.key(&world.context(), &action), before);
}

#[test]
fn layers_are_copied_from_in_the_same_way() {
    let world = World::new(&[]);
    let source = world.layer(&["out/usr/bin/tool", "out/usr/share/doc"]);
    let tree = Tree::Layers(world.view(&source));
    let layers = world.copy_from(&tree, &[], &with_parents("out/./**/bin/", "/")).unwrap();
    assert_eq!(world.show(&layers), ["usr/", "usr/bin/", "usr/bin/tool=out/usr/bin/tool"]);
}
