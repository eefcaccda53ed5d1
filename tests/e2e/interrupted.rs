//! Builds that are stopped, that run out of something, and that meet each other.

use kiln_tests::sleeper::{is_asleep, must_be_gone, unique};
use kiln_tests::users;
use kiln_tests::{Project, World, command};
use rustix::process::Signal;
use std::process::Command;
use std::time::Duration;

/// A build whose second step says `started` and then sleeps for so many seconds, which is how it is found.
fn sleeper(world: &World, seconds: &str) -> Project {
    world.project(&[(
        "Dockerfile",
        &format!("FROM busybox\nRUN echo first > /first\nRUN echo started-$((1+1)); sleep {seconds} & sleep {seconds}; wait\n"),
    )])
}

fn first_step_stays_cached(world: &World, project: &Project) {
    project.write("Dockerfile", "FROM busybox\nRUN echo first > /first\nRUN cat /first\n");
    world.build(project).succeeds().cached("RUN echo first").ran("RUN cat /first");
}

fn interrupted(signal: Signal, seconds: &str) {
    let world = World::new();
    let project = sleeper(&world, seconds);
    let mut running = world.build(&project).args(["-t", "never"]).start();
    running.wait_for(" started-2");
    while !is_asleep(seconds) {}
    running.signal(signal);
    let outcome = running.finish();
    assert_eq!(outcome.status.code(), Some(130), "{outcome}");
    must_be_gone(seconds);
    assert!(!world.kiln(["images"]).succeeds().stdout_text().contains("never"));
    first_step_stays_cached(&world, &project);
}

#[test]
fn control_c() {
    interrupted(Signal::INT, &unique(1));
}

#[test]
fn termination() {
    interrupted(Signal::TERM, &unique(2));
}

#[test]
fn control_c_during_several_steps() {
    let world = World::new();
    let seconds = [unique(3), unique(4)];
    let project = world.project(&[(
        "Dockerfile",
        &format!(
            "FROM busybox AS one\nRUN echo one-started-$((1+1)); sleep {}\nFROM busybox AS two\nRUN echo two-started-$((1+1)); sleep {}\n\
             FROM scratch\nCOPY --from=one / /1\nCOPY --from=two / /2\n",
            seconds[0], seconds[1]
        ),
    )]);
    let mut running = world.build(&project).start();
    running.wait_for(" one-started-2");
    running.wait_for(" two-started-2");
    running.signal(Signal::INT);
    assert_eq!(running.finish().status.code(), Some(130));
    seconds.iter().for_each(|seconds| must_be_gone(seconds));
}

#[test]
fn kill_nine_and_a_rebuild() {
    let world = World::new();
    let seconds = &unique(5);
    let project = sleeper(&world, seconds);
    let mut running = world.build(&project).start();
    running.wait_for(" started-2");
    running.signal(Signal::KILL);
    running.finish();
    must_be_gone(seconds);
    first_step_stays_cached(&world, &project);
    let left = std::fs::read_dir(world.root().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what the killed process left in tmp/ is swept");
}

#[test]
fn kill_nine_anywhere_leaves_a_store_that_works() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nCOPY . /context\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN echo 3 > /3\nRUN dd if=/dev/zero of=/big bs=1M count=8\n",
    )]);
    for n in 0..200 {
        project.write(&format!("many/{n}"), &n.to_string());
    }
    // Later and later, from before the first step to after the last.
    for milliseconds in (0..300).step_by(20) {
        let running = world.build(&project).args(["-t", "app"]).start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        running.finish();
    }
    let tree = world.tree(&project);
    assert_eq!(tree.text("context/many/199"), "199");
    assert_eq!((tree.text("1"), tree.text("3")), ("1\n".to_owned(), "3\n".to_owned()));
}

