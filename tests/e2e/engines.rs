//! `kiln build --load`: into Docker's daemon, podman, or whatever calls itself so.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kiln_tests::podman::Podman;
use kiln_tests::{Project, World, command, users};

const DOCKERFILE: &str = "FROM busybox\nRUN echo hello > /x\nCMD [\"cat\", \"/x\"]\n";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE)])
}

/// A directory of programs, each a script.
fn programs(world: &World, scripts: &[(&str, &str)]) -> PathBuf {
    let directory = world.path().join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    for (name, script) in scripts {
        let file = directory.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// That directory before those where programs are.
fn path(first: &Path) -> String {
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", first.display())
}

fn members(archive: &Path) -> Vec<String> {
    let text = command::run(Command::new("tar").arg("tf").arg(archive));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_daemon_gets_only_the_layers_that_it_lacks() {
    let world = World::new();
    let taken = world.path().join("taken.tar");
    let docker = |stack: &str| {
        format!(
            "case \"$1 $2\" in\n'version --format') echo 20.10.24;;\n'info --format') echo '[[\"Backing\",\"x\"]]';;\n\
             'image ls') echo sha256:1;;\n'image inspect') echo '{stack}';;\n\
             'load --quiet') cat > {}; echo 'Loaded image: app:1.0';;\n*) exit 3;;\nesac",
            taken.display()
        )
    };
    let programs = |stack: &str| path(&programs(&world, &[("docker", &docker(stack))]));
    let project = project(&world);
    let build =
        |stack: &str| world.build(&project).args(["-t", "app:1.0", "--load"]).env("PATH", programs(stack)).succeeds();
    build("[]").says("loading into docker 20.10.24").says("Loaded image: app:1.0");
    let all = members(&taken);
    let format = ["inspect", "--format", "{{json (slice .RootFS.Layers 0 1)}}", "app:1.0"];
    let base = world.kiln(format).succeeds().stdout_text();
    build(base.trim()).says("1 of 2 layers were there");
    let fewer = members(&taken);
    assert_eq!(fewer.len(), all.len() - 1, "{fewer:?}");
    assert!(fewer.contains(&"manifest.json".to_owned()));
}

#[test]
fn without_an_engine_nothing_is_built() {
    let world = World::new();
    let programs = programs(&world, &[("docker", "echo 'Cannot connect to the daemon' >&2; exit 1")]);
    let build = |host: &str| {
        let build = world.build(&project(&world)).args(["-t", "app", "--load"]).env("PATH", &programs);
        build.env("DOCKER_HOST", host).fails()
    };
    let outcome = build("");
    outcome.says("there is no container engine").says("Cannot connect to the daemon").says("hint: start Docker");
    outcome.never_mentions("RUN echo hello");
    build("unix:///nowhere").says("cannot load the image into Docker: Cannot connect");
}

#[test]
fn a_daemon_that_refuses_is_an_error() {
    let world = World::new();
    let script = "case \"$1\" in version) echo 1;; load) echo 'no space left' >&2; exit 1;; esac";
    let programs = path(&programs(&world, &[("docker", script)]));
    let outcome = world.build(&project(&world)).args(["-t", "app", "--load"]).env("PATH", programs).fails();
    outcome.says("`docker load` failed: no space left").says_one_error();
}

#[test]
fn podman_runs_what_was_loaded() {
    let world = World::new();
    let podman = Podman::new();
    let no_docker = ("docker", "echo 'no daemon' >&2; exit 1");
    let programs = path(&programs(&world, &[no_docker, ("podman", &podman.script())]));
    let outcome = world.build(&project(&world)).args(["-t", "r.example/app:1.0", "--load"]).env("PATH", programs);
    outcome.succeeds().says("loading into podman");
    assert_eq!(podman.run("r.example/app:1.0", &[]), "hello\n");
}

/// podman has to begin before kiln has a user namespace of its own: in there it would take itself for root's.
#[test]
fn an_ordinary_user_has_podman_too() {
    let user = users::with_ranges();
    let world = World::of(user);
    let own = |name: &str| {
        let directory = world.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        world.give(&directory);
        directory
    };
    let (storage, runtime) = (own("storage"), own("runtime"));
    let settings = world.path().join("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{1}/storage\"\ngraphroot = \"{0}\"\nrootless_storage_path = \"{0}\"\n",
        storage.display(),
        runtime.display()
    );
    std::fs::write(&settings, text).unwrap();
    let search_path = path(&programs(&world, &[("docker", "echo 'no daemon' >&2; exit 1")]));
    let build = world.build(&project(&world)).args(["-t", "r.example/app:1.0", "--load"]).env("PATH", &search_path);
    let build = build.env("CONTAINERS_STORAGE_CONF", &settings).env("XDG_RUNTIME_DIR", &runtime);
    build.succeeds().says("loading into podman");
    let mut podman = Command::new("podman");
    podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none", "images", "--format", "{{.Names}}"]);
    podman.env_clear().env("PATH", &search_path).env("HOME", world.home()).env("TMPDIR", world.path().join("tmp"));
    podman.env("CONTAINERS_STORAGE_CONF", &settings).env("XDG_RUNTIME_DIR", &runtime);
    podman.current_dir(world.home()).uid(user.uid).gid(user.gid);
    assert_eq!(command::run(&mut podman), "[r.example/app:1.0]\n");
}

/// Docker's daemon, with everything that it has in one directory.
struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    /// Starts it; none where it is not installed or does not run here.
    #[expect(clippy::print_stderr, reason = "whoever runs the test is to know why it shows nothing")]
    fn start(world: &World) -> Option<Self> {
        let directory = world.path().join("dockerd");
        std::fs::create_dir_all(&directory).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs", "--data-root"]);
        daemon.arg(directory.join("data")).arg("--exec-root").arg(directory.join("run"));
        daemon.arg("--pidfile").arg(directory.join("pid")).arg("-H").arg(host(&directory));
        let spawned = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = spawned.expect("`dockerd` (Debian package docker.io; `make deps`)");
        let mut daemon = Self { child, directory };
        world.until("dockerd answers or ends", || daemon.answers() || daemon.has_ended());
        if daemon.child.try_wait().unwrap().is_none() {
            return Some(daemon);
        }
        eprintln!(
            "skipped: `dockerd` does not run here: {}",
            std::fs::read_to_string(daemon.directory.join("log")).unwrap()
        );
        None
    }

    fn answers(&self) -> bool {
        self.docker(&["version"]).output().is_ok_and(|output| output.status.success())
    }

    /// Whether it is a zombie or gone: only the owner can wait for it.
    fn has_ended(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        status.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with('Z'))
    }

    fn docker(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(words).env("DOCKER_HOST", host(&self.directory));
        docker
    }
}

fn host(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn docker_runs_what_was_loaded() {
    let world = World::new();
    let Some(daemon) = Daemon::start(&world) else { return };
    let search_path = std::env::var("PATH").unwrap();
    let build = |project: &Project, name: &str| {
        let build = world.build(project).args(["-t", name, "--load"]).env("PATH", &search_path);
        build.env("DOCKER_HOST", host(&daemon.directory)).succeeds()
    };
    build(&project(&world), "app:1.0").says("loading into docker");
    let run = |name: &str| command::run(&mut daemon.docker(&["run", "--rm", "--network", "none", name]));
    assert_eq!(run("app:1.0"), "hello\n");
    let derived = world.project(&[("Dockerfile", &format!("{DOCKERFILE}RUN echo more >> /x\n"))]);
    build(&derived, "app:2.0").says("2 of 3 layers were there");
    assert_eq!(run("app:2.0"), "hello\nmore\n");
}
