//! Docker's daemon, spoken to through its socket, with and without ssh.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_tests::{Project, World, command, users};

use super::{DOCKERFILE, end, has_ended, path, programs, project};

/// Docker's daemon, with everything that it has in one directory.
pub(super) struct Daemon {
    child: Child,
    directory: PathBuf,
    /// There is one at a time: they share the machine's control groups and names of networks.
    _turn: MutexGuard<'static, ()>,
}

static TURNS: Mutex<()> = Mutex::new(());

impl Daemon {
    /// Starts it; none where it is not installed or does not run here.
    #[expect(clippy::print_stderr, reason = "whoever runs the test is to know why it shows nothing")]
    pub(super) fn start(world: &World) -> Option<Self> {
        let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = world.path().join("dockerd");
        std::fs::create_dir_all(&directory).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs", "--data-root"]);
        daemon.arg(directory.join("data")).arg("--exec-root").arg(directory.join("run"));
        daemon.arg("--pidfile").arg(directory.join("pid")).arg("-H").arg(host(&directory));
        let spawned = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = spawned.expect("`dockerd` (Debian package docker.io; `make deps`)");
        let mut daemon = Self { child, directory, _turn: turn };
        world.until("dockerd answers or ends", || daemon.answers() || has_ended(&daemon.child));
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

    /// Debian's `docker`, which builds with the BuildKit of its daemon.
    pub(super) fn build(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("/usr/bin/docker");
        docker.args(["build", "--network=none", "--progress=plain"]).args(words);
        docker.env("DOCKER_HOST", host(&self.directory)).env("DOCKER_BUILDKIT", "1");
        docker
    }

    pub(super) fn docker(&self, words: &[&str]) -> Command {
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
        end(&mut self.child);
    }
}

#[test]
fn docker_runs_what_was_loaded() {
    let world = World::new();
    let Some(daemon) = Daemon::start(&world) else { return };
    let build = |project: &Project, name: &str, host: &str, path: &str| {
        let build = world.build(project).args(["-t", name, "--load"]).env("PATH", path);
        build.env("DOCKER_HOST", host).succeeds()
    };
    let socket = host(&daemon.directory);
    // The program `docker` is not needed.
    build(&project(&world), "app:1.0", &socket, "/nowhere").says("loading into docker").says("Loaded image: app:1.0");
    let run = |name: &str| command::run(&mut daemon.docker(&["run", "--rm", "--network", "none", name]));
    assert_eq!(run("app:1.0"), "hello\n");
    let derived = world.project(&[("Dockerfile", &format!("{DOCKERFILE}RUN echo more >> /x\n"))]);
    let ssh = "while [ \"$1\" != -L ]; do shift; done; ln -s \"${2#*:}\" \"${2%%:*}\"; exec sleep infinity";
    let programs = path(&programs(&world, &[("ssh", ssh)]));
    let far = format!("ssh://me@far:2222{}", daemon.directory.join("docker.sock").display());
    build(&derived, "app:2.0", &far, &programs).says("2 of 3 layers were there");
    assert_eq!(run("app:2.0"), "hello\nmore\n");
    let outcome = world.build(&derived).args(["--load", "--platform=linux/amd64,linux/arm64"]);
    outcome.env("DOCKER_HOST", &socket).fails().says("takes an image for one platform, and not for 2");
    an_ordinary_user_may_load(&daemon);
}

/// Whoever may write to the socket may load, also from within a user namespace of kiln's.
fn an_ordinary_user_may_load(daemon: &Daemon) {
    let world = World::of(users::with_ranges());
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&daemon.directory.join("docker.sock"), 0o666);
    let build = world.build(&project(&world)).args(["-t", "app:3.0", "--load"]);
    build.env("DOCKER_HOST", host(&daemon.directory)).succeeds().says("Loaded image: app:3.0");
}

#[test]
fn a_login_that_fails_is_told() {
    let world = World::new();
    let ssh = "echo 'Permission denied (publickey).' >&2; exit 255";
    let programs = path(&programs(&world, &[("ssh", ssh)]));
    let build = world.build(&project(&world)).args(["-t", "app", "--load"]).env("PATH", programs);
    let outcome = build.env("DOCKER_HOST", "ssh://far").fails();
    outcome.says("cannot load the image into docker: `ssh` failed: Permission denied (publickey).").says_one_error();
}
