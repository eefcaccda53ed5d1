//! Independent work overlaps. Shown with a meeting point that every side must reach before any may go on.

use kiln_tests::World;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Waits until so many have called, and only then lets all of them go on. Whoever comes alone waits in vain.
fn meeting_point(size: usize) -> (u16, std::thread::JoinHandle<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let meeting = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut callers: Vec<TcpStream> = Vec::new();
        while callers.len() < size && Instant::now() < deadline {
            match listener.accept() {
                Ok((mut caller, _)) => {
                    caller.set_nonblocking(false).unwrap();
                    caller.read_exact(&mut [0; 3]).unwrap();
                    callers.push(caller);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let all = callers.len() == size;
        for mut caller in callers {
            let _ = caller.write_all(if all { b"go\n" } else { b"alone\n" });
        }
        all
    });
    (port, meeting)
}

#[test]
fn independent_stages_run_at_once() {
    let world = World::new();
    let (port, meeting) = meeting_point(2);
    let meet = format!("RUN test \"$(echo hi | nc 127.0.0.1 {port})\" = go");
    let project = world.project(&[(
        "Dockerfile",
        &format!(
            "FROM busybox AS one\n{meet} && echo 1 > /one\nFROM busybox AS two\n{meet} && echo 2 > /two\n\
             FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
        ),
    )]);
    // Where no program for networks is found, stages share the host's, and so the place to meet.
    let running = world.build(&project).env("PATH", "/nonexistent").start();
    assert!(
        meeting.join().unwrap(),
        "the second stage was not started before the first had ended\n{}",
        running.finish()
    );
    let outcome = running.finish();
    assert!(outcome.status.success(), "{outcome}");
}

#[test]
fn equal_steps_run_once() {
    let world = World::new();
    let stage = "RUN echo ran once > /file";
    let project = world.project(&[(
        "Dockerfile",
        &format!(
            "FROM busybox AS one\n{stage}\nFROM busybox AS two\n{stage}\nFROM scratch\n\
             COPY --from=one /file /one\nCOPY --from=two /file /two\n"
        ),
    )]);
    let outcome = world.build(&project).succeeds();
    let runs = outcome.progress().ran_instructions().iter().filter(|name| name.contains("RUN echo ran once")).count();
    assert_eq!(runs, 1, "{outcome}");
}
