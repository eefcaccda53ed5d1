//! What is left after the worst: kiln is killed in each phase of a step, steps misbehave. Nothing may stay behind, and
//! the store must be sound to the last byte.

use kiln_tests::sleeper::{must_be_gone, unique};
use kiln_tests::world::Running;
use kiln_tests::{Project, World, command};
use rustix::process::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nothing is left of builds that are over, once kiln has started again.
fn must_be_clean(world: &World) {
    let checked = world.kiln(["fsck", "--deep"]).run();
    assert!(checked.status.success(), "{checked}");
    assert!(!checked.stdout_text().contains("left behind"), "{checked}");
    let root = world.root().to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(&format!("{root}/"))).collect();
    assert_eq!(left, [] as [&str; 0], "mounts are left");
    assert_eq!(std::fs::read_dir(world.root().join("tmp")).unwrap().count(), 0, "temporary files are left");
}

fn kill(running: Running) {
    running.signal(Signal::KILL);
    let outcome = running.finish();
    assert!(!outcome.status.success(), "it was done before it was killed\n{outcome}");
}

/// Kills a build after it has said `text`, later and later.
fn killed_after(world: &World, project: &Project, text: &str, more: &[&str], delays: &[u64]) {
    for milliseconds in delays {
        let mut running = world.build(project).args(["--no-cache"]).args(more).start();
        running.wait_for(text);
        std::thread::sleep(Duration::from_millis(*milliseconds));
        kill(running);
        must_be_clean(world);
    }
}

#[test]
fn killed_while_a_sandbox_is_set_up() {
    let world = World::new();
    let seconds = &unique(71);
    let project = world.project(&[("Dockerfile", &format!("FROM busybox\nRUN sleep {seconds}\n"))]);
    killed_after(&world, &project, "] RUN sleep", &[], &[0, 1, 2, 4, 8]);
    must_be_gone(seconds);
}

#[test]
fn killed_while_a_step_runs() {
    let world = World::new();
    let seconds = &unique(72);
    // With processes that have left their group and session, and a mount point that is busy.
    let dockerfile = format!(
        "FROM busybox\nRUN (setsid sleep {seconds} &) ; trap '' TERM HUP INT; echo began-$((1+1)) | tee /file; sleep {seconds}\n"
    );
    let project = world.project(&[("Dockerfile", &dockerfile)]);
    killed_after(&world, &project, " began-2", &[], &[0, 50]);
    must_be_gone(seconds);
}

#[test]
fn killed_while_a_layer_is_committed() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=96 2> /dev/null; echo written-$((1+1))\nRUN sleep 1000\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    killed_after(&world, &project, " written-2", &[], &[0, 10, 40, 80]);
}

#[test]
fn killed_while_an_image_is_exported() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=96 2> /dev/null\nRUN echo $RANDOM > /small\n",
    )]);
    world.build(&project).succeeds();
    let file = world.path().join("out.tar");
    let output = format!("type=oci,dest={}", file.display());
    for milliseconds in [0, 20, 60] {
        let mut running = world.build(&project).args(["-o", &output, "-t", "app"]).start();
        running.wait_for("exporting to oci image format");
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        let finished = running.finish().status.success();
        must_be_clean(&world);
        assert!(finished || !file.exists(), "half an archive");
        if finished {
            break;
        }
    }
    world.build(&project).args(["-o", &output]).succeeds().all_cached();
}

#[test]
fn a_damaged_store_is_repaired_and_the_next_build_makes_it_again() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo right > /file\nRUN cat /file > /copy\n")]);
    world.build(&project).args(["-t", "app"]).succeeds();
    let find = format!("grep -rlx right {}/layers/*/files/file", world.root().display());
    let file = command::run(Command::new("sh").args(["-c", &find]));
    std::fs::write(file.trim(), "wrong\n").unwrap();
    world.kiln(["fsck"]).succeeds();
    let checked = world.kiln(["fsck", "--deep"]).fails();
    assert!(checked.stdout_text().contains("`/file` has other bytes"), "{checked}");
    checked.says("the store has 1 problem").says("--repair");
    world.kiln(["fsck", "--deep", "--repair"]).succeeds();
    must_be_clean(&world);
    world.kiln(["inspect", "app"]).fails();
    world.build(&project).args(["-t", "app"]).succeeds().ran("RUN echo right");
    assert_eq!(world.tree(&project).text("copy"), "right\n");
    must_be_clean(&world);
}

#[test]
fn a_store_may_be_checked_while_builds_run() {
    let world = World::new();
    let dockerfile = |n: usize| {
        format!("FROM busybox\nRUN echo {n} > /own\nRUN seq 1 2000 | while read i; do echo $i > /$i; done\n")
    };
    let projects: Vec<_> = (0..2).map(|n| world.project(&[("Dockerfile", &dockerfile(n))])).collect();
    let running: Vec<_> = projects.iter().map(|project| world.build(project).start()).collect();
    for _ in 0..4 {
        let checked = world.kiln(["fsck", "--deep", "--repair"]).succeeds();
        assert!(!checked.stdout_text().contains("problem:"), "{checked}");
    }
    for running in running {
        let outcome = running.finish();
        assert!(outcome.status.success(), "{outcome}");
    }
    must_be_clean(&world);
}

#[test]
fn the_store_of_an_ordinary_user_is_sound() {
    let world = World::of(kiln_tests::users::with_ranges());
    let dockerfile =
        "FROM busybox\nRUN mkdir /d && chown 7:8 /d && echo x > /d/f && rm -r /etc/group && mkfifo /p\nCOPY . /d\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    world.build(&project).args(["-t", "app"]).succeeds();
    must_be_clean(&world);
}

/// The most memory that a process has had, in kilobytes.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_log_without_an_end_of_line_takes_little_memory() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN dd if=/dev/zero bs=1M count=96 2> /dev/null | tr '\\0' x; sleep 1000\n",
    )]);
    for progress in ["plain", "quiet", "rawjson"] {
        let running = world.build(&project).args(["--progress", progress]).start();
        let log = || {
            let builds = std::fs::read_dir(world.root().join("history")).ok()?;
            let logs = builds.flatten().filter_map(|build| std::fs::metadata(build.path().join("log")).ok());
            logs.map(|log| log.len()).max()
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        while log().unwrap_or(0) < 96 << 20 {
            assert!(Instant::now() < deadline, "the log is not kept");
            std::thread::sleep(Duration::from_millis(20));
        }
        let peak = peak_memory(running.id()).unwrap();
        assert!(peak < 64 << 10, "{peak} kB for a log of 96 MB with --progress={progress}");
        running.signal(Signal::INT);
        assert_eq!(running.finish().status.code(), Some(130));
        world.kiln(["history", "rm", "--all"]).succeeds();
    }
    must_be_clean(&world);
}

#[test]
fn a_step_that_ignores_signals_is_stopped() {
    let world = World::new();
    let seconds = &unique(73);
    let dockerfile =
        format!("FROM busybox\nRUN trap '' TERM INT HUP QUIT; echo began-$((1+1)); sleep {seconds}; sleep {seconds}\n");
    let project = world.project(&[("Dockerfile", &dockerfile)]);
    let mut running = world.build(&project).start();
    running.wait_for(" began-2");
    running.signal(Signal::INT);
    assert_eq!(running.finish().status.code(), Some(130));
    must_be_gone(seconds);
    must_be_clean(&world);
}
