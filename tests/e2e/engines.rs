//! Other engines: `kiln build --load` into podman, Docker's daemon and containerd; caches shared with BuildKit.

mod buildkit;
mod containerd;
mod docker;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

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

#[test]
fn without_the_engine_that_was_asked_for_nothing_is_built() {
    let world = World::new();
    let build = |name: &str, value: &str| {
        let build = world.build(&project(&world)).args(["-t", "app", "--load"]).env(name, value).fails();
        build.never_mentions("RUN echo hello");
        build
    };
    build("DOCKER_HOST", "unix:///nowhere").says("cannot load the image into docker").says("`unix:///nowhere`");
    build("DOCKER_CONTEXT", "none").says("there is no context `none` of Docker's");
    build("KILN_ENGINE", "rkt").says("`KILN_ENGINE` is one of docker, podman, nerdctl, containerd");
}

#[test]
fn what_has_no_index_takes_one_platform_and_no_attestations() {
    let world = World::new();
    let programs = path(&programs(&world, &[("podman", "exit 1")]));
    let build = |flag: &str| {
        let build = world.build(&project(&world)).args(["-t", "app", "--load", flag]).env("PATH", &programs);
        build.env("KILN_ENGINE", "podman").fails()
    };
    build("--platform=linux/amd64,linux/arm64").says("podman takes an image for one platform, and not for 2");
    build("--sbom=true").says("podman has no index that attestations could be in");
}

#[test]
fn a_program_that_refuses_is_an_error() {
    let world = World::new();
    let programs = path(&programs(&world, &[("nerdctl", "echo 'no space left' >&2; exit 1")]));
    let build = world.build(&project(&world)).args(["-t", "app", "--load"]).env("PATH", programs);
    let outcome = build.env("KILN_ENGINE", "nerdctl").fails();
    outcome.says("`nerdctl load` failed: no space left").says_one_error();
}

#[test]
fn podman_runs_what_was_loaded() {
    let world = World::new();
    let podman = Podman::new();
    let programs = path(&programs(&world, &[("podman", &podman.script())]));
    let build = world.build(&project(&world)).args(["-t", "r.example/app:1.0", "--load"]).env("PATH", programs);
    build.env("KILN_ENGINE", "podman").succeeds().says("loading into podman");
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
    let build = world.build(&project(&world)).args(["-t", "r.example/app:1.0", "--load"]).env("KILN_ENGINE", "podman");
    let build = build.env("CONTAINERS_STORAGE_CONF", &settings).env("XDG_RUNTIME_DIR", &runtime);
    build.succeeds().says("loading into podman");
    let mut podman = Command::new("podman");
    podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none", "images", "--format", "{{.Names}}"]);
    podman
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", world.home())
        .env("TMPDIR", world.path().join("tmp"));
    podman.env("CONTAINERS_STORAGE_CONF", &settings).env("XDG_RUNTIME_DIR", &runtime);
    podman.current_dir(world.home()).uid(user.uid).gid(user.gid);
    assert_eq!(command::run(&mut podman), "[r.example/app:1.0]\n");
}

/// Whether a child is a zombie or gone: only the owner can wait for it.
fn has_ended(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    status.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with('Z'))
}

/// Has a daemon end in order.
fn end(child: &mut Child) {
    let id = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    let _ = child.wait();
}
