//! Commits of repositories on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::testing::{Reply, Server, World};
use super::*;

/// A repository to fetch from.
struct Repository {
    path: PathBuf,
}

impl Repository {
    fn new(world: &World, name: &str) -> Self {
        let path = world.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let repository = Self { path };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]).args(args);
        command.current_dir(&self.path).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z").env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z");
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits a file; the commit.
    fn commit(&self, name: &str, content: &str) -> String {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", name]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    fn at(&self, reference: &str) -> Git {
        Git { reference: Some(reference.to_owned()).filter(|name| !name.is_empty()), ..git(self.url()) }
    }
}

fn git(remote: String) -> Git {
    Git { remote, reference: None, subdirectory: None, checksum: None, keep_git_dir: false, submodules: true }
}

fn world() -> World {
    World::new().with("GIT_ALLOW_PROTOCOL", "file")
}

fn fetch(world: &World, git: &Git) -> Result<StoredLayer, SourceError> {
    world.sources().git(git, &Cancel::new()).map(|commit| commit.layer)
}

fn shows(world: &World, git: &Git) -> Vec<String> {
    world.show(&fetch(world, git).unwrap())
}

#[test]
fn branches_tags_and_commits_are_found() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    let first = repository.commit("file", "1");
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "-a", "-m", "x", "heavy"]);
    repository.git(&["branch", "both"]);
    let second = repository.commit("file", "2");
    repository.git(&["tag", "both"]);
    repository.git(&["update-ref", "refs/pull/7/head", &first]);
    let heavy = repository.git(&["rev-parse", "refs/tags/heavy"]);
    for (reference, content) in [
        ("", "2"),
        ("main", "2"),
        ("refs/heads/main", "2"),
        ("heads/main", "2"),
        ("light", "1"),
        ("heavy", "1"),
        ("tags/heavy", "1"),
        ("both", "1"),
        ("refs/tags/both", "2"),
        ("pull/7/head", "1"),
        (first.as_str(), "1"),
        (second.to_uppercase().as_str(), "2"),
        (heavy.as_str(), "1"),
        ("HEAD", "2"),
    ] {
        let layer = fetch(&world, &repository.at(reference)).unwrap();
        assert_eq!(world.show(&layer), [format!("file={content}")], "{reference}");
        let entry = layer.index().get(b"file").unwrap();
        assert_eq!((entry.mode, entry.uid, entry.mtime.seconds), (0o644, 0, 981_173_106), "{reference}");
    }
}

#[test]
fn branches_move_and_commits_do_not() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    let first = repository.commit("file", "1");
    assert_eq!(shows(&world, &repository.at("main")), ["file=1"]);
    repository.commit("file", "2");
    assert_eq!(shows(&world, &repository.at("main")), ["file=2"]);
    std::fs::rename(&repository.path, world.directory.path().join("gone")).unwrap();
    assert_eq!(shows(&world, &repository.at(&first)), ["file=1"], "nobody needs to be asked for a commit that is here");
    let error = fetch(&world, &repository.at("main")).unwrap_err();
    assert!(matches!(error, SourceError::RepositoryNotFound { .. }), "{error}");
}

#[test]
fn modes_links_and_subdirectories_are_gits() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    std::fs::write(repository.path.join("run"), "x").unwrap();
    repository.git(&["add", "run"]);
    repository.git(&["update-index", "--chmod=+x", "run"]);
    std::os::unix::fs::symlink("/etc", repository.path.join("out")).unwrap();
    std::fs::write(repository.path.join(".gitattributes"), "secret export-ignore\n").unwrap();
    std::fs::write(repository.path.join("secret"), "s").unwrap();
    repository.commit("a/b/c", "deep");
    let layer = fetch(&world, &repository.at("main")).unwrap();
    let shown = world.show(&layer);
    assert!(shown.contains(&"secret=s".to_owned()) && shown.contains(&"out->/etc".to_owned()), "{shown:?}");
    assert!(!shown.iter().any(|path| path.starts_with(".git/") || path.starts_with(".git=")), "{shown:?}");
    let sub = |name: &str| Git { subdirectory: Some(name.to_owned()), ..repository.at("main") };
    for name in ["a/b", "/a/b/", "a/./b"] {
        assert_eq!(shows(&world, &sub(name)), ["c=deep"], "{name}");
    }
    for name in ["none", "out", "a/b/c", "../origin", ".git"] {
        let error = fetch(&world, &sub(name)).unwrap_err();
        assert!(matches!(error, SourceError::Subdirectory { .. }), "{name}: {error}");
    }
}

#[test]
fn the_repository_is_kept_where_asked() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    repository.commit("file", "1");
    let commit = repository.commit("file", "2");
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    for reference in ["main", "v1", commit.as_str()] {
        let layer = fetch(&world, &Git { keep_git_dir: true, ..repository.at(reference) }).unwrap();
        let root = layer.mount_source();
        let git = |args: &[&str]| {
            let output = Command::new("git").args(["-c", "safe.directory=*"]).args(args).current_dir(root).output();
            String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
        };
        assert_eq!(git(&["rev-parse", "HEAD"]), commit, "{reference}");
        assert_eq!(git(&["config", "remote.origin.url"]), repository.url());
        assert_eq!(git(&["status", "--porcelain"]), "", "{reference}");
        let expected = if reference == "main" { "main" } else { "" };
        assert_eq!(git(&["branch", "--show-current"]), expected, "{reference}");
        assert_eq!(git(&["tag"]), if reference == "v1" { "v1" } else { "" }, "{reference}");
        assert!(!root.join(".git/hooks").exists());
    }
}

