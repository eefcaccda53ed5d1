//! Contexts that are no directory of this machine, named contexts of every kind, and what ADD fetches.

use kiln_tests::{Image, Kiln, Kind, Project, Tree, Web, World, command, users};
use std::path::{Path, PathBuf};
use std::process::Command;

const COPY_ALL: &str = "FROM scratch\nCOPY . /\n";

/// A git repository that a [`Web`] serves as `NAME/.git`.
struct Repository<'a>(&'a Project);

impl<'a> Repository<'a> {
    fn new(project: &'a Project) -> Self {
        let repository = Self(project);
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit();
        repository
    }

    fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]).args(args);
        git.current_dir(self.0.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z");
        command::run(&mut git).trim().to_owned()
    }

    /// Commits all there is; the commit.
    fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        self.git(&["update-server-info"]);
        // The URL has to end in `.git`.
        let link = self.0.path().with_extension("git");
        let _ = std::os::unix::fs::symlink(self.0.join(".git"), link);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self, web: &Web) -> String {
        let name = self.0.path().with_extension("git");
        web.url(&name.file_name().unwrap().to_string_lossy())
    }
}

/// Runs a build to its end; the files of the image.
fn tree(world: &World, kiln: Kiln) -> Tree {
    let file = world.path().join("image.tar");
    let _ = std::fs::remove_file(&file);
    kiln.args(["-o", &format!("type=oci,dest={}", file.display())]).succeeds();
    Image::from_oci_archive(&file).tree()
}

/// Packs a directory.
fn tar(world: &World, project: &Project, name: &str, flags: &str) -> PathBuf {
    let path = world.path().join(name);
    command::run(Command::new("tar").arg(flags).arg(&path).args(["-C", &project.path().to_string_lossy(), "."]));
    path
}

fn write(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

#[test]
fn archives_on_standard_input() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", COPY_ALL),
        ("deploy/Other", "FROM scratch\nCOPY a /other\n"),
        ("a", "text"),
        (".dockerignore", "a\n"),
    ]);
    for flags in ["-cf", "-czf", "-cJf", "-cjf"] {
        let archive = tar(&world, &project, "context.tar", flags);
        let tree = tree(&world, world.kiln(["build", "-"]).input(&archive));
        assert_eq!(tree.text("a"), "text", "an archive is taken as it is, whatever its `.dockerignore` says");
        assert_eq!(tree.node("a").uid, 0);
    }
    let archive = tar(&world, &project, "context.tar", "-cf");
    let other = tree(&world, world.kiln(["build", "-", "-f", "deploy/Other"]).input(&archive));
    assert_eq!(other.paths(), ["other"]);
    let again = world.kiln(["build", "-"]).input(&archive).succeeds();
    again.all_cached();
    world.kiln(["build", "-", "-f", "none"]).input(&archive).fails().says("`none`: no such file");
    world.kiln(["build", "-", "-f", "-"]).input(&archive).fails_with(2).says("both come from standard input");
}

#[test]
fn a_dockerfile_on_standard_input_has_no_context() {
    let world = World::new();
    let file = write(&world.path().join("in"), "FROM busybox\nRUN echo hi > /hi\n");
    assert_eq!(tree(&world, world.kiln(["build", "-"]).input(&file)).text("hi"), "hi\n");
    let file = write(&file, "FROM scratch\nCOPY in /\n");
    world.kiln(["build", "-"]).input(&file).fails().says("`/in`: not found");
    world.kiln(["build", "-", "-f", "x"]).input(&file).fails().says("standard input is no archive");
    let file = write(&file, "");
    world.kiln(["build", "-"]).input(&file).fails().says("standard input is empty");
}

#[test]
fn an_archive_cannot_reach_out() {
    let world = World::new();
    let project = world.project(&[("a", "x")]);
    std::os::unix::fs::symlink("/etc/passwd", project.join("Dockerfile")).unwrap();
    let archive = tar(&world, &project, "context.tar", "-cf");
    world.kiln(["build", "-"]).input(&archive).fails().says("cannot open the Dockerfile").does_not_say("root:");
    world.kiln(["build", "-", "-f", "../../../../etc/passwd"]).input(&archive).fails().does_not_say("root:");
}

