//! The rules of copying, over a real store.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::{EntryKind, Store, View, Whiteouts};
use kiln_parser::ignore::Ignore;
use kiln_solver::{
    Cancel, CopyAction, Digest, FileAction, FileActionKind, Layer, MkdirAction, Operation, Origin, Output, Owner, Step,
    UserRef,
};

use super::plan::Plan;
use super::run::{commit, timestamp};
use super::{FileError, Tree, copy, owner, select};
use crate::{Context, paths};

/// A store, a context and what is needed to copy between them.
struct World {
    directory: tempfile::TempDir,
    store: Arc<Store>,
}

impl World {
    /// A world whose context has these files, each holding its own name; a trailing slash makes a directory, `->`
    /// a link.
    fn new(files: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("store"), Whiteouts::Trusted).unwrap());
        let world = Self { directory, store };
        fill(&world.root(), files);
        world
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn context(&self) -> Tree {
        self.context_without("")
    }

    fn context_without(&self, ignore: &str) -> Tree {
        let ignore = Ignore::parse(ignore).unwrap();
        let stat_cache = self.directory.path().join("store/contexts");
        Tree::Context(Arc::new(Context::open("context", &self.root(), ignore, stat_cache).unwrap()))
    }

    /// A layer with these files.
    fn layer(&self, files: &[&str]) -> Vec<Layer> {
        self.layer_of(|root| fill(root, files))
    }

    fn layer_of(&self, make: impl FnOnce(&Path)) -> Vec<Layer> {
        let draft = self.store.begin_layer().unwrap();
        make(draft.files());
        let layer = draft.commit(UNIX_EPOCH).unwrap();
        vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }]
    }

    fn view(&self, layers: &[Layer]) -> View {
        View::new(layers.iter().map(|layer| self.store.layer(&layer.diff_id).unwrap().unwrap()).collect())
    }

    fn plan(&self, base: &[Layer]) -> Plan {
        Plan::new(base.to_vec(), self.view(base), timestamp(now()))
    }

    fn commit(&self, plan: Plan) -> Result<Vec<Layer>, FileError> {
        commit(&self.store, plan, now(), &Cancel::new())
    }

    fn copy_from(&self, tree: &Tree, base: &[Layer], action: &CopyAction) -> Result<Vec<Layer>, FileError> {
        let mut plan = self.plan(base);
        copy::copy(&mut plan, tree, action, &self.store, &Cancel::new())?;
        self.commit(plan)
    }

    /// Copies from the context; what the tree holds then.
    fn copy(&self, base: &[Layer], action: &CopyAction) -> Result<Vec<String>, FileError> {
        Ok(self.show(&self.copy_from(&self.context(), base, action)?))
    }

    /// Every path of the merged tree: directories with a slash, links with their target, files with content
    /// where that is not their own name.
    fn show(&self, layers: &[Layer]) -> Vec<String> {
        let view = self.view(layers);
        let show = |path: String, kind, target: &[u8]| match kind {
            EntryKind::Directory { .. } => format!("{path}/"),
            EntryKind::Symlink => format!("{path}->{}", String::from_utf8_lossy(target)),
            EntryKind::File | EntryKind::HardLink => {
                let content = view.read(path.as_bytes(), 1 << 20).unwrap().unwrap();
                format!("{path}={}", String::from_utf8_lossy(&content))
            }
            other => format!("{path}:{other:?}"),
        };
        let found = view.walk(b"").unwrap();
        let entries = found.iter().map(|found| found.entry);
        entries.map(|entry| show(String::from_utf8_lossy(entry.path).into_owned(), entry.kind, entry.target)).collect()
    }

    fn select(&self, ignore: &str, action: &CopyAction) -> Result<Vec<String>, FileError> {
        let matches = select::select(&self.context_without(ignore), action, &Cancel::new())?;
        let paths = matches.iter().flat_map(|found| found.items.iter().map(|item| item.path.clone()));
        Ok(paths.map(|path| String::from_utf8_lossy(&path).into_owned()).collect())
    }

    fn key(&self, tree: &Tree, action: &CopyAction) -> Digest {
        super::selected(tree, &[action], &Cancel::new()).unwrap()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn fill(root: &Path, files: &[&str]) {
    fs::create_dir_all(root).unwrap();
    for file in files {
        if let Some((link, target)) = file.split_once("->") {
            fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
            symlink(target, root.join(link)).unwrap();
        } else if file.ends_with('/') {
            fs::create_dir_all(root.join(file)).unwrap();
        } else {
            let (path, content) = file.split_once('=').unwrap_or((file, file));
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
    }
}

/// What the Dockerfile frontend makes of `COPY source destination`.
fn from_to(source: &str, destination: &str) -> CopyAction {
    CopyAction {
        source: format!("/{source}"),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        wildcard: true,
        allow_empty_wildcard: true,
        unpack: false,
        contents_only: true,
        exclude: Vec::new(),
    }
}

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
    let changed = CopyAction { owner, mode: Some(0o640), ..from_to("dir", "/new") };
    assert_eq!(
        show(&base, &changed),
        ["new 755 7:8 1500000000", "new/sub 640 7:8 1500000000", "new/sub/file 640 7:8 1500000000"]
    );
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

fn archive(members: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_400_000_000);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, b'1' | b'2');
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_cksum();
        builder.append(&header, if is_link { &b""[..] } else { content.as_bytes() }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn add(source: &str, destination: &str) -> CopyAction {
    CopyAction { unpack: true, ..from_to(source, destination) }
}

#[test]
fn archives_are_unpacked_whatever_their_compression() {
    let world = World::new(&[]);
    let tar = archive(&[("d/", b'5', ""), ("d/f", b'0', "x"), ("l", b'2', "d/f"), ("h", b'1', "d/f")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    let forms = [
        ("tar", tar.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd::encode_all(&tar[..], 1).unwrap()),
    ];
    for (name, bytes) in forms {
        fs::write(world.root().join(name), bytes).unwrap();
        let layers = world.copy_from(&world.context(), &[], &add(name, "/to")).unwrap();
        assert_eq!(world.show(&layers), ["to/", "to/d/", "to/d/f=x", "to/h=x", "to/l->d/f"], "{name}");
        let view = world.view(&layers);
        let entry = view.entry(b"to/d/f").unwrap().entry;
        assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime.seconds), (0o640, 7, 8, 1_400_000_000));
        assert_eq!(view.entry(b"to/h").unwrap().entry.kind, EntryKind::HardLink);
    }
    let owner = Some(Owner { user: UserRef::Id(9), group: None });
    let layers = world.copy_from(&world.context(), &[], &CopyAction { owner, ..add("gzip", "/to") }).unwrap();
    let view = world.view(&layers);
    assert!(view.walk(b"").unwrap().iter().all(|found| (found.entry.uid, found.entry.gid) == (9, 9)));
}

#[test]
fn what_is_no_archive_is_copied() {
    let world = World::new(&["plain", "empty="]);
    fs::write(world.root().join("text.gz"), [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    fs::write(world.root().join("none.tar"), [0; 1024]).unwrap();
    for name in ["plain", "empty", "text.gz", "none.tar"] {
        let layers = world.copy_from(&world.context(), &[], &add(name, "/to/")).unwrap();
        assert!(world.view(&layers).entry(format!("to/{name}").as_bytes()).is_some(), "{name}");
    }
}

#[test]
fn archives_merge_and_replace() {
    let world = World::new(&[]);
    let members = [
        ("keep/new", b'0', "1"),
        ("file", b'5', ""),
        ("file/in", b'0', "2"),
        ("dir", b'0', "3"),
        ("back", b'0', ""),
        ("back", b'5', ""),
        ("back/x", b'0', "4"),
    ];
    fs::write(world.root().join("a.tar"), archive(&members)).unwrap();
    let base = world.layer(&["to/keep/old", "to/file", "to/dir/gone", "to/back/gone", "to/back/deep/gone"]);
    let layers = world.copy_from(&world.context(), &base, &add("a.tar", "/to")).unwrap();
    let expected = [
        "to/",
        "to/back/",
        "to/back/x=4",
        "to/dir=3",
        "to/file/",
        "to/file/in=2",
        "to/keep/",
        "to/keep/new=1",
        "to/keep/old=to/keep/old",
    ];
    assert_eq!(world.show(&layers), expected);
}

#[test]
fn hostile_archives_stay_in_their_directory() {
    let world = World::new(&[]);
    let base = world.layer(&["etc/passwd=safe", "to/"]);
    let refused = [
        vec![("../etc/passwd", b'0', "evil")],
        vec![("x/../../etc/passwd", b'0', "evil")],
        vec![("h", b'1', "../etc/passwd")],
        vec![("h", b'1', "missing")],
        vec![("f", b'0', "1"), ("f/x", b'0', "2")],
        vec![("loop", b'2', "loop"), ("loop/x", b'0', "2")],
    ];
    for members in refused {
        fs::write(world.root().join("a.tar"), archive(&members)).unwrap();
        assert!(world.copy_from(&world.context(), &base, &add("a.tar", "/to")).is_err(), "{members:?}");
    }
    let harmless = [
        ("out", b'2', "/etc"),
        ("out/passwd", b'0', "evil"),
        ("/abs", b'0', "1"),
        ("up", b'2', "../../etc"),
        ("up/x", b'0', "2"),
    ];
    fs::write(world.root().join("a.tar"), archive(&harmless)).unwrap();
    let layers = world.copy_from(&world.context(), &base, &add("a.tar", "/to")).unwrap();
    let expected = [
        "etc/",
        "etc/passwd=safe",
        "to/",
        "to/abs=1",
        "to/etc/",
        "to/etc/passwd=evil",
        "to/etc/x=2",
        "to/out->/etc",
        "to/up->../../etc",
    ];
    assert_eq!(world.show(&layers), expected);
}

#[test]
fn a_truncated_archive_is_an_error_that_names_it() {
    let world = World::new(&[]);
    let tar = archive(&[("a", b'0', &"x".repeat(5000))]);
    fs::write(world.root().join("a.tar"), &tar[..2000]).unwrap();
    let error = world.copy_from(&world.context(), &[], &add("a.tar", "/")).unwrap_err().to_string();
    assert!(error.starts_with("cannot unpack `/a.tar`: "), "{error}");
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
fn permission_denied_says_which_path() {
    if rustix::process::geteuid().is_root() {
        // Root reads everything; the error path is the same as that of a vanished file.
        let world = World::new(&["dir/file"]);
        let tree = world.context();
        let _key = world.key(&tree, &from_to("dir", "/"));
        fs::remove_file(world.root().join("dir/file")).unwrap();
        let error = world.copy_from(&tree, &[], &from_to("dir", "/")).unwrap_err().to_string();
        assert!(error.contains("cannot open `dir/file` in the build context `context`"), "{error}");
    }
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

/// Whole steps, as the solver hands them over.
mod steps {
    use super::*;
    use crate::{BoxError, Executor, ImageLayers, Settings};
    use kiln_solver::{Graph, Job, Observer, StepError, Worker};

    struct NoImages;
    impl ImageLayers for NoImages {
        fn stack(&self, image: &Digest) -> Result<Vec<Layer>, BoxError> {
            Err(format!("no image {image}").into())
        }
        fn ensure(&self, _: &[Layer], _: &Cancel) -> Result<(), BoxError> {
            Ok(())
        }
    }
    struct Quiet;
    impl Observer for Quiet {}

    fn executor(world: &World) -> Executor {
        let Tree::Context(context) = world.context() else { unreachable!() };
        let settings = crate::sandbox::SandboxSettings {
            identity: crate::rootless::Identity::Root,
            directory: world.directory.path().join("sandbox"),
            resolv_conf: Vec::new(),
            hosts: Vec::new(),
        };
        Executor::new(Settings {
            store: world.store.clone(),
            contexts: BTreeMap::from([("context".to_owned(), context)]),
            images: Arc::new(NoImages),
            sandbox: Arc::new(crate::sandbox::Sandbox::new(settings)),
            created: Some(now()),
        })
    }

    fn run(executor: &Executor, actions: Vec<FileAction>, inputs: &[Output]) -> Result<Vec<Output>, StepError> {
        let step = Step::new(Operation::File(actions), "test");
        let mut graph = Graph::new();
        let id = graph.add(step.clone());
        executor.run(Job { id, step: &step, inputs, cancel: &Cancel::new(), observer: &Quiet })
    }

    fn action(base: Option<usize>, from: Option<usize>, output: Option<u32>, kind: FileActionKind) -> FileAction {
        FileAction { base, from, output, kind }
    }

    #[test]
    fn actions_that_build_on_each_other_make_one_layer() {
        let world = World::new(&["a", "b", "dir/c"]);
        let base = world.layer(&["etc/x"]);
        let copy = |source| FileActionKind::Copy(from_to(source, "/to/"));
        let actions = vec![
            action(Some(0), Some(1), None, copy("a")),
            action(Some(2), Some(1), None, copy("b")),
            action(Some(3), Some(1), Some(0), copy("dir")),
        ];
        let inputs = [Output::Layers(base), Output::Local("context".to_owned())];
        let outputs = run(&executor(&world), actions, &inputs).unwrap();
        let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!(layers.len(), 2);
        assert_eq!(world.show(layers), ["etc/", "etc/x=etc/x", "to/", "to/a=a", "to/b=b", "to/c=dir/c"]);
    }

    #[test]
    fn workdir_makes_what_is_missing_and_nothing_else() {
        let world = World::new(&[]);
        let executor = executor(&world);
        let base = world.layer(&["app/", "link->app"]);
        let mkdir = |path: &str| {
            let mkdir = MkdirAction { path: path.to_owned(), mode: 0o755, owner: None };
            let actions = vec![action(Some(0), None, Some(0), FileActionKind::Mkdir(mkdir))];
            let outputs = run(&executor, actions, &[Output::Layers(base.clone())])?;
            let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
            let layer = world.store.layer(&layers[1].diff_id).unwrap().unwrap();
            let paths = layer.index().entries().map(|entry| String::from_utf8_lossy(entry.path).into_owned());
            Ok::<Vec<String>, StepError>(paths.collect())
        };
        assert_eq!(mkdir("/app").unwrap(), Vec::<String>::new());
        assert_eq!(mkdir("/link").unwrap(), Vec::<String>::new());
        assert_eq!(mkdir("/link/src/x").unwrap(), ["app", "app/src", "app/src/x"]);
        assert_eq!(mkdir("/new").unwrap(), ["new"]);
        assert!(mkdir("/").unwrap().is_empty());
    }

    #[test]
    fn a_step_that_makes_no_sense_is_an_error() {
        let world = World::new(&["a"]);
        let executor = executor(&world);
        let copy = || FileActionKind::Copy(from_to("a", "/"));
        let local = [Output::Local("context".to_owned())];
        for actions in [
            vec![action(Some(0), Some(0), Some(0), copy())],
            vec![action(None, None, Some(0), copy())],
            vec![action(None, Some(9), Some(0), copy())],
            vec![action(Some(1), Some(0), Some(0), copy())],
            vec![action(None, Some(0), Some(7), copy())],
        ] {
            assert!(run(&executor, actions.clone(), &local).is_err(), "{actions:?}");
        }
        let unknown = [Output::Local("other".to_owned())];
        let error = run(&executor, vec![action(None, Some(0), Some(0), copy())], &unknown).unwrap_err();
        assert_eq!(error.to_string(), "there is no build context named `other`");
    }

    #[test]
    fn the_content_of_a_base_is_its_identity_and_that_of_a_source_what_is_selected() {
        let world = World::new(&["a"]);
        let executor = executor(&world);
        let mut step = Step::new(Operation::File(Vec::new()), "test");
        step.operation =
            Operation::File(vec![action(Some(0), Some(1), Some(0), FileActionKind::Copy(from_to("a", "/")))]);
        let content = |input, layers: Vec<Layer>| {
            executor.content(&step, input, &Output::Layers(layers), &Cancel::new()).unwrap()
        };
        let stamped = |seconds| {
            world.layer_of(|root| {
                fill(root, &["a"]);
                let time = UNIX_EPOCH + Duration::from_secs(seconds);
                fs::File::open(root.join("a")).unwrap().set_modified(time).unwrap();
            })
        };
        let (one, other) = (stamped(1), stamped(2));
        assert_ne!(one, other);
        assert_eq!(content(0, one.clone()), content(0, other.clone()), "times are no part of a content digest");
        assert_eq!(content(1, one.clone()), content(1, other));
        let more = world.layer(&["b"]);
        assert_ne!(content(0, [one.clone(), more.clone()].concat()), content(0, one.clone()));
        assert_eq!(content(1, [one.clone(), more].concat()), content(1, one));
        let gone = Layer { diff_id: Digest::of(b"gone"), origin: Origin::Built };
        assert_eq!(content(0, vec![gone]), None);
    }
}
