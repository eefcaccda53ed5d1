//! Docker's rules of copying.

use std::os::unix::fs::MetadataExt;

use super::*;
use kiln_solver::FileMode;

#[test]
fn copies_land_where_docker_puts_them() {
    let world = World::new(&["file", "dir/a", "dir/sub/b", "empty/", "other"]);
    let base: [&str; 8] = [
        "etc/passwd",
        "etc/conf->passwd",
        "app/old",
        "app/sub/keep",
        "link->app",
        "lost->no/where",
        "up->../../app",
        "flat",
    ];
    let layer = world.layer(&base);
    let unchanged: Vec<String> = world.show(&layer);
    let cases: [(&str, &str, &[&str]); 21] = [
        ("file", "/new", &["new=file"]),
        ("file", "/new/", &["new/", "new/file=file"]),
        ("file", "/deep/er/new", &["deep/", "deep/er/", "deep/er/new=file"]),
        ("file", "/app", &["app/file=file"]),
        ("file", "/app/", &["app/file=file"]),
        ("file", "/app/.", &["app/file=file"]),
        ("file", "/app/old", &["app/old=file"]),
        ("file", "/link/", &["app/file=file"]),
        ("file", "/link", &["app/file=file"]),
        ("file", "/up/x", &["app/x=file"]),
        ("file", "/lost", &["no/", "no/where=file"]),
        ("file", "/etc/conf", &["etc/passwd=file"]),
        ("file", "/etc/", &["etc/file=file"]),
        ("dir", "/new", &["new/", "new/a=dir/a", "new/sub/", "new/sub/b=dir/sub/b"]),
        ("dir/", "/new/", &["new/", "new/a=dir/a", "new/sub/", "new/sub/b=dir/sub/b"]),
        ("dir", "/app", &["app/a=dir/a", "app/sub/b=dir/sub/b"]),
        ("dir", "/link", &["app/a=dir/a", "app/sub/b=dir/sub/b"]),
        ("empty", "/new", &["new/"]),
        ("dir/sub", "/", &["b=dir/sub/b"]),
        ("fil?", "/x/y/", &["x/", "x/y/", "x/y/file=file"]),
        ("[fo]*", "/all/", &["all/", "all/file=file", "all/other=other"]),
    ];
    for (source, destination, added) in cases {
        let got = world.copy(&layer, &from_to(source, destination)).unwrap();
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        for line in unchanged.iter().map(String::as_str).chain(added.iter().copied()) {
            let path = line.split(['=']).next().unwrap().to_owned();
            expected.insert(path, line.to_owned());
        }
        let mut expected: Vec<String> = expected.into_values().collect();
        expected.sort();
        let mut got = got;
        got.sort();
        assert_eq!(got, expected, "COPY {source} {destination}");
    }
}

#[test]
fn copies_that_docker_refuses() {
    let world = World::new(&["file", "dir/sub/b", "nest/link/x"]);
    let layer = world.layer(&["app/sub", "flat", "dirs/file/", "at/link->elsewhere", "elsewhere/"]);
    let cases = [
        ("dir", "/app", "cannot copy to non-directory: `/app/sub`"),
        ("dir", "/flat", "cannot copy to non-directory: `/flat`"),
        ("nest", "/at", "cannot copy to non-directory: `/at/link`"),
        ("file", "/dirs", "cannot replace directory `/dirs/file`"),
        ("file", "/flat/", "`/flat` is not a directory"),
        ("file", "/flat/x", "`/flat` is not a directory"),
        ("none", "/x", "`/none`: not found in the build context `context`"),
        ("none/*.c", "/x", "`/none`: not found"),
        ("file/x", "/x", "`/file` is not a directory in the build context `context`"),
        ("[", "/x/", "not a valid pattern"),
    ];
    for (source, destination, expected) in cases {
        let error = world.copy(&layer, &from_to(source, destination)).unwrap_err().to_string();
        assert!(error.contains(expected), "COPY {source} {destination}: {error}");
    }
}

