//! What a build shows while it runs: on a terminal, line by line, and to programs.

use kiln_tests::World;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read;
use std::process::{ExitStatus, Stdio};

/// Runs kiln with stderr on a terminal of 20 lines and 60 columns, and yields all that came out of it. `watch` sees
/// what there is whenever there is more.
fn on_a_terminal(kiln: kiln_tests::Kiln, watch: impl Fn(&str)) -> (ExitStatus, String) {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    tcsetwinsize(&control, Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = kiln.env("TERM", "xterm-256color").into_command();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    // Its end of the terminal, which would keep ours from ending.
    drop(command);
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    // A terminal that nobody holds any more reads as an error.
    while let Ok(count @ 1..) = File::from(control.try_clone().unwrap()).read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
        watch(&String::from_utf8_lossy(&shown));
    }
    (child.wait().unwrap(), String::from_utf8(shown).unwrap())
}

#[test]
fn a_terminal_sees_a_live_display() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c printf '\\033[2J\\033]0;title\\007busy with it'; \
         while [ ! -e /c/go ]; do sleep 0.02; done; echo; echo next\nRUN false\n",
    )]);
    // The step goes on once its unfinished line is to be seen.
    let (status, shown) = on_a_terminal(world.build(&project), |shown| {
        if shown.contains(" => => busy with it") {
            std::fs::write(world.cache_mount().join("go"), "").unwrap();
        }
    });
    assert_eq!(status.code(), Some(1));
    for text in [
        "[+] Building ",
        " => [1/3] FROM",
        " => => busy with it",
        " => [2/3] RUN --mount",
        " => ERROR [3/3] RUN false",
        " FINISHED",
        "error: ",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    assert!(!shown.contains("\x1b[2J") && !shown.contains("\x1b]"), "{shown}");
    assert!(shown.find(" FINISHED").unwrap() < shown.find("error: ").unwrap());
    let (status, shown) = on_a_terminal(world.build(&project).args(["--progress=plain"]), |_| {});
    assert_eq!(status.code(), Some(1));
    assert!(shown.contains("CACHED\r\n") && !shown.contains("[+]") && !shown.contains('\x1b'), "{shown}");
}

#[test]
fn a_live_display_needs_a_terminal() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\n")]);
    world.build(&project).args(["--progress=tty"]).fails_with(2).says("needs a terminal");
}

#[test]
fn nothing_that_a_step_prints_harms_the_display() {
    let world = World::new();
    let script = r"printf '\033[1;1Hcorner\033[2J\033[31mred\n'; printf 'a\000b\377c\233d\n'; printf '\302\2331;1Hc1\n';
        printf 'left\342\200\256right\n'; printf '\033]52;c;c2VjcmV0\007clip\n'; printf '10%%\r50%%\r100%%\n'; printf 'last words'";
    let project =
        world.project(&[("Dockerfile", "FROM busybox\nCOPY script /script\nRUN sh /script\n"), ("script", script)]);
    let outcome = world.build(&project).succeeds();
    let log = &outcome.progress().step("RUN sh").log.clone();
    let expected = ["cornerred", "ab\u{fffd}c\u{fffd}d", "1;1Hc1", "left\u{fffd}right", "clip", "100%", "last words"];
    assert_eq!(log, &expected, "{outcome}");
    let coloured = world.build(&project).args(["--no-cache"]).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
    coloured.succeeds().says("corner\x1b[31mred\x1b[0m\n").does_not_say("\x1b[2J").does_not_say("c2VjcmV0");
}

#[test]
fn a_loud_step_is_not_clipped() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN seq 1 600000\n")]);
    let outcome = world.build(&project).succeeds();
    let log = &outcome.progress().step("RUN seq").log.clone();
    assert_eq!(log.len(), 600_000);
    assert_eq!(log.last().map(String::as_str), Some("600000"));
}

#[test]
fn a_line_without_end_is_shown_while_the_step_runs() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN printf 'wait'; printf 'ing for'; sleep 30\n")]);
    let mut running = world.build(&project).start();
    running.wait_for(" waiting for");
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.finish().status.code(), Some(130));
}

#[test]
fn programs_read_json() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo one; echo two >&2\nRUN false\n")]);
    let outcome = world.build(&project).args(["--progress=rawjson"]).fails();
    let json = outcome.stderr.lines().take_while(|line| line.starts_with('{'));
    let lines: Vec<serde_json::Value> = json.map(|line| serde_json::from_str(line).unwrap()).collect();
    let vertexes = || lines.iter().filter_map(|line| line["vertexes"].as_array()).flatten();
    let done = vertexes()
        .find(|vertex| vertex["name"].as_str().unwrap().contains("RUN echo one") && vertex["completed"].is_string());
    let digest = &done.expect("the step ends")["digest"];
    let logs: Vec<_> = lines
        .iter()
        .filter_map(|line| line["logs"].as_array())
        .flatten()
        .filter(|log| log["vertex"] == *digest)
        .collect();
    assert!(logs.iter().any(|log| log["stream"] == 1 && log["data"] == "b25lCg=="), "{outcome}");
    assert!(logs.iter().any(|log| log["stream"] == 2 && log["data"] == "dHdvCg=="), "{outcome}");
    let failed = vertexes().find(|vertex| vertex["error"].is_string()).expect("a step fails");
    assert!(failed["inputs"].as_array().unwrap().contains(digest));
    assert!(failed["error"].as_str().unwrap().contains("exit code: 1"));
}
