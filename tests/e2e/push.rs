//! Images on their way to registries, and who may send them.

use std::process::Command;

use kiln_tests::proxy::{Passing, Proxy};
use kiln_tests::registry::{Registry, tls_file};
use kiln_tests::{Outcome, Project, World, command};

/// A project of one file on busybox.
fn app(world: &World, content: &str) -> Project {
    world.project(&[("Dockerfile", "FROM busybox\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n"), ("file", content)])
}

/// What `docker push` ends with for a tag.
fn digest(outcome: &Outcome) -> String {
    let text = outcome.stdout_text();
    let (_, rest) = text.split_once("digest: ").expect("a digest on stdout");
    rest.split(' ').next().unwrap().to_owned()
}

fn skopeo(args: &[&str]) -> String {
    command::run(Command::new("skopeo").args(["--insecure-policy"]).args(args))
}

/// How often a text stands in another.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn what_is_pushed_others_can_read() {
    let world = World::new();
    let registry = Registry::start();
    let name = format!("{}/team/app", registry.address);
    let project = app(&world, "hello");
    world.build(&project).args(["-t", &format!("{name}:1"), "-t", &format!("{name}:2")]).succeeds();
    let outcome = world.kiln(["push", &format!("{name}:1"), &format!("{name}:2")]).succeeds();
    assert_eq!(registry.digest("team/app:1"), digest(&outcome));
    assert_eq!(registry.digest("team/app:2"), digest(&outcome));
    // Read by skopeo, in the formats that it knows.
    let source = format!("docker://{name}:1");
    for (number, format) in ["oci", "v2s2"].iter().enumerate() {
        let target = format!("dir:{}/copy{number}", world.path().display());
        skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--format", format, &source, &target]);
    }
    // Nothing is sent twice.
    let again = world.kiln(["push", &format!("{name}:1")]).succeeds();
    assert_eq!(digest(&again), digest(&outcome));
    assert_eq!(count(&again.stderr, "already there"), 3, "{again}");
    assert_eq!(world.kiln(["push", "-q", &format!("{name}:1")]).succeeds().stdout_text(), format!("{name}:1\n"));
    // And kiln builds on it.
    let world = World::new();
    let project = world.project(&[("Dockerfile", &format!("FROM {name}:1\nRUN cat /file > /copy\n"))]);
    assert_eq!(world.tree(&project).text("copy"), "hello");
}

#[test]
fn a_build_can_push() {
    let world = World::new();
    let registry = Registry::start();
    let (host, project) = (&registry.address, app(&world, "x"));
    world.build(&project).args(["--push", "-t", &format!("{host}/app:1")]).succeeds();
    world.build(&project).args(["-o", &format!("type=registry,\"name={host}/app:2,{host}/other:2\"")]).succeeds();
    world.build(&project).args(["-o", &format!("type=image,name={host}/app:3,push=true")]).succeeds();
    let first = registry.digest("app:1");
    for name in ["app:2", "app:3", "other:2"] {
        assert_eq!(registry.digest(name), first, "{name}");
    }
    let by_digest = format!("type=image,name={host}/nameless,push=true,push-by-digest=true");
    world.build(&project).args(["-o", &by_digest]).succeeds();
    let nameless = format!("docker://{host}/nameless");
    skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("{nameless}@{first}")]);
    let latest = command::output(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &nameless]));
    assert!(!latest.status.success(), "{latest:?}");
    let listed = world.kiln(["images"]).succeeds().stdout_text();
    assert!(listed.contains("nameless") && !listed.contains("other"), "{listed}");
    world.build(&project).arg("--push").fails_with(2).says("needs a name");
    world.kiln(["push", &format!("{host}/absent")]).fails().says_one_error().says("no image");
}

#[test]
fn a_base_of_the_same_registry_is_mounted() {
    let world = World::new();
    let host = &world.registry().address;
    world.configure(&format!("[registry.\"{host}\"]\nhttp = true\n"));
    let dockerfile = format!("FROM {host}/library/busybox\nCOPY Dockerfile /\n");
    let project = world.project(&[("Dockerfile", &dockerfile)]);
    let name = format!("{host}/mounting/app:1");
    let outcome = world.build(&project).args(["--push", "-t", &name]).succeeds();
    outcome.says("mounted from library/busybox");
    assert!(world.registry().digest("mounting/app:1").starts_with("sha256:"));
}