#[test]
fn git_repositories() {
    let world = World::new();
    let web = Web::serve(world.path());
    let project = world.project(&[
        ("Dockerfile", COPY_ALL),
        ("a", "1"),
        ("sub/Dockerfile", "FROM scratch\nCOPY . /sub\n"),
        ("Other", "FROM scratch\nCOPY a /other\n"),
    ]);
    let repository = Repository::new(&project);
    let url = repository.url(&web);
    let build = |fragment: &str| world.kiln(["build", &format!("{url}{fragment}")]);
    let first = tree(&world, build(""));
    assert_eq!(first.paths(), ["Dockerfile", "Other", "a", "sub", "sub/Dockerfile"]);
    assert_eq!((first.node("a").mode, first.node("a").mtime), (0o644, 981_173_106));
    assert_eq!(tree(&world, build("#main:sub")).paths(), ["sub", "sub/Dockerfile"]);
    assert_eq!(tree(&world, build("?branch=main&subdir=sub")).paths(), ["sub", "sub/Dockerfile"]);
    assert_eq!(tree(&world, build("").args(["-f", "Other"])).paths(), ["other"]);
    let kept = tree(&world, build("").args(["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]));
    assert!(kept.paths().contains(&".git/HEAD".to_owned()));

    let commit = repository.git(&["rev-parse", "HEAD"]);
    project.write("a", "2");
    repository.commit();
    assert_eq!(tree(&world, build("#main")).text("a"), "2", "branches are looked up anew");
    assert_eq!(tree(&world, build(&format!("#{commit}"))).text("a"), "1");
    build("#main").succeeds().all_cached();
    build("#none").fails().says("has no branch or tag `none`");
    build("#main:none").fails().says("`none` is not a directory");
    world.kiln(["build", &web.url("none.git")]).fails().says_one_error().says("not found");
    drop(web);
    build(&format!("#{commit}")).succeeds().all_cached();
}

#[test]
fn ordinary_users_fetch_too() {
    for user in [users::with_ranges(), users::without_ranges()] {
        let world = World::of(user);
        let server = World::new();
        let web = Web::serve(server.path());
        let source = server.project(&[("Dockerfile", COPY_ALL), ("file", "git")]);
        let repository = Repository::new(&source);
        let archive = tar(&world, &source, "context.tar", "-cf");
        world.give(&archive);
        write(&server.path().join("page"), "http");
        let project = world.project(&[(
            "Dockerfile",
            &format!("FROM scratch\nADD {} /\nADD {} /git/\n", web.url("page"), repository.url(&web)),
        )]);
        let fetched = world.tree(&project);
        assert_eq!((fetched.text("page"), fetched.text("git/file")), ("http".to_owned(), "git".to_owned()));
        assert_eq!((fetched.node("git/file").uid, fetched.node("page").uid), (0, 0));
        world.kiln(["build", &repository.url(&web)]).succeeds();
        world.kiln(["build", "-"]).input(&archive).succeeds();
    }
}

#[test]
fn secrets_in_urls_stay_secret() {
    let world = World::new();
    let web = Web::serve(world.path());
    let urls = [format!("http://me:hidden@{}/none.git", web.host()), format!("http://me:hidden@{}/none?x", web.host())];
    for url in urls {
        world.kiln(["build", &url]).fails().does_not_say("hidden");
        let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY --from=x / /\n")]);
        world.build(&project).args(["--build-context", &format!("x={url}")]).fails().does_not_say("hidden");
    }
}

#[test]
fn urls_of_archives_and_dockerfiles() {
    let world = World::new();
    let web = Web::serve(world.path());
    let project = world.project(&[("Dockerfile", COPY_ALL), ("a", "text")]);
    tar(&world, &project, "context.tgz", "-czf");
    write(&world.path().join("recipe"), "FROM busybox\nRUN echo hi > /hi\n");
    assert_eq!(tree(&world, world.kiln(["build", &web.url("context.tgz")])).text("a"), "text");
    assert_eq!(tree(&world, world.kiln(["build", &web.url("recipe")])).text("hi"), "hi\n");
    let bodies = web.bodies();
    world.kiln(["build", &web.url("recipe")]).succeeds().all_cached();
    assert_eq!(web.bodies(), bodies, "what is unchanged is not sent again");
    world.kiln(["build", &web.url("none")]).fails().says("the server answered 404");
}

#[test]
fn named_contexts_of_every_kind() {
    let world = World::new();
    let web = Web::serve(world.path());
    let source = world.project(&[("file", "git")]);
    let repository = Repository::new(&source);
    write(&world.path().join("page"), "http");
    let local = world.project(&[("file", "local"), ("secret", "x"), (".dockerignore", "secret\n")]);
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS built\nRUN echo built > /file\nFROM scratch AS replaced\nFROM scratch\n\
         COPY --from=git / /git/\nCOPY --from=page / /page/\nCOPY --from=dir / /dir/\n\
         COPY --from=other /file /target\nCOPY --from=replaced /file /replaced\nCOPY --from=alpine /bin/busybox /image\n",
    )]);
    let contexts = [
        format!("git={}#main", repository.url(&web)),
        format!("page={}", web.url("page")),
        format!("dir={}", local.path().display()),
        "other=target:built".to_owned(),
        format!("replaced={}", local.path().display()),
        "alpine=docker-image://busybox".to_owned(),
    ];
    let build = || {
        contexts.iter().fold(world.build(&project), |kiln, context| kiln.args(["--build-context", context.as_str()]))
    };
    let tree = tree(&world, build());
    assert_eq!((tree.text("git/file"), tree.text("page/page")), ("git".to_owned(), "http".to_owned()));
    assert_eq!((tree.text("dir/file"), tree.text("replaced")), ("local".to_owned(), "local".to_owned()));
    assert!(!tree.paths().contains(&"dir/secret".to_owned()), "a named context has its own `.dockerignore`");
    assert_eq!(tree.text("target"), "built\n");
    assert!(tree.paths().contains(&"image".to_owned()));
    build().succeeds().all_cached();
    source.write("file", "changed");
    repository.commit();
    build().succeeds().ran("COPY --from=git");
}