#[test]
fn many_kilns_on_one_store() {
    let world = World::new();
    let projects: Vec<_> = (0..4)
        .map(|n| {
            let dockerfile = format!("FROM busybox\nRUN echo shared > /shared\nRUN echo {n} > /own\nCOPY file /file\n");
            world.project(&[("Dockerfile", &dockerfile), ("file", &n.to_string())])
        })
        .collect();
    let running: Vec<_> = projects
        .iter()
        .enumerate()
        .map(|(n, project)| world.build(project).args(["-t", &format!("app:{n}"), "-t", "app:last"]).start())
        .collect();
    for running in running {
        let outcome = running.finish();
        assert!(outcome.status.success(), "{outcome}");
    }
    for (n, project) in projects.iter().enumerate() {
        assert_eq!(world.tree(project).text("own"), format!("{n}\n"));
        world.build(project).succeeds().all_cached();
        world.kiln(["inspect", &format!("app:{n}")]).succeeds();
    }
}

/// A small file system of its own, gone with the value.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        command::run(
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "kiln-e2e"]).arg(&path),
        );
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn on_a_small_disk() -> (World, Tmpfs) {
    let mut world = World::new();
    let disk = Tmpfs::mount(world.path().join("disk"), "24m");
    world.set_root(disk.0.join("root"));
    (world, disk)
}

#[test]
fn a_full_disk_during_run() {
    let (world, _disk) = on_a_small_disk();
    let project =
        world.project(&[("Dockerfile", "FROM busybox\nRUN echo a > /a\nRUN dd if=/dev/zero of=/big bs=1M count=64\n")]);
    let outcome = world.build(&project).fails();
    outcome.says_one_error().says("No space left on device").says("Dockerfile:3");
    world.kiln(["fsck", "--deep"]).succeeds();
    project.write("Dockerfile", "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n");
    world.build(&project).succeeds().cached("RUN echo a").ran("RUN echo b");
    world.kiln(["fsck", "--deep"]).succeeds();
}

#[test]
fn a_full_disk_during_copy() {
    let (world, _disk) = on_a_small_disk();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo a > /a\nCOPY big /big\n")]);
    std::fs::write(project.join("big"), vec![1; 64 << 20]).unwrap();
    world.build(&project).fails().says_one_error().says("no space left").says("Dockerfile:3");
    std::fs::write(project.join("big"), "small now").unwrap();
    world.build(&project).succeeds().cached("RUN echo a").ran("COPY big");
}

#[test]
fn a_full_disk_during_the_pull() {
    let mut world = World::new();
    let disk = Tmpfs::mount(world.path().join("disk"), "1m");
    world.set_root(disk.0.join("root"));
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    world.build(&project).fails().says_one_error().says("no space left");
}

#[test]
fn a_store_that_may_not_be_used() {
    let mut world = World::of(users::with_ranges());
    let root = world.path().join("forbidden");
    std::fs::create_dir(&root).unwrap();
    world.set_root(&root);
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let outcome = world.build(&project).fails();
    outcome.says_one_error().says("forbidden").says("ermission denied");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn a_context_that_may_not_be_read() {
    let world = World::of(users::with_ranges());
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY . /all\n"), ("dir/secret", "x")]);
    // A user's own files can be read in a user namespace, whatever their mode.
    std::os::unix::fs::chown(project.join("dir/secret"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(project.join("dir/secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    world.build(&project).fails().says_one_error().says("dir/secret").says("ermission denied");
    project.write(".dockerignore", "dir\n");
    world.build(&project).succeeds();
}

#[test]
fn files_that_go_away_meanwhile_are_no_crash() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY . /all\n")]);
    for n in 0..500 {
        project.write(&format!("d{}/{n}", n % 10), "x");
    }
    let running = world.build(&project).start();
    for n in 0..10 {
        let _ = std::fs::remove_dir_all(project.join(&format!("d{n}")));
    }
    let outcome = running.finish();
    outcome.does_not_say("panicked");
    assert!(matches!(outcome.status.code(), Some(0 | 1)), "{outcome}");
}