/// What is only known to be there is not fetched to be sent back.
#[test]
fn a_base_that_goes_back_to_its_registry_is_never_fetched() {
    let world = World::new();
    let proxy = Proxy::before(&world.registry().address, |_| None);
    let host = proxy.host();
    let base = world.project(&[("Dockerfile", "FROM scratch\nCOPY large /large\n")]);
    base.write("large", &"x".repeat(100_000));
    world.build(&base).args(["--push", "-t", &format!("{host}/lazy/base:1")]).succeeds();
    // Another store: it knows nothing yet, and the build needs no file of its base.
    let other = World::new();
    let project = other.project(&[("Dockerfile", &format!("FROM {host}/lazy/base:1\nENV name=value\n"))]);
    let before = proxy.passed().len();
    let name = format!("{host}/lazy/app:1");
    other.build(&project).args(["--push", "-t", &name]).succeeds().says("mounted from lazy/base");
    other.build(&project).args(["-t", &name]).succeeds();
    other.kiln(["push", &name]).succeeds();
    let fetched: Vec<Passing> = proxy
        .passed()
        .split_off(before)
        .into_iter()
        .filter(|p| p.method == "GET" && p.target.contains("/blobs/"))
        .collect();
    assert_eq!(fetched.len(), 1, "the config alone: {fetched:?}");
    // Elsewhere it has to go through here.
    let elsewhere = Registry::start();
    let copy = format!("{}/app:1", elsewhere.address);
    other.kiln(["tag", &name, &copy]).succeeds();
    other.kiln(["push", &copy]).succeeds().says("pulling");
    let image = other.project(&[("Dockerfile", &format!("FROM {copy}\nCOPY Dockerfile /again\n"))]);
    assert!(other.tree(&image).has("large"));
}

#[test]
fn a_registry_that_takes_nothing_says_so() {
    let world = World::new();
    let registry = Registry::start().read_only();
    let project = app(&world, "x");
    let name = format!("{}/app:1", registry.address);
    let outcome = world.build(&project).args(["--push", "-t", &name]).fails();
    outcome.says_one_error().says("405").says(&registry.address);
}

#[test]
fn tls_needs_an_authority_that_is_known() {
    let world = World::new();
    let registry = Registry::start_with_tls();
    let host = &registry.address;
    let mirror = format!("[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n\n", world.registry().address);
    world.configure(&format!("{mirror}[registry.\"{host}\"]\nhttp = false\n"));
    let (project, name) = (app(&world, "x"), format!("{host}/app:1"));
    world.build(&project).args(["--push", "-t", &name]).fails().says_one_error().says("UnknownIssuer");
    world.configure(&format!("{mirror}[registry.\"{host}\"]\nca = [{:?}]\n", tls_file("ca.pem")));
    world.kiln(["push", &name]).succeeds();
    world.configure(&format!("{mirror}[registry.\"{host}\"]\nhttp = false\n"));
    world.build(&project).args(["-o", &format!("type=registry,name={name},registry.insecure=true")]).succeeds();
}

#[test]
fn a_login_is_checked_kept_and_forgotten() {
    let world = World::new();
    let registry = Registry::start_with_password();
    let host = &registry.address;
    let (project, name) = (app(&world, "x"), format!("{host}/app:1"));
    world.build(&project).args(["-t", &name]).succeeds();
    world.kiln(["push", &name]).fails().says_one_error().says(&format!("kiln login {host}"));
    let password = world.path().join("password");
    std::fs::write(&password, "wrong-hunter2\n").unwrap();
    let login = || world.kiln(["login", "-u", "kiln", "--password-stdin", host]).input(&password);
    let config = world.home().join(".docker/config.json");
    login().fails().says_one_error().says("401").does_not_say("hunter2");
    assert!(!config.exists());
    std::fs::write(&password, "secret\n").unwrap();
    let outcome = login().succeeds();
    outcome.says_on_stdout("Login Succeeded").says("not encrypted");
    assert!(!outcome.stderr.contains("secret") && !outcome.stdout_text().contains("secret"), "{outcome}");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(kept["auths"][host]["auth"], "a2lsbjpzZWNyZXQ=");
    world.kiln(["login", host]).succeeds().says_on_stdout("Login Succeeded");
    world.kiln(["push", &name]).succeeds();
    assert!(registry.digest("app:1").starts_with("sha256:"));
    world.kiln(["logout", host]).succeeds().says_on_stdout("Removing login credentials");
    world.kiln(["logout", host]).succeeds().says_on_stdout("Not logged in");
    world.kiln(["push", &name]).fails().says("401");
    world.kiln(["login", host]).fails_with(2).says("--password-stdin");
    let outcome = world.kiln(["login", "-u", "kiln", "-p", "hunter2", host]).fails_with(2);
    outcome.says("--password-stdin").does_not_say("hunter2");
    world.kiln(["login", "-u", "kiln", "--password=hunter2", host]).fails_with(2).does_not_say("hunter2");
}

