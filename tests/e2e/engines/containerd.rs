//! containerd, with `ctr`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use kiln_tests::{World, command};

use super::{end, has_ended, project};

/// What is left out of it: plugins that look for things of the machine.
const DISABLED: &str = r#"["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
"io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]"#;

/// containerd, with everything that it has in one directory.
struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    fn start(world: &World) -> Self {
        let directory = world.path().join("containerd");
        std::fs::create_dir_all(&directory).unwrap();
        let place = |name: &str| directory.join(name).display().to_string();
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {DISABLED}\n[grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("sock")
        );
        std::fs::write(directory.join("config.toml"), settings).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(directory.join("config.toml"));
        let spawned = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = spawned.expect("`containerd` (Debian package containerd; `make deps`)");
        let daemon = Self { child, directory };
        world.until("containerd answers or ends", || {
            command::output(&mut daemon.ctr(&["version"])).status.success() || has_ended(&daemon.child)
        });
        assert!(!has_ended(&daemon.child), "{}", std::fs::read_to_string(daemon.directory.join("log")).unwrap());
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    fn ctr(&self, words: &[&str]) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.args(words).env("CONTAINERD_ADDRESS", self.socket()).env("CONTAINERD_NAMESPACE", "kiln");
        ctr
    }

    fn run(&self, name: &str, id: &str) -> String {
        // The machine's overlayfs may not be one to stack on.
        let fifos = self.directory.join("fifos").display().to_string();
        command::run(&mut self.ctr(&["run", "--rm", "--snapshotter", "native", "--fifo-dir", &fifos, name, id]))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[test]
fn containerd_runs_what_was_loaded() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let build = |name: &str, more: &[&str]| {
        let build = world.build(&project(&world)).args(["-t", name, "--load"]).args(more.iter().copied());
        let build = build.env("KILN_ENGINE", "containerd").env("CONTAINERD_NAMESPACE", "kiln");
        build.env("CONTAINERD_ADDRESS", daemon.socket()).env("CONTAINERD_SNAPSHOTTER", "native").succeeds()
    };
    build("app:1.0", &[]).says("loading into containerd").says("Loaded image: app:1.0");
    assert_eq!(daemon.run("docker.io/library/app:1.0", "first"), "hello\n");
    // An image that does not run here need not be unpacked; what is said of images comes with them.
    let files = [("Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\nCOPY x /\n"), ("x", "")];
    let scratch = world.project(&files);
    for (name, platforms) in [("app:2.0", "linux/amd64,linux/arm64,linux/s390x"), ("app:3.0", "linux/s390x")] {
        let build = world.build(&scratch).args(["-t", name, "--load", "--provenance=true", "--platform", platforms]);
        let build = build.env("KILN_ENGINE", "containerd").env("CONTAINERD_NAMESPACE", "kiln");
        build.env("CONTAINERD_ADDRESS", daemon.socket()).env("CONTAINERD_SNAPSHOTTER", "native").succeeds();
    }
    let list = command::run(&mut daemon.ctr(&["images", "ls"]));
    let line = |name: &str| list.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{list}"));
    for platform in ["linux/amd64", "linux/arm64", "linux/s390x"] {
        assert!(line("app:2.0").contains(platform), "{list}");
    }
    assert!(line("app:3.0").contains("image.index") && line("app:3.0").contains("linux/s390x"), "{list}");
}
