//! Shells in steps that failed, in stages and in images.

use kiln_tests::terminal::Seat;
use kiln_tests::{World, users};
use rustix::process::Signal;

const FAILING: &str = "FROM busybox\nENV OF_IMAGE=yes\nWORKDIR /work\nARG OF_STEP=too\n\
                       RUN echo left > file && rm /etc/group; exit 42\n";

fn build_with_shell(world: &World, dockerfile: &str) -> Seat {
    let project = world.project(&[("Dockerfile", dockerfile)]);
    Seat::take(world.build(&project).args(["--on-error=shell", "--progress=plain"]), 31, 97)
}

#[test]
fn a_shell_is_opened_in_the_step_that_failed() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("exit code: 42");
    seat.sees("Ctrl-D");
    seat.sees("/work # ");
    assert!(!seat.is_cooked(), "the terminal is the command's");
    seat.types("cat file; ls /etc/group; echo $OF_IMAGE $OF_STEP $TERM; stty size; tty; exit 9\n");
    for line in ["left", "No such file", "yes too xterm", "31 97", "/dev/pts/0"] {
        seat.sees(line);
    }
    seat.sees("error: process");
    assert!(seat.is_cooked(), "the user has the terminal back");
    let (status, screen) = seat.leave();
    assert_eq!(status.code(), Some(1), "{screen}");
    assert_eq!(screen.matches("error: ").count(), 1, "{screen}");
}

/// It used to stay raw: the next shell showed nothing of what was typed.
#[test]
fn the_terminal_is_as_it_was_when_kiln_was_killed() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    assert!(!seat.is_cooked(), "the terminal is the command's");
    seat.signal(Signal::KILL);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !seat.is_cooked() {
        assert!(std::time::Instant::now() < deadline, "the terminal stays raw");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    seat.leave();
}

#[test]
fn nothing_of_the_shell_is_kept() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    seat.types("echo x > /etc/of-the-shell; exit\n");
    seat.leave();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    seat.types("ls /etc/of-the-shell; exit\n");
    seat.sees("No such file");
    seat.leave();
    let left = std::fs::read_dir(world.root().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "what the step left is gone with the build");
}

#[test]
fn the_terminal_follows_and_interrupts_reach_the_command() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    // The sums tell what the command says from what is typed.
    seat.types("sh -c 'trap \"echo caught $((1+1)); exit\" INT; trap \"stty size\" WINCH; echo ready $((1+1)); while :; do sleep 0.05; done'\n");
    seat.sees("ready 2");
    seat.resizes(41, 103);
    seat.sees("41 103");
    seat.types("\x03");
    seat.sees("caught 2");
    seat.types("exit\n");
    assert_eq!(seat.leave().0.code(), Some(1));
}

#[test]
fn the_end_of_input_leaves_the_shell() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    seat.types("\x04");
    seat.sees("error: process");
    assert_eq!(seat.leave().0.code(), Some(1));
}

#[test]
fn a_signal_ends_the_shell_and_gives_the_terminal_back() {
    let world = World::new();
    let mut seat = build_with_shell(&world, FAILING);
    seat.sees("/work # ");
    seat.types("echo $((40+2)); sleep 4000\n");
    seat.sees("42\r\n");
    assert!(!seat.is_cooked());
    seat.signal(Signal::TERM);
    seat.sees("error: ");
    assert!(seat.is_cooked());
    seat.leave();
}

#[test]
fn the_other_steps_are_stopped_first() {
    let world = World::new();
    let mut seat = build_with_shell(
        &world,
        "FROM busybox AS slow\nRUN sleep 700\nFROM busybox AS quick\nRUN exit 7\n\
         FROM scratch\nCOPY --from=slow / /slow\nCOPY --from=quick / /quick\n",
    );
    seat.sees("CANCELED");
    seat.sees("exit code: 7");
    seat.sees("/ # ");
    seat.types("exit\n");
    assert_eq!(seat.leave().0.code(), Some(1));
}

#[test]
fn a_command_that_is_not_there_leaves_its_root_to_look_at() {
    let world = World::new();
    let mut seat = build_with_shell(&world, "FROM busybox\nRUN [\"no-such-thing\"]\n");
    seat.sees("exit code: 127");
    seat.sees("/ # ");
    seat.types("exit\n");
    assert_eq!(seat.leave().0.code(), Some(1));
}

