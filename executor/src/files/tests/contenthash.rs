//! Digests that real ones of BuildKit gave to the same trees.

use super::super::{Part, content_hash};
use super::*;

/// Files of known content and mode, hidden, in directories with names that sort in more than one way, a link, and a
/// directory without anything in it.
fn example() -> World {
    let world = World::new(&["src/empty/"]);
    let write = |path: &str, content: &str, mode| {
        let path = world.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    for (path, content, mode) in [
        ("src/a", "1\n", 0o644),
        ("src/sub/b", "2\n", 0o600),
        ("src/sub/.c", "3\n", 0o644),
        ("src/sub.d/z", "x\n", 0o644),
        ("x1.txt", "t1\n", 0o644),
        ("x2.txt", "t2\n", 0o644),
    ] {
        write(path, content, mode);
    }
    symlink("a", world.root().join("src/l")).unwrap();
    for directory in ["src", "src/sub", "src/sub.d", "src/empty"] {
        fs::set_permissions(world.root().join(directory), Permissions::from_mode(0o755)).unwrap();
    }
    world
}

fn hashed(tree: &Tree, part: Part<'_>) -> Option<String> {
    content_hash(tree, part, &Cancel::new()).unwrap().map(|digest| digest.hex())
}

#[test]
fn files_and_directories_have_the_digests_that_buildkit_gives_them() {
    let world = example();
    let tree = world.context();
    for (path, expected) in [
        ("/src/a", "3e08e8586ec5870bc7f0b072ea6aad226d1823220ef84ce7027bd7bab43a5cc6"),
        ("/src/l", "3e08e8586ec5870bc7f0b072ea6aad226d1823220ef84ce7027bd7bab43a5cc6"),
        ("/src/sub", "135c8236779dc12fa28b63f067b0b7e983cb67d3561550d003418338075798d5"),
        ("/src", "d1ea44fc3c5414e9e2c03b87a044e4994efa6f8427fac6758e502434e777ed71"),
    ] {
        assert_eq!(hashed(&tree, Part::Path(path)).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn wildcards_give_one_digest_for_all_that_matches() {
    let world = example();
    let tree = world.context();
    let expected = "20cd005fde8f788ce0d43eac74fc6ddbc822f3ecb3459bd1ea5bafe46d395a69";
    assert_eq!(hashed(&tree, Part::Matches("/*.txt")).as_deref(), Some(expected));
    assert_eq!(hashed(&tree, Part::Wholes("/*.txt")).as_deref(), Some(expected));
    assert_ne!(hashed(&tree, Part::Matches("/s*")), hashed(&tree, Part::Wholes("/s*")));
    assert_eq!(hashed(&tree, Part::Matches("/none*")), Some(Digest::of(b"").hex()));
}

#[test]
fn a_file_that_changes_after_it_was_seen_has_no_digest() {
    let world = example();
    let tree = world.context();
    assert!(hashed(&tree, Part::Path("/src/a")).is_some());
    fs::write(world.root().join("src/a"), "9\n").unwrap();
    assert_eq!(hashed(&tree, Part::Path("/src/a")), None);
}

#[test]
fn what_is_not_there_is_an_error_and_a_broken_link_among_matches_too() {
    let world = example();
    assert!(content_hash(&world.context(), Part::Path("/none"), &Cancel::new()).is_err());
    symlink("nowhere", world.root().join("x3.txt")).unwrap();
    assert!(content_hash(&world.context(), Part::Matches("/*.txt"), &Cancel::new()).is_err());
}