#[test]
fn a_file_replaces_a_link_in_a_directory_and_not_what_it_leads_to() {
    let world = World::new(&["conf"]);
    let layer = world.layer(&["etc/real=1", "etc/conf->real"]);
    assert_eq!(world.copy(&layer, &from_to("conf", "/etc/")).unwrap(), ["etc/", "etc/conf=conf", "etc/real=1"]);
}

#[test]
fn sources_that_are_missing_are_explained() {
    let world = World::new(&["Makefile", "src/main.c", "secret", "out->/etc/hostname"]);
    let hint = |source: &str| {
        let tree = world.context_without("secret\n");
        world.copy_from(&tree, &[], &from_to(source, "/x")).unwrap_err().to_string()
    };
    assert!(
        hint("secret").ends_with("\nhint: `/secret` is there, but `.dockerignore` leaves it out"),
        "{}",
        hint("secret")
    );
    assert!(hint("makefile").ends_with("\nhint: there is `/Makefile`"), "{}", hint("makefile"));
    assert!(hint("srv/main.c").ends_with("\nhint: there is `/src`"), "{}", hint("srv/main.c"));
    assert!(hint("../other").contains("nothing above the root can be copied"), "{}", hint("../other"));
    assert!(hint("out").contains("`/out` is a symbolic link to `/etc/hostname`"), "{}", hint("out"));
    assert!(!hint("unlike anything").contains("hint"), "{}", hint("unlike anything"));
}

#[test]
fn wildcards_select_component_by_component_in_order() {
    let world = World::new(&["b.txt", "a.txt", "x/1.txt", "y/2.txt", "x/z/3.txt", "link->x", ".hidden", "q[1].txt"]);
    let select = |source| world.select("", &from_to(source, "/to/")).unwrap();
    assert_eq!(select("*.txt"), ["a.txt", "b.txt", "q[1].txt"]);
    assert_eq!(select("*/*.txt"), ["x/1.txt", "y/2.txt"]);
    assert_eq!(select("[xy]"), ["x", "x/1.txt", "x/z", "x/z/3.txt", "y", "y/2.txt"]);
    assert_eq!(select("none*"), Vec::<String>::new());
    assert_eq!(select("lin*"), ["x", "x/1.txt", "x/z", "x/z/3.txt"]);
    assert_eq!(select("q[[]1].txt"), ["q[1].txt"]);
    assert_eq!(select("link/*.txt"), ["x/1.txt"]);
    let strict = CopyAction { allow_empty_wildcard: false, ..from_to("none*", "/to/") };
    assert!(world.select("", &strict).is_err());
    // Nothing at all is copied, so the destination is not made either.
    assert_eq!(world.copy(&[], &from_to("none*", "/to/")).unwrap(), Vec::<String>::new());
}

#[test]
fn dockerignore_and_exclude_leave_out() {
    let world = World::new(&["a.c", "a.h", "sub/b.c", "sub/b.h", "sub/deep/c.h", "gen/x.o", "gen/keep/y.o"]);
    let select = |ignore, action: &CopyAction| world.select(ignore, action).unwrap();
    let all = from_to(".", "/to/");
    assert_eq!(select("**/*.h\ngen", &all), ["", "a.c", "sub", "sub/b.c", "sub/deep"]);
    assert_eq!(select("gen/*\n!gen/keep\nsub\na.*", &all), ["", "gen", "gen/keep", "gen/keep/y.o"]);
    let exclude = |source, patterns: &[&str]| CopyAction {
        exclude: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..from_to(source, "/to/")
    };
    assert_eq!(select("gen", &exclude(".", &["**/*.c", "sub/deep"])), ["", "a.h", "sub", "sub/b.h"]);
    assert_eq!(select("", &exclude("sub", &["deep", "*.c"])), ["sub", "sub/b.h"]);
    assert_eq!(select("", &exclude("a.*", &["*.h"])), ["a.c"]);
    assert_eq!(select("", &exclude("gen", &["*", "!keep"])), ["gen", "gen/keep", "gen/keep/y.o"]);
    assert!(matches!(world.select("gen/*\n!gen/none", &from_to("gen/keep", "/x")), Err(FileError::NotFound { .. })));
}