#[test]
fn add_fetches_files_and_repositories() {
    let world = World::new();
    let web = Web::serve(world.path());
    let source = world.project(&[("file", "git"), ("sub/x", "y")]);
    let repository = Repository::new(&source);
    let packed = tar(&world, &source, "a.tar", "-cf");
    write(&world.path().join("page"), "one");
    let digest = kiln_tests::layout::sha256(b"one");
    let project = world.project(&[(
        "Dockerfile",
        &format!(
            "FROM scratch\nADD {page} /page\nADD --checksum=sha256:{digest} {page} /dir/\nADD {packed} /packed\n\
             ADD --unpack {packed} /unpacked/\nADD {git}#main:sub /sub/\nADD --keep-git-dir=true {git} /kept/\n",
            page = web.url("page"),
            packed = web.url("a.tar"),
            git = repository.url(&web),
        ),
    )]);
    let tree = tree(&world, world.build(&project));
    assert_eq!((tree.text("page"), tree.text("dir/page")), ("one".to_owned(), "one".to_owned()));
    assert_eq!((tree.node("page").mode, tree.node("page").uid), (0o600, 0));
    let size = std::fs::metadata(&packed).unwrap().len();
    let is_archive = matches!(tree.node("packed").kind, Kind::File { size: found, .. } if found == size);
    assert!(is_archive, "what is fetched is not unpacked by itself");
    assert_eq!((tree.text("unpacked/file"), tree.text("sub/x")), ("git".to_owned(), "y".to_owned()));
    assert!(tree.paths().contains(&"kept/.git/HEAD".to_owned()));

    let bodies = web.bodies();
    let again = world.build(&project).succeeds();
    // As with BuildKit, fetching bears the name of the instruction, so that each is there twice.
    assert_eq!(again.stderr.matches(" CACHED\n").count(), 6, "{again}");
    assert!(web.bodies() - bodies < 20, "only branches are asked for");
    write(&world.path().join("page"), "two");
    world.build(&project).fails().says(&digest).says(&kiln_tests::layout::sha256(b"two"));
}
