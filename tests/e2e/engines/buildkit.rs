//! Caches that kiln and a real BuildKit (that of Docker's daemon) write for each other.

use std::collections::BTreeSet;

use kiln_tests::registry::Registry;
use kiln_tests::{Project, World, bases, command};

use super::docker::Daemon;

/// Most of what may be in a Dockerfile that the BuildKit of Docker 20.10 understands. Nothing in it depends on the
/// time, so that both engines come to the same contents.
const DOCKERFILE: &str = r#"FROM REGISTRY/busybox AS build
ARG VERSION=1
ENV FLAGS="<a&b>"
COPY src /src
RUN echo "$VERSION $FLAGS" > /made && ls -R /src >> /made
FROM build AS more
ARG VERSION
WORKDIR /work
COPY src/a src/sub/b ./
ADD src/sub /sub/
RUN --mount=type=cache,target=/cache --mount=type=bind,source=src,target=/mnt --mount=type=tmpfs,target=/t \
    cat /mnt/a > seen
RUN --mount=type=bind,from=build,source=/made,target=/from cat /from > copied
FROM REGISTRY/busybox
USER 1000:1000
WORKDIR /home/me
COPY --from=more --chown=1000:1000 /made /work/seen ./
COPY --chown=7 *.txt texts/
COPY . all
SHELL ["/bin/sh", "-ec"]
RUN id -u
"#;
/// The instructions above that make something.
const STEPS: usize = 12;

fn project(world: &World, registry: &Registry) -> Project {
    let dockerfile = DOCKERFILE.replace("REGISTRY", &registry.address);
    world.project(&[
        ("Dockerfile", &dockerfile),
        ("src/a", "a\n"),
        ("src/sub/b", "b\n"),
        ("src/sub.d/c", "c\n"),
        ("one.txt", "1\n"),
        ("two.txt", "2\n"),
    ])
}

fn registry() -> Registry {
    let registry = Registry::start();
    registry.push(&bases::busybox(), "busybox:latest");
    registry
}

/// What BuildKit says that it had cached.
fn cached(log: &str) -> BTreeSet<&str> {
    let lines = log.lines().filter_map(|line| line.split_once(" CACHED"));
    lines.map(|(number, _)| number).collect()
}

#[test]
fn kiln_begins_where_buildkit_left_off() {
    let world = World::new();
    let Some(daemon) = Daemon::start(&world) else { return };
    let registry = registry();
    let project = project(&world, &registry);
    let name = format!("{}/app:1", registry.address);
    let directory = project.path().to_str().unwrap();
    command::run(&mut daemon.build(&["--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", &name, directory]));
    command::run(&mut daemon.docker(&["push", "--quiet", &name]));
    let build = |world: &World| world.build(&project).args(["--network=none", "--cache-from", &name, "--explain"]);
    let outcome = build(&world).arg("-t=app").succeeds();
    outcome.all_cached().says(&format!("by definition, in the cache `{name}`"));
    // The same files, which are known here from now on.
    let here = world.image(&project, &["--network=none"]).tree();
    let run = command::run(&mut daemon.docker(&["run", "--rm", "--network=none", &name, "cat", "made", "seen"]));
    assert_eq!(run, format!("{}{}", here.text("home/me/made"), here.text("home/me/seen")));
    world.build(&project).args(["--network=none", "--explain"]).succeeds().all_cached().does_not_say("in the cache `");
    // A file that no step before the last COPY looked at: all up to there stays.
    project.write("new", "new\n");
    let elsewhere = World::new();
    let outcome = build(&elsewhere).arg("-t=app").succeeds();
    outcome.ran("COPY . all").ran("RUN id -u").cached("COPY --chown=7");
    project.write("src/a", "another\n");
    let outcome = build(&World::new()).arg("-t=app").succeeds();
    outcome.ran("COPY src /src").ran("cat /mnt/a").ran("COPY --from=more").cached("WORKDIR /home/me");
}

#[test]
fn buildkit_begins_where_kiln_left_off() {
    let world = World::new();
    let Some(daemon) = Daemon::start(&world) else { return };
    let registry = registry();
    let project = project(&world, &registry);
    let name = format!("{}/app:1", registry.address);
    let cache = format!("{}/app:cache", registry.address);
    // Docker 20.10 reads no cache that is a manifest.
    let to = format!("--cache-to=type=registry,ref={cache},mode=max,image-manifest=false");
    let build = world.build(&project).args(["--network=none", "--cache-to=type=inline", &to, "--push", "-t", &name]);
    build.succeeds();
    let directory = project.path().to_str().unwrap();
    for from in [&name, &cache] {
        let mut build = daemon.build(&["--cache-from", from, "-t", "app", directory]);
        let log = String::from_utf8(build.output().unwrap().stderr).unwrap();
        assert_eq!(cached(&log).len(), STEPS, "from {from}: {log}");
        let image = command::run(&mut daemon.docker(&["run", "--rm", "--network=none", "app", "cat", "made", "seen"]));
        let here = world.image(&project, &["--network=none"]).tree();
        assert_eq!(image, format!("{}{}", here.text("home/me/made"), here.text("home/me/seen")));
        command::run(&mut daemon.docker(&["builder", "prune", "--all", "--force"]));
    }
    project.write("src/a", "another\n");
    let mut build = daemon.build(&["--cache-from", &cache, "-t", "app", directory]);
    let log = String::from_utf8(build.output().unwrap().stderr).unwrap();
    assert_eq!(cached(&log).len(), 1, "the WORKDIR of the last stage: {log}");
}