#[test]
fn what_is_pulled_can_be_built_on_and_pushed_elsewhere() {
    let world = World::new();
    let (source, target) = (world.registry(), Registry::start());
    let name = format!("{}/library/busybox:latest", source.address);
    let outcome = world.kiln(["pull", &name]).succeeds();
    outcome.says("pulling").says_on_stdout(&source.digest("library/busybox:latest")).says_on_stdout("Downloaded newer");
    world.kiln(["pull", &name]).succeeds().says_on_stdout("up to date");
    assert_eq!(world.kiln(["pull", "-q", &name]).succeeds().stdout_text(), format!("{name}\n"));
    let copy = format!("{}/mine:1", target.address);
    world.kiln(["tag", &name, &copy]).succeeds();
    world.kiln(["push", &copy]).succeeds();
    let project = world.project(&[("Dockerfile", &format!("FROM {copy}\nRUN echo x > /x\n"))]);
    assert_eq!(world.tree(&project).text("x"), "x\n");
    world.kiln(["pull", &format!("{}/absent:1", target.address)]).fails().says_one_error().says("does not exist");
    world.kiln(["pull", "--platform", "linux/s390x", &name]).fails().says_one_error();
}

/// Where a text stands among the files below a directory.
fn files_with(directory: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(path);
                }
            }
        }
    }
    found
}

#[test]
fn a_password_is_nowhere_but_at_its_registry() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let registry = Registry::start_with_password();
    let host = &registry.address;
    let (bin, seen) = (world.path().join("bin"), world.path().join("seen"));
    std::fs::create_dir(&bin).unwrap();
    // The helper writes down what everybody sees of all processes while it is asked.
    let script = format!(
        "#!/bin/sh\nread server\nfor file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < \"$file\"; echo; done >> {0} 2> /dev/null\n\
         tr '\\0' ' ' < /proc/$PPID/environ >> {0}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"kiln\",\"Secret\":\"'sec'ret\"}}'\n",
        seen.display()
    );
    let helper = bin.join("docker-credential-test");
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let docker = world.home().join(".docker");
    std::fs::create_dir(&docker).unwrap();
    std::fs::write(docker.join("config.json"), format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let project = app(&world, "x");
    let build = |name: &str, style: &str| {
        let kiln = world.build(&project).args(["--push", "--progress", style, "-t", &format!("{host}/{name}")]);
        kiln.env("PATH", &path).run()
    };
    let outcomes = [
        build("app:1", "plain"),
        build("app:2", "rawjson"),
        // A name that the registry refuses.
        build(&format!("app:{}", "x".repeat(128)), "plain"),
        world.kiln(["push", &format!("{host}/app:1")]).env("PATH", &path).succeeds(),
        world.kiln(["history", "inspect", "^0"]).run(),
        world.kiln(["history", "logs", "^0"]).run(),
    ];
    assert!(outcomes[0].status.success() && outcomes[1].status.success(), "{}", outcomes[0]);
    for outcome in &outcomes {
        for text in ["secret", "a2lsbjpzZWNyZXQ"] {
            assert!(!outcome.stderr.contains(text) && !outcome.stdout_text().contains(text), "{outcome}");
        }
    }
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("kiln") && !seen.contains("secret") && !seen.contains("a2lsbjpzZWNyZXQ"), "{seen}");
    assert_eq!(files_with(world.root(), "a2lsbjpzZWNyZXQ"), Vec::<std::path::PathBuf>::new());
    assert_eq!(files_with(&world.root().join("history"), "secret"), Vec::<std::path::PathBuf>::new());
}