#[test]
fn a_root_without_a_shell_is_said_to_be_one() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY file /\nRUN [\"/file\"]\n"), ("file", "x")]);
    let seat = Seat::take(world.build(&project).args(["--on-error=shell", "--progress=plain"]), 24, 80);
    let (status, screen) = seat.leave();
    assert_eq!(status.code(), Some(1));
    assert!(screen.contains("there is no shell in here") && screen.contains("error: process"), "{screen}");
}

#[test]
fn shells_need_a_terminal() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN false\n")]);
    let outcome = world.build(&project).arg("--on-error=shell").fails_with(2);
    outcome.says("needs a terminal").never_mentions("RUN false");
    world.kiln(["debug", "busybox"]).fails_with(2).says("needs a terminal").says("-- COMMAND");
}

#[test]
fn a_build_that_succeeds_opens_no_shell() {
    let world = World::new();
    let (status, screen) = build_with_shell(&world, "FROM busybox\nRUN true\n").leave();
    assert!(status.success(), "{screen}");
}

#[test]
fn an_image_can_be_entered() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo ada:x:1000:1000::/home/ada:/bin/sh >> /etc/passwd\nENV A=of-image\nUSER ada\nWORKDIR /made\nONBUILD RUN false\n",
    )]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    let script = "echo $A $(pwd) $(id -un) $HOME; echo error >&2; exit 5";
    let outcome = world.kiln(["debug", "app:1", "--", "sh", "-c", script]).run();
    assert_eq!(outcome.status.code(), Some(5), "{outcome}");
    assert_eq!(outcome.stdout_text(), "of-image /made ada /home/ada\n");
    outcome.says("error\n").does_not_say("error: ");
    let mut seat = Seat::take(world.kiln(["debug", "app:1"]), 24, 80);
    seat.sees("/made $ ");
    seat.types("echo $A | tr a-z A-Z; exit 6\n");
    seat.sees("OF-IMAGE");
    assert_eq!(seat.leave().0.code(), Some(6));
}

#[test]
fn an_image_that_is_not_here_is_fetched() {
    let world = World::new();
    assert_eq!(world.kiln(["debug", "busybox", "--", "echo", "hi"]).succeeds().stdout_text(), "hi\n");
    world.kiln(["debug", "no/such", "--", "true"]).fails();
}

#[test]
fn a_stage_is_built_and_entered() {
    let world = World::new();
    let dockerfile = "FROM busybox AS build\nARG WHAT=default\nRUN echo $WHAT > /made\nENV S=stage\nFROM scratch\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let debug = |args: &[&str]| world.kiln(["debug"]).args(args).current_dir(project.path());
    let script = ["--", "sh", "-c", "cat /made; echo $S"];
    let outcome = debug(&["--target", "build", "--build-arg", "WHAT=given", "."]).args(script).succeeds();
    assert_eq!(outcome.stdout_text(), "given\nstage\n");
    outcome.ran("RUN echo");
    debug(&["-f", "Dockerfile", "--target", "build", "."]).args(script).succeeds();
    let mut seat = Seat::take(debug(&["--target", "build", "--progress=plain", "."]), 24, 80);
    seat.sees("/ # ");
    seat.types("cat /made; exit\n");
    seat.sees("default");
    assert_eq!(seat.leave().0.code(), Some(0));
}

#[test]
fn what_the_command_writes_goes_where_it_should() {
    let world = World::new();
    let debug = |script: &str| world.kiln(["debug", "busybox", "--", "sh", "-c", script]);
    assert_eq!(debug("wc -c; test -t 1 || echo no terminal").succeeds().stdout_text(), "0\nno terminal\n");
    let killed = world.kiln(["debug", "busybox", "--", "nothing"]).fails_with(127);
    killed.says("executable file not found");
    let no_tag = world.kiln(["debug", "-t", "x", "busybox", "--", "true"]).fails_with(2);
    no_tag.says("`--tag`");
}

#[test]
fn an_ordinary_user_can_look_around_too() {
    for user in [users::with_ranges(), users::without_ranges()] {
        let world = World::of(user);
        let mut seat = build_with_shell(&world, FAILING);
        seat.sees("/work # ");
        seat.types("cat file; tty; exit\n");
        seat.sees("left");
        seat.sees("/dev/pts/0");
        assert_eq!(seat.leave().0.code(), Some(1));
        assert_eq!(world.kiln(["debug", "busybox", "--", "echo", "hi"]).succeeds().stdout_text(), "hi\n");
    }
}
