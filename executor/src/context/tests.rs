use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use kiln_solver::Cancel;

use super::*;
use crate::files::Kind;

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(files: &[&str]) -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap() };
        for file in files {
            fixture.write(file, file);
        }
        fixture
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn open(&self, ignore: &str) -> Context {
        let ignore = Ignore::parse(ignore).unwrap();
        Context::open("context", &self.root(), ignore, self.directory.path().join("contexts")).unwrap()
    }
}

/// Every path that a whole walk finds.
fn walk(context: &Context) -> Vec<String> {
    context.walk(b"", &Cancel::new()).unwrap();
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        for node in context.directory(&path).unwrap().iter() {
            let path = paths::join(&path, node.name());
            found.push(String::from_utf8_lossy(&path).into_owned());
            if node.kind == Kind::Directory {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn digest(context: &Context, path: &str) -> Result<Digest, ContextError> {
    let node = context.node(path.as_bytes()).unwrap().unwrap();
    context.hash([(path.as_bytes(), &*node)].into_iter(), &Cancel::new())?;
    Ok(node.content.get().unwrap().digest)
}

fn stamp(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_walk_finds_what_dockerignore_leaves() {
    let fixture = Fixture::new(&["a", "b/c", "b/d/e", "node_modules/x/y", "log/1.log", "log/keep.log"]);
    assert_eq!(walk(&fixture.open("")).len(), 11);
    let context = fixture.open("node_modules\nlog/*\n!log/keep.log\n");
    assert_eq!(walk(&context), ["a", "b", "b/c", "b/d", "b/d/e", "log", "log/keep.log"]);
    assert!(context.node(b"node_modules").unwrap().is_none());
    assert!(context.node(b"log/1.log").unwrap().is_none());
    assert!(context.leaves_out(b"log/1.log") && !context.leaves_out(b"log/none") && !context.leaves_out(b"a"));
}

#[test]
fn an_ignored_directory_is_not_even_opened() {
    let fixture = Fixture::new(&["secret/x", "a"]);
    fs::set_permissions(fixture.root().join("secret"), Permissions::from_mode(0o000)).unwrap();
    assert_eq!(walk(&fixture.open("secret")), ["a"]);
    fs::set_permissions(fixture.root().join("secret"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn big_directories_are_complete_and_sorted() {
    let names: Vec<String> = (0..2000).map(|number| format!("{number:05}")).collect();
    let fixture = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let directory = fixture.open("").directory(b"").unwrap();
    assert!(directory.nodes.iter().map(|node| directory.name(node)).eq(names.iter().map(String::as_bytes)));
}

#[test]
fn a_directory_is_listed_once_per_build() {
    let fixture = Fixture::new(&["a/x"]);
    let context = fixture.open("");
    assert_eq!(walk(&context), ["a", "a/x"]);
    fixture.write("a/y", "");
    assert_eq!(walk(&context), ["a", "a/x"]);
    assert_eq!(walk(&fixture.open("")), ["a", "a/x", "a/y"]);
}

#[test]
fn an_unchanged_file_is_known_and_a_changed_one_is_read() {
    let fixture = Fixture::new(&["file", "other"]);
    let (file, old) =
        (fixture.root().join("file"), SystemTime::UNIX_EPOCH + Duration::from_nanos(1_600_000_000_123_456_789));
    stamp(&file, old);
    let first = fixture.open("");
    assert_eq!(digest(&first, "file").unwrap(), Digest::of(b"file"));
    // The change time is this moment's, so the racy rule decides whether it was remembered; what is remembered is right.
    assert_eq!(digest(&fixture.open(""), "file").unwrap(), Digest::of(b"file"));
    fs::write(&file, "FILE").unwrap();
    stamp(&file, old);
    assert_eq!(digest(&fixture.open(""), "file").unwrap(), Digest::of(b"FILE"));
}

#[test]
fn what_the_stat_cache_knows_is_not_read() {
    let fixture = Fixture::new(&["file"]);
    let context = fixture.open("");
    let node = context.node(b"file").unwrap().unwrap();
    let known = stat_cache::Known { digest: Digest::of(b"as if"), attributes: false };
    StatCache::open(context.stat_cache.clone()).save([(node.identity, known)]).unwrap();
    assert_eq!(digest(&fixture.open(""), "file").unwrap(), Digest::of(b"as if"));
    fixture.write("file", "longer than before");
    assert_eq!(digest(&fixture.open(""), "file").unwrap(), Digest::of(b"longer than before"));
}

/// The file of the cache is written anew for each: the last one used to win.
#[test]
fn what_one_copy_learned_outlives_the_next() {
    let fixture = Fixture::new(&["first", "second"]);
    let old = SystemTime::now() - Duration::from_secs(3600);
    for name in ["first", "second"] {
        stamp(&fixture.root().join(name), old);
    }
    // The change time is this moment's: files that are too young are not remembered.
    let remembered = |name: &str| {
        let context = fixture.open("");
        let node = context.directory(b"").unwrap().iter().find(|node| node.name() == name.as_bytes()).unwrap();
        node.content.get().is_some()
    };
    let settled = |context: &Context, name: &str| {
        let node = context.node(name.as_bytes()).unwrap().unwrap();
        node.identity.settled(SystemTime::now())
    };
    while !settled(&fixture.open(""), "second") {
        std::thread::yield_now();
    }
    let context = fixture.open("");
    for name in ["first", "second"] {
        digest(&context, name).unwrap();
    }
    assert!(remembered("first") && remembered("second"));
}

#[test]
fn a_swapped_file_is_not_followed_and_not_waited_for() {
    let fixture = Fixture::new(&["file", "dir/file"]);
    let context = fixture.open("");
    let node = context.node(b"file").unwrap().unwrap();
    let hash = |path: &[u8], node: &Node| context.hash([(path, node)].into_iter(), &Cancel::new());
    let file = fixture.root().join("file");

    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    assert!(matches!(hash(b"file", &node), Err(ContextError::Changed { .. })));

    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(CWD, &file, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(matches!(hash(b"file", &node), Err(ContextError::Changed { .. })));

    let inner = context.node(b"dir/file").unwrap().unwrap();
    fs::rename(fixture.root().join("dir"), fixture.root().join("moved")).unwrap();
    symlink("/etc", fixture.root().join("dir")).unwrap();
    assert!(matches!(hash(b"dir/file", &inner), Err(ContextError::Changed { .. })));
    assert!(matches!(context.directory(b"dir"), Err(ContextError::Changed { .. })));
}

#[test]
fn errors_name_the_path_and_the_context() {
    let fixture = Fixture::new(&["file"]);
    let context = fixture.open("");
    fs::remove_file(fixture.root().join("file")).unwrap();
    assert!(context.node(b"file").unwrap().is_none());
    let error = context.directory(b"gone/deep").err().unwrap().to_string();
    assert!(error.contains("`gone/deep`") && error.contains("`context`"), "{error}");
    let file = fixture.directory.path().join("plain");
    fs::write(&file, "").unwrap();
    let opened = Context::open("x", &file, Ignore::default(), PathBuf::new());
    assert!(matches!(opened, Err(ContextError::NotADirectory { .. })));
    let opened = Context::open("x", &file.with_extension("none"), Ignore::default(), PathBuf::new());
    assert!(matches!(opened, Err(ContextError::Io { .. })));
}

#[test]
fn a_cancelled_walk_says_so() {
    let fixture = Fixture::new(&["a/b"]);
    let cancel = Cancel::new();
    cancel.request();
    assert!(matches!(fixture.open("").walk(b"", &cancel), Err(ContextError::Cancelled)));
}