#[test]
fn metadata_of_copies_are_buildkits() {
    let world = World::new(&["dir/sub/file"]);
    let stamp = UNIX_EPOCH + Duration::new(1_500_000_000, 7);
    for (path, mode) in [("dir/sub/file", 0o4711), ("dir/sub", 0o1750), ("dir", 0o700)] {
        let path = world.root().join(path);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        fs::File::open(&path).unwrap().set_modified(stamp).unwrap();
    }
    let base = world.layer_of(|root| {
        fill(root, &["app/sub/old"]);
        fs::set_permissions(root.join("app"), Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::chown(root.join("app"), Some(5), Some(6)).unwrap();
    });
    let show = |base: &[Layer], action: &CopyAction| {
        let layers = world.copy_from(&world.context(), base, action).unwrap();
        let view = world.view(&layers);
        let entry = |path: &str| view.entry(path.as_bytes()).unwrap().entry;
        let top = paths::clean(action.destination.as_bytes());
        let top = String::from_utf8(top).unwrap();
        let show = |path: String| {
            let entry = entry(&path);
            format!("{path} {:o} {}:{} {}", entry.mode, entry.uid, entry.gid, entry.mtime.seconds)
        };
        vec![show(top.clone()), show(format!("{top}/sub")), show(format!("{top}/sub/file"))]
    };
    // A new directory is root's and 0755 whatever the source is, an existing one keeps what it has, those inside follow
    // the source.
    assert_eq!(
        show(&base, &from_to("dir", "/new")),
        ["new 755 0:0 1500000000", "new/sub 1750 0:0 1500000000", "new/sub/file 4711 0:0 1500000000"]
    );
    assert_eq!(
        show(&base, &from_to("dir", "/app")),
        ["app 711 5:6 1500000000", "app/sub 1750 0:0 1500000000", "app/sub/file 4711 0:0 1500000000"]
    );
    let owner = Some(Owner { user: UserRef::Id(7), group: Some(UserRef::Id(8)) });
    let changed = CopyAction { owner, mode: Some(0o640.into()), ..from_to("dir", "/new") };
    assert_eq!(
        show(&base, &changed),
        ["new 640 7:8 1500000000", "new/sub 640 7:8 1500000000", "new/sub/file 640 7:8 1500000000"]
    );
    // Directories that have to be made take an octal mode without set-ids, too.
    let made = |mode: FileMode| {
        let action = CopyAction { mode: Some(mode), ..from_to("dir/sub/file", "/p/q/") };
        let view = world.view(&world.copy_from(&world.context(), &base, &action).unwrap());
        ["p", "p/q"].map(|path| view.entry(path.as_bytes()).unwrap().entry.mode)
    };
    assert_eq!(made(0o710.into()), [0o710; 2]);
    assert_eq!(made(0o2710.into()), [0o755; 2]);
    assert_eq!(made(FileMode::Changes("go=".parse().unwrap())), [0o755; 2]);
    // From layers the owner comes along.
    let source = world.layer_of(|root| {
        fill(root, &["dir/sub/file"]);
        std::os::unix::fs::chown(root.join("dir/sub/file"), Some(33), Some(34)).unwrap();
    });
    let layers = world.copy_from(&Tree::Layers(world.view(&source)), &base, &from_to("dir/sub/file", "/f")).unwrap();
    let view = world.view(&layers);
    assert_eq!((view.entry(b"f").unwrap().entry.uid, view.entry(b"f").unwrap().entry.gid), (33, 34));
}

#[test]
fn the_new_layer_has_what_changed_and_the_directories_above() {
    let world = World::new(&["file"]);
    let base = world.layer_of(|root| {
        fill(root, &["usr/share/doc/", "etc/x"]);
        fs::set_permissions(root.join("usr/share"), Permissions::from_mode(0o2775)).unwrap();
    });
    let layers = world.copy_from(&world.context(), &base, &from_to("file", "/usr/share/doc/")).unwrap();
    let layer = world.store.layer(&layers[1].diff_id).unwrap().unwrap();
    let shown: Vec<String> = layer
        .index()
        .entries()
        .map(|entry| format!("{} {:o}", String::from_utf8_lossy(entry.path), entry.mode))
        .collect();
    assert_eq!(shown, ["usr 755", "usr/share 2775", "usr/share/doc 755", "usr/share/doc/file 644"]);
}

#[test]
fn owners_by_name_are_the_images() {
    let world = World::new(&[]);
    let passwd = "etc/passwd=root:x:0:0::/:\nbin:x:2:22::/:\nbroken:x\n";
    let base = world.layer(&[passwd, "etc/group=root:x:0:\nstaff:x:50:a,b\n"]);
    let plan = world.plan(&base);
    let name = |name: &str| UserRef::Name(name.to_owned());
    let look_up = |user, group| owner::look_up(&plan, &Owner { user, group }).map(|ids| (ids.uid, ids.gid));
    assert_eq!(look_up(name("bin"), None).unwrap(), (2, 22));
    assert_eq!(look_up(name("bin"), Some(name("staff"))).unwrap(), (2, 50));
    assert_eq!(look_up(UserRef::Id(9), None).unwrap(), (9, 9));
    assert_eq!(look_up(name("11"), Some(UserRef::Id(0))).unwrap(), (11, 0));
    for (user, group) in [("nobody", None), ("bin", Some(name("wheel"))), ("broken", None)] {
        let error = look_up(name(user), group).unwrap_err().to_string();
        assert!(error.contains("of the image"), "{error}");
    }
    let error = owner::look_up(&world.plan(&[]), &Owner { user: name("bin"), group: None }).unwrap_err();
    assert_eq!(error.to_string(), "user `bin` is not in `/etc/passwd` of the image");
}

#[test]
fn links_and_special_files_are_kept() {
    let world = World::new(&["dir/a", "dir/relative->a", "dir/absolute->/etc/passwd", "dir/broken->nowhere"]);
    fs::hard_link(world.root().join("dir/a"), world.root().join("dir/b")).unwrap();
    let fifo = world.root().join("dir/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.root().join("dir/socket")).unwrap();
    let layers = world.copy_from(&world.context(), &[], &from_to("dir", "/to")).unwrap();
    let expected = [
        "to/",
        "to/a=dir/a",
        "to/absolute->/etc/passwd",
        "to/b=dir/a",
        "to/broken->nowhere",
        "to/fifo:Fifo",
        "to/relative->a",
    ];
    assert_eq!(world.show(&layers), expected);
    let view = world.view(&layers);
    assert_eq!(view.entry(b"to/b").unwrap().entry.kind, EntryKind::HardLink);
    // Also from layer to layer, and not between two sources of their own.
    let again = world.copy_from(&Tree::Layers(view), &[], &from_to("to", "/again")).unwrap();
    assert_eq!(world.view(&again).entry(b"again/b").unwrap().entry.kind, EntryKind::HardLink);
    let apart = world.copy_from(&world.context(), &[], &from_to("dir/[ab]", "/apart/")).unwrap();
    assert_eq!(world.view(&apart).entry(b"apart/b").unwrap().entry.kind, EntryKind::File);
    let error = world.copy(&[], &from_to("dir/socket", "/x")).unwrap_err();
    assert!(matches!(error, FileError::Socket(_)), "{error}");
}

#[test]
fn symbolic_links_of_a_context_never_lead_out_of_it() {
    let world = World::new(&[
        "in/file=inside",
        "to->in",
        "file->to/file",
        "out->/etc",
        "up->../../../../etc",
        "etc/passwd=ours",
    ]);
    assert_eq!(world.copy(&[], &from_to("file", "/x")).unwrap(), ["x=inside"]);
    assert_eq!(world.copy(&[], &from_to("to/file", "/x")).unwrap(), ["x=inside"]);
    assert_eq!(world.copy(&[], &from_to("out/passwd", "/x")).unwrap(), ["x=ours"]);
    assert_eq!(world.copy(&[], &from_to("up/passwd", "/x")).unwrap(), ["x=ours"]);
    assert_eq!(world.copy(&[], &from_to("../../etc/passwd", "/x")).unwrap(), ["x=ours"]);
    assert!(world.copy(&[], &from_to("out/shadow", "/x")).is_err());
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new(&[]);
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe name\n");
    fs::write(world.root().join(name), "x").unwrap();
    let layers = world.copy_from(&world.context(), &[], &from_to(".", "/to")).unwrap();
    assert!(world.view(&layers).entry(b"to/\xff\xfe name\n").is_some());
}

#[test]
fn extended_attributes_come_along() {
    let world = World::new(&["file", "dir/x"]);
    let set = |path: &str, name: &str| {
        rustix::fs::setxattr(world.root().join(path), name, b"value", rustix::fs::XattrFlags::empty()).is_ok()
    };
    if !(set("file", "user.kiln") && set("dir", "user.kiln") && set("file", "user.overlay.redirect")) {
        return; // The file system of the temporary directory has none.
    }
    let layers = world.copy_from(&world.context(), &[], &from_to(".", "/to")).unwrap();
    let view = world.view(&layers);
    for path in [&b"to/file"[..], b"to/dir"] {
        let entry = view.entry(path).unwrap().entry;
        assert_eq!(entry.xattrs().collect::<Vec<_>>(), [(&b"user.kiln"[..], &b"value"[..])]);
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let world = World::new(&["dir/file"]);
    let tree = world.context();
    let _key = world.key(&tree, &from_to("dir", "/"));
    fs::remove_file(world.root().join("dir/file")).unwrap();
    let error = world.copy_from(&tree, &[], &from_to("dir", "/")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open `dir/file` in the build context `context`: "), "{error}");
}

#[test]
fn many_files_are_copied_whole() {
    let names: Vec<String> = (0..500).map(|number| format!("d{}/f{number}", number % 7)).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let shown = world.copy(&[], &from_to(".", "/")).unwrap();
    assert_eq!(shown.len(), 507);
    assert!(names.iter().all(|name| shown.contains(&format!("{name}={name}"))));
    let metadata = fs::metadata(world.root().join("d0/f0")).unwrap();
    assert_eq!(metadata.nlink(), 1, "files of the context are copied, never linked");
}

/// Makes `d/d/d…/file`.
fn deep(root: &Path, depth: usize) {
    let mut directory = fs::File::open(root).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&directory, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        directory = rustix::fs::openat(&directory, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&directory, "file", flags, rustix::fs::Mode::RUSR).unwrap();
}

#[test]
fn directories_may_lie_as_deep_as_paths_are_long() {
    let world = World::new(&[]);
    deep(&world.root(), 1500);
    let layers = world.copy_from(&world.context(), &[], &from_to("d", "/to/d")).unwrap();
    let file = format!("to/{}file", "d/".repeat(1500));
    let layer = world.store.layer(&layers[0].diff_id).unwrap().unwrap();
    assert!(layer.index().get(file.as_bytes()).is_some());
}

#[test]
fn layers_may_be_deep_too() {
    let world = World::new(&[]);
    let source = world.layer_of(|root| deep(root, 100));
    let layers = world.copy_from(&Tree::Layers(world.view(&source)), &[], &from_to("d", "/to")).unwrap();
    let file = format!("to/{}file", "d/".repeat(99));
    assert!(world.view(&layers).entry(file.as_bytes()).is_some());
}
