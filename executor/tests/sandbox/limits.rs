//! What a command may use of the machine, and for how long.

use std::time::Duration;

use kiln_executor::sandbox::{Limits, SandboxError, Ulimit, User};

use crate::cases::{Case, long_time, processes_with};
use crate::steps;
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("resource_limits_are_set", resource_limits_are_set),
    ("limits_out_of_reach_are_a_clear_error", limits_out_of_reach_are_a_clear_error),
    ("a_fork_bomb_ends_at_the_limit_of_processes", a_fork_bomb_ends_at_the_limit_of_processes),
    ("time_runs_out", time_runs_out),
    ("a_step_has_limits_of_its_own_and_of_all", steps::a_step_has_limits_of_its_own_and_of_all),
];

fn ulimit(resource: u32, soft: u64, hard: u64) -> Ulimit {
    Ulimit { resource, soft, hard }
}

fn resource_limits_are_set(world: &World) {
    let mut spec = world.spec("ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; ulimit -f");
    spec.limits.ulimits = vec![
        ulimit(libc::RLIMIT_NOFILE, 5, 6),
        ulimit(libc::RLIMIT_CORE, 0, 0),
        ulimit(libc::RLIMIT_FSIZE, 512 * 7, 512 * 8),
    ];
    assert_eq!(world.run(&spec).assert_ok().stdout, "5\n6\n0\n0\n7\n");
    // As few as there are after all: the sandbox itself needs none any more.
    let mut spec = world.spec("echo fine");
    spec.limits.ulimits = vec![ulimit(libc::RLIMIT_NOFILE, 3, 3)];
    assert_eq!(world.run(&spec).assert_ok().stdout, "fine\n");
    assert_eq!(world.says("test $(ulimit -n) -gt 6 && echo more"), "more", "the next command has its own");
}

fn limits_out_of_reach_are_a_clear_error(world: &World) {
    let mut spec = world.spec("true");
    spec.limits.ulimits = vec![ulimit(libc::RLIMIT_NOFILE, 1 << 40, 1 << 40)];
    let error = world.run(&spec).result.unwrap_err().to_string();
    assert!(error.starts_with("cannot set limits for the sandbox: `nofile`: "), "{error}");
    assert!(error.contains("\nhint: "), "{error}");
}

/// Root is above this limit, as it is with Docker.
fn a_fork_bomb_ends_at_the_limit_of_processes(world: &World) {
    if world.single() {
        return;
    }
    let long = long_time();
    let mut spec = world.spec(&format!("i=0; while [ $i -lt 100 ]; do sleep {long} & i=$((i + 1)); done; echo all"));
    spec.user = User { uid: 4711, gid: 4711, groups: Vec::new() };
    spec.limits.ulimits = vec![ulimit(libc::RLIMIT_NPROC, 20, 20)];
    let outcome = world.run(&spec);
    assert!(outcome.code() != 0 && outcome.stderr.contains("fork"), "{outcome:?}");
    assert!(processes_with(&format!("sleep\0{long}\0")).is_empty());
}

fn time_runs_out(world: &World) {
    let time = Duration::from_millis(100);
    let long = long_time();
    let mut spec = world.spec(&format!("trap '' TERM INT; (setsid sleep {long} &); echo started; sleep {long}"));
    spec.limits = Limits { time: Some(time), ..Limits::default() };
    let outcome = world.run(&spec);
    assert!(matches!(outcome.result, Err(SandboxError::TimedOut(after)) if after == time), "{outcome:?}");
    assert_eq!(outcome.result.unwrap_err().to_string(), "killed: it ran longer than 100ms");
    assert!(processes_with(&format!("sleep\0{long}\0")).is_empty());
    for time in [Duration::from_secs(1000), Duration::MAX] {
        let mut spec = world.spec("exit 3");
        spec.limits.time = Some(time);
        assert_eq!(world.run(&spec).code(), 3);
    }
}
