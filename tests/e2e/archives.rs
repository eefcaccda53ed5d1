//! `kiln save` and `kiln load`, to and from other tools.

use std::path::Path;
use std::process::Command;

use kiln_tests::podman::Podman;
use kiln_tests::{Project, World, command};

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", "FROM busybox\nRUN echo hello > /x && ln /x /y\nCMD [\"cat\", \"/y\"]\n")])
}

fn with_app() -> World {
    let world = World::new();
    world.build(&project(&world)).args(["-t", "app:1.0"]).succeeds();
    world
}

fn id(world: &World, name: &str) -> String {
    world.kiln(["images", "--quiet", "--no-trunc", name]).succeeds().stdout_text()
}

fn load(world: &World, archive: &Path) -> String {
    world.kiln(["load", "--input"]).arg(archive).succeeds().stdout_text()
}

#[test]
fn what_kiln_saves_runs_elsewhere_and_comes_back() {
    let world = with_app();
    world.kiln(["tag", "app:1.0", "r.example/app:1"]).succeeds();
    let other = world.project(&[("Dockerfile", "FROM app:1.0\nENV A=b\n")]);
    world.build(&other).args(["-t", "r.example/other:2"]).succeeds();
    let archive = world.path().join("images.tar");
    world.kiln(["save", "r.example/app:1", "r.example/other", "-o"]).arg(&archive).succeeds();
    let podman = Podman::new();
    podman.load(&archive);
    assert_eq!(podman.run("r.example/app:1", &[]), "hello\n");
    assert_eq!(podman.inspect("r.example/other:2")[0]["Config"]["Env"][1], "A=b");
    let fresh = World::new();
    assert_eq!(load(&fresh, &archive), "Loaded image: r.example/app:1\nLoaded image: r.example/other:2\n");
    assert_eq!(id(&fresh, "r.example/app"), id(&world, "app:1.0"));
    let derived = fresh.project(&[("Dockerfile", "FROM r.example/app:1\nRUN cat /x > /z\n")]);
    assert_eq!(fresh.tree(&derived).text("z"), "hello\n");
    // Through pipes, compressed.
    let script = "\"$0\" save --format oci app:1.0 | gzip | \"$0\" --root \"$1\" load --quiet";
    let kiln = world.kiln(["version"]).into_command();
    let mut pipe = Command::new("sh");
    pipe.args(["-c", script]).arg(kiln.get_program()).arg(world.path().join("piped"));
    pipe.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(command::run(&mut pipe), "Loaded image: app:1.0\n");
}

#[test]
fn what_podman_and_skopeo_write_is_loaded() {
    let world = with_app();
    let archive = world.path().join("app.tar");
    world.kiln(["save", "app:1.0", "-o"]).arg(&archive).succeeds();
    let podman = Podman::new();
    podman.load(&archive);
    for format in ["docker-archive", "oci-archive"] {
        let saved = world.path().join(format);
        podman.save("docker.io/library/app:1.0", format, &saved);
        let fresh = World::new();
        assert_eq!(load(&fresh, &saved), "Loaded image: app:1.0\n", "{format}");
        let derived = fresh.project(&[("Dockerfile", "FROM app:1.0\nRUN cat /y > /z\n")]);
        assert_eq!(fresh.tree(&derived).text("z"), "hello\n");
    }
    let copied = world.path().join("copied.tar");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("docker-archive:{}", archive.display()));
    command::run(skopeo.arg(format!("oci-archive:{}:team/app:2", copied.display())));
    assert_eq!(load(&World::new(), &copied), "Loaded image: team/app:2\n");
}

#[test]
fn what_is_no_archive_is_refused() {
    let world = World::new();
    let file = world.path().join("no.tar");
    std::fs::write(&file, "FROM busybox\n").unwrap();
    world.kiln(["load", "-i"]).arg(&file).fails().says("no.tar").says_one_error();
    world.kiln(["load", "-i", "/nothing/there"]).fails().says("/nothing/there").says_one_error();
    world.kiln(["save", "nothing", "-o"]).arg(world.path().join("x")).fails().says("no image `nothing`");
    assert_eq!(world.kiln(["images", "-q"]).succeeds().stdout_text(), "");
}