#[test]
fn submodules_come_along() {
    let world = world();
    let library = Repository::new(&world, "library");
    library.commit("lib", "l");
    let repository = Repository::new(&world, "origin");
    repository.commit("file", "1");
    repository.git(&["submodule", "--quiet", "add", "../library", "sub"]);
    repository.git(&["commit", "-q", "-m", "sub"]);
    let modules = std::fs::read_to_string(repository.path.join(".gitmodules")).unwrap();
    let expected = [format!(".gitmodules={modules}"), "file=1".to_owned(), "sub/".to_owned(), "sub/lib=l".to_owned()];
    assert_eq!(shows(&world, &repository.at("main")), expected);
    let without = Git { submodules: false, ..repository.at("main") };
    assert_eq!(shows(&world, &without), expected[..3]);
}

#[test]
fn checksums_are_beginnings_of_commits() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    let commit = repository.commit("file", "1");
    let with = |checksum: &str| Git { checksum: Some(checksum.to_owned()), ..repository.at("main") };
    assert!(fetch(&world, &with(&commit)).is_ok());
    assert!(fetch(&world, &with(&commit[..7])).is_ok());
    let error = fetch(&world, &with("0123456")).unwrap_err().to_string();
    assert!(error.contains("expected `0123456`") && error.contains(&commit), "{error}");
}

#[test]
fn what_is_not_there_is_named() {
    let world = world();
    let repository = Repository::new(&world, "origin");
    let message = |reference: &str| fetch(&world, &repository.at(reference)).unwrap_err().to_string();
    assert!(message("").contains("has no commits"), "{}", message(""));
    repository.commit("file", "1");
    assert!(message("none").ends_with("has no branch or tag `none`"), "{}", message("none"));
    assert!(message("--upload-pack=x").ends_with("has no branch or tag `--upload-pack=x`"));
    assert!(message("*").ends_with("has no branch or tag `*`"));
    assert!(message("abc123").contains("all of its 40 digits"), "{}", message("abc123"));
    let zeros = "0".repeat(39) + "1";
    assert!(message(&zeros).ends_with(&format!("has no commit `{zeros}`")), "{}", message(&zeros));
    let error = fetch(&world, &git(format!("file://{}/none", world.directory.path().display()))).unwrap_err();
    assert!(matches!(error, SourceError::RepositoryNotFound { .. }), "{error}");
}

#[test]
fn only_known_transports_are_taken() {
    let world = World::new();
    for remote in ["file:///etc", "/etc", "ext::sh -c id"] {
        let error = fetch(&world, &git(remote.to_owned())).unwrap_err();
        assert!(matches!(error, SourceError::Protocol { .. }), "{remote}: {error}");
    }
}

#[test]
fn a_machine_without_git_is_told_what_to_install() {
    let mut world = World::new();
    world.remote.environment = vec![("PATH".into(), "/nowhere".into())];
    let error = fetch(&world, &git("https://host/a.git".to_owned())).unwrap_err().to_string();
    assert!(error.contains("is not installed\nhint: install it"), "{error}");
}

/// Serves a repository as files, the oldest and plainest way, to those who know the password if there is one.
fn serve(root: &Path, password: Option<&'static str>) -> Server {
    let root = root.to_owned();
    Server::start(move |asked, _| {
        if let Some(password) = password
            && asked.headers.get("authorization").map(String::as_str) != Some(password)
        {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let path = asked.path.split('?').next().unwrap().trim_start_matches('/');
        std::fs::read(root.join(path)).map_or_else(|_| Reply::new(404), Reply::ok)
    })
}

#[test]
fn repositories_are_fetched_over_http() {
    let world = World::new();
    let repository = Repository::new(&world, "origin");
    let commit = repository.commit("file", "1");
    repository.git(&["update-server-info"]);
    let root = repository.path.join(".git");
    let server = serve(&root, None);
    let remote = server.url("");
    assert_eq!(shows(&world, &git(remote.clone())), ["file=1"]);
    assert_eq!(shows(&world, &Git { reference: Some(commit), ..git(remote) }), ["file=1"]);
    let missing = fetch(&world, &git(server.url("none.git"))).unwrap_err();
    assert!(matches!(missing, SourceError::RepositoryNotFound { .. }), "{missing}");

    // `me:secret`
    let server = serve(&root, Some("Basic bWU6c2VjcmV0"));
    let error = fetch(&world, &git(server.url(""))).unwrap_err();
    assert!(matches!(error, SourceError::Authentication { .. }), "{error}");
    let wrong = git(format!("http://me:hidden@{}/", server.host()));
    let error = fetch(&world, &wrong).unwrap_err();
    assert!(matches!(error, SourceError::Authentication { .. }), "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
    let right = Git { keep_git_dir: true, ..git(format!("http://me:secret@{}/", server.host())) };
    assert!(shows(&world, &right).contains(&"file=1".to_owned()));
    assert!(!world.knows("secret"), "a credential was kept");
}

#[test]
fn a_request_to_stop_ends_git() {
    let world = World::new();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let server = Server::start(move |_, _| {
        stop.request();
        std::thread::sleep(std::time::Duration::from_secs(1));
        Reply::new(500)
    });
    let fetched = world.sources().git(&git(server.url("a.git")), &cancel);
    assert!(matches!(fetched, Err(SourceError::Cancelled)));
}
