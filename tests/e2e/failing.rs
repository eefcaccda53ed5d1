//! A step that fails.

use kiln_tests::{World, command};
use std::process::Command;

#[test]
fn a_failing_run_is_explained() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo first > /first\n\nRUN echo before the end; exit 42\nRUN echo never\n",
    )]);
    let outcome = world.build(&project).fails();
    outcome.says("before the end").says("Dockerfile:4").says("RUN echo before the end; exit 42").says("exit code: 42");
    outcome.says_one_error().ran("RUN echo first").never_mentions("RUN echo never");
    assert!(outcome.stderr.contains("RUN echo first > /first"), "the lines around are shown\n{outcome}");
    assert!(outcome.stdout.is_empty());
}

#[test]
fn what_was_done_before_a_failure_stays_cached() {
    let world = World::new();
    let project =
        world.project(&[("Dockerfile", "FROM busybox\nRUN echo first > /first\nRUN test -e /first && exit 3\n")]);
    world.build(&project).fails();
    project.write("Dockerfile", "FROM busybox\nRUN echo first > /first\nRUN test -e /first\n");
    world.build(&project).succeeds().cached("RUN echo first").ran("RUN test -e /first");
}

#[test]
fn a_failure_is_not_cached() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo partial > /partial && false\n")]);
    world.build(&project).fails().says("exit code: 1");
    world.build(&project).fails().says("exit code: 1");
}

#[test]
fn a_failure_stops_the_rest() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS slow\nRUN sleep 600\nFROM busybox AS quick\nRUN exit 7\n\
         FROM scratch\nCOPY --from=slow / /slow\nCOPY --from=quick / /quick\n",
    )]);
    // The harness would wait for five minutes, and then fail.
    let outcome = world.build(&project).fails();
    outcome.says("exit code: 7");
    assert!(!outcome.progress().ran("RUN sleep 600"), "{outcome}");
}

#[test]
fn a_signal_is_named() {
    let world = World::new();
    // The first process of a sandbox cannot be killed from inside: this one is killed from here.
    let seconds = format!("6{}", std::process::id());
    let project =
        world.project(&[("Dockerfile", &format!("FROM busybox\nRUN echo $((1+1))nd; exec sleep {seconds}\n"))]);
    let mut running = world.build(&project).start();
    running.wait_for(" 2nd");
    while !command::output(Command::new("pkill").args(["-9", "-f", "-x", &format!("sleep {seconds}")])).status.success()
    {
    }
    let outcome = running.finish();
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    outcome.says("SIGKILL").says("137").says("Dockerfile:2");
}

#[test]
fn a_missing_command_is_named() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN no-such-command --flag\n")]);
    world.build(&project).fails().says("no-such-command").says("127");
    project.write("Dockerfile", "FROM busybox\nRUN [\"/no/such/program\"]\n");
    world.build(&project).fails().says("/no/such/program").says("Dockerfile:2");
}

#[test]
fn a_user_that_is_not_there_is_named() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nUSER stranger\nRUN id\n")]);
    world.build(&project).fails().says("stranger").says_one_error();
}

#[test]
fn output_that_is_not_text_does_no_harm() {
    let world = World::new();
    let project =
        world.project(&[("Dockerfile", "FROM busybox\nRUN printf '\\377\\000\\033[31mred\\n'; printf 'no newline'\n")]);
    world.build(&project).succeeds().says("red").says("no newline");
}
