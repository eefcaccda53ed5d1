//! Steps that sleep, for tests that stop or kill a build: found among all processes by how long they are to sleep.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::command;

/// A number of seconds to sleep that nobody else sleeps for; `test` is another one in each test.
pub fn unique(test: u32) -> String {
    format!("{test}{}", 10_000_000 + std::process::id())
}

/// Whether somebody sleeps for so long.
pub fn is_asleep(seconds: &str) -> bool {
    command::run(Command::new("ps").args(["-eo", "args"])).lines().any(|line| line.trim() == format!("sleep {seconds}"))
}

/// Waits until nobody does.
pub fn must_be_gone(seconds: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while is_asleep(seconds) {
        assert!(Instant::now() < deadline, "the sandbox is still alive");
        std::thread::sleep(Duration::from_millis(10));
    }
}
