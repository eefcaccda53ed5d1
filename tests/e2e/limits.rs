//! What a RUN may use of the machine, for how long, and with which power.

use kiln_tests::World;
use kiln_tests::users;
use std::path::PathBuf;

/// A control group of this test's own in every hierarchy of the machine, that kiln makes.
struct Groups(String);

impl Groups {
    fn new(name: &str) -> Self {
        Self(format!("kiln-e2e-{name}-{}", std::process::id()))
    }

    fn directories(&self) -> Vec<PathBuf> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = text.lines().filter(|line| line.contains(" - cgroup"));
        let mounts = lines.filter_map(|line| line.split(' ').nth(4));
        mounts.map(|mount| PathBuf::from(mount).join(&self.0)).filter(|group| group.exists()).collect()
    }

    /// Whether nothing of kiln is left below them.
    fn are_empty(&self) -> bool {
        let entries = self.directories().into_iter().flat_map(|group| std::fs::read_dir(group).unwrap());
        !entries.flatten().any(|entry| entry.path().is_dir())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in self.directories() {
            std::fs::remove_dir(group).unwrap();
        }
    }
}

#[test]
fn ulimits_are_the_commands_and_part_of_its_key() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN ulimit -n > /soft; ulimit -Hn > /hard\n")]);
    let limits = ["--ulimit", "nofile=100:200"];
    let tree = world.image(&project, &limits).tree();
    assert_eq!((tree.text("soft"), tree.text("hard")), ("100\n".to_owned(), "200\n".to_owned()));
    world.build(&project).args(limits).succeeds().all_cached();
    world.build(&project).args(["--ulimit", "nofile=101:200"]).succeeds().ran("RUN ulimit");
    world.build(&project).args(["--ulimit", "files=1"]).fails_with(2).says("files");
}

#[test]
fn a_step_that_takes_too_long_is_killed() {
    for world in [World::new(), World::of(users::with_ranges())] {
        let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\nRUN sleep 1000\n")]);
        let outcome = world.build(&project).args(["--step-timeout", "1s"]).fails();
        outcome.says_one_error().says("Dockerfile:3").says("killed: it ran longer than 1s").ran("RUN true");
        // It is no part of a key.
        let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
        world.build(&project).args(["--step-timeout", "1h"]).succeeds().all_cached();
    }
}

#[test]
fn a_step_killed_for_memory_says_so() {
    let world = World::new();
    let groups = Groups::new("memory");
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=10M count=1\nRUN dd if=/dev/zero of=/dev/null bs=300M count=1\n",
    )]);
    let outcome = world.build(&project).args(["--memory", "64m", "--cgroup-parent", &groups.0]).fails();
    outcome.says_one_error().says("Dockerfile:3");
    outcome.says("did not complete successfully: killed: it wanted more memory than the limit of 64 MiB (peak ");
    assert!(!groups.directories().is_empty() && groups.are_empty());
    world.build(&project).succeeds().cached("bs=10M").ran("bs=300M");
}

#[test]
fn limits_that_cannot_be_kept_to_end_a_build_before_it_begins() {
    let world = World::of(users::with_ranges());
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let outcome = world.build(&project).args(["--memory", "64m", "--cgroup-parent", "/not-mine"]).fails();
    outcome.says_one_error().says("not-mine").says("hint: ").says("systemd-run --user").never_mentions("RUN true");
    world.build(&project).args(["--memory", "1k"]).fails_with(2).says("too small");
    world.build(&project).args(["--cgroup-parent", "a/../b"]).fails().says_one_error().says("without `..`");
}

#[test]
fn insecure_commands_may_mount_where_that_is_allowed() {
    for world in [World::new(), World::of(users::with_ranges()), World::of(users::without_ranges())] {
        let dockerfile = "FROM busybox\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && echo x > /m/x\n\
                          RUN ! mount -t tmpfs none /m 2> /dev/null && ls /m > /list\n";
        let project = world.project(&[("Dockerfile", dockerfile)]);
        world.build(&project).fails().says("security.insecure");
        let tree = world.image(&project, &["--allow", "security.insecure"]).tree();
        assert_eq!(tree.text("list"), "", "what was mounted is gone, and the next command is confined");
    }
}
