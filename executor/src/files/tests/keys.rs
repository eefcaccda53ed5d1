//! Content keys, and what happens when files change behind them.

use super::*;

#[test]
fn a_file_that_changes_between_key_and_copy_fails_the_step() {
    let world = World::new(&["file=one", "other"]);
    let tree = world.context();
    let _key = world.key(&tree, &from_to(".", "/"));
    fs::write(world.root().join("file"), "two").unwrap();
    let error = world.copy_from(&tree, &[], &from_to(".", "/")).unwrap_err();
    assert!(matches!(&error, FileError::Changed { path } if path == "/file"), "{error}");
    // Nothing of it is left in the store.
    assert_eq!(fs::read_dir(world.directory.path().join("store/layers")).map_or(0, Iterator::count), 0);
}

#[test]
fn the_key_is_of_exactly_what_is_copied() {
    let world = World::new(&["dir/a", "dir/b", "aside"]);
    let action = from_to("dir", "/x");
    let before = world.key(&world.context(), &action);
    let same = |what: &str| assert_eq!(world.key(&world.context(), &action), before, "{what}");
    let file = world.root().join("dir/a");
    fs::write(world.root().join("aside"), "changed").unwrap();
    same("a file that is not copied");
    fs::File::options().write(true).open(&file).unwrap().set_modified(now()).unwrap();
    same("a modification time");
    std::os::unix::fs::chown(&file, Some(77), None).unwrap();
    same("the owner of a file of a context");
    fs::set_permissions(world.root().join("dir"), Permissions::from_mode(0o700)).unwrap();
    same("the mode of a directory that only gives its contents");

    let differs = |what: &str, change: &dyn Fn()| {
        let before = world.key(&world.context(), &action);
        change();
        assert_ne!(world.key(&world.context(), &action), before, "{what}");
    };
    differs("mode", &|| fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap());
    differs("content", &|| fs::write(&file, "else").unwrap());
    differs("name", &|| fs::rename(world.root().join("dir/b"), world.root().join("dir/c")).unwrap());
    differs("empty directory", &|| fs::create_dir(world.root().join("dir/d")).unwrap());
    differs("link", &|| symlink("a", world.root().join("dir/l")).unwrap());
    differs("link target", &|| {
        fs::remove_file(world.root().join("dir/l")).unwrap();
        symlink("b", world.root().join("dir/l")).unwrap();
    });
    differs("hard link", &|| {
        fs::remove_file(world.root().join("dir/c")).unwrap();
        fs::write(world.root().join("dir/c"), "else").unwrap();
        fs::set_permissions(world.root().join("dir/c"), Permissions::from_mode(0o600)).unwrap();
        let before = world.key(&world.context(), &action);
        fs::remove_file(world.root().join("dir/c")).unwrap();
        fs::hard_link(&file, world.root().join("dir/c")).unwrap();
        assert_ne!(world.key(&world.context(), &action), before);
    });
}

#[test]
fn owners_of_layers_count_unless_they_are_changed() {
    let world = World::new(&[]);
    let with_owner = |uid| {
        let layers = world.layer_of(|root| {
            fill(root, &["a"]);
            std::os::unix::fs::chown(root.join("a"), Some(uid), None).unwrap();
        });
        Tree::Layers(world.view(&layers))
    };
    let (one, other) = (with_owner(1), with_owner(2));
    let action = from_to("a", "/");
    assert_ne!(world.key(&one, &action), world.key(&other, &action));
    let changed = CopyAction { owner: Some(Owner { user: UserRef::Id(0), group: None }), ..action };
    assert_eq!(world.key(&one, &changed), world.key(&other, &changed));
}

#[test]
fn layers_and_contexts_with_the_same_files_have_the_same_key() {
    let files = ["dir/a", "dir/sub/b", "dir/l->a"];
    let world = World::new(&files);
    let layers = world.layer(&files);
    let action = from_to("dir", "/x");
    assert_eq!(world.key(&world.context(), &action), world.key(&Tree::Layers(world.view(&layers)), &action));
}
