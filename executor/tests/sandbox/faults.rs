//! Commands that misbehave: afterwards nothing of them is left, and the next one runs as if nothing had been.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kiln_executor::sandbox::{ExitStatus, SandboxError};
use kiln_solver::{Cancel, LogStream};

use crate::cases::{Case, long_time, processes_with};
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("a_full_disk_is_the_commands_to_tell", a_full_disk_is_the_commands_to_tell),
    ("stopped_processes_are_killed", stopped_processes_are_killed),
    ("daemons_do_not_hold_a_step", daemons_do_not_hold_a_step),
    ("endless_lines_go_through", endless_lines_go_through),
];

/// What of this world is mounted where everybody sees it.
fn mounts(world: &World) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = world.base.parent().unwrap().to_str().unwrap();
    all.lines().filter(|line| line.contains(place)).map(str::to_owned).collect()
}

/// A small file system in memory, for as long as this lives.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(world: &World) -> Self {
        let place = world.directory();
        mount(&["-t", "tmpfs", "-o", "size=1m,mode=755", "none"], &place);
        Self(place)
    }

    fn directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

fn mount(arguments: &[&str], place: &std::path::Path) {
    let output = Command::new("mount").args(arguments).arg(place).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn a_full_disk_is_the_commands_to_tell(world: &World) {
    let before = mounts(world);
    let disk = Disk::new(world);
    // One that starts its helper now, and so sees the disk.
    let sandbox = World::sandbox(&world.identity, &world.directory());
    let said = std::sync::Mutex::new(String::new());
    let on_output = |_: LogStream, bytes: &[u8]| said.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
    let mut spec = world.spec("dd if=/dev/zero of=/big bs=64k count=100; rm -f /big && echo again > /small; exit 4");
    (spec.root.upper, spec.root.work) = (disk.directory("upper"), disk.directory("work"));
    let ended = sandbox.run(&spec, &on_output, &Cancel::new());
    assert!(matches!(ended, Ok(ExitStatus::Code(4))), "{ended:?}");
    assert!(said.into_inner().unwrap().contains("No space left on device"));
    assert_eq!(fs::read_to_string(spec.root.upper.join("small")).unwrap(), "again\n");
    assert!(fs::read_dir(&spec.root.work).unwrap().next().is_none());
    drop(sandbox);
    drop(disk);
    assert_eq!(mounts(world), before);
}

fn stopped_processes_are_killed(world: &World) {
    let long = long_time();
    let mut spec = world.spec(&format!("sleep {long} & kill -STOP $!; sh -c 'kill -STOP $$'; echo never"));
    spec.limits.time = Some(Duration::from_millis(200));
    let outcome = world.run(&spec);
    assert!(matches!(outcome.result, Err(SandboxError::TimedOut(_))), "{outcome:?}");
    assert_eq!(outcome.stdout, "");
    assert_eq!(processes_with(&format!("sleep\0{long}\0")).len(), 0);
    // The first process cannot stop itself.
    assert_eq!(world.says("kill -STOP $$; echo goes on"), "goes on");
}

fn daemons_do_not_hold_a_step(world: &World) {
    let before = mounts(world);
    let long = long_time();
    let daemon = format!("(setsid sh -c 'trap \"\" HUP TERM; sleep {long} & sleep {long}' &); echo done");
    // It has standard output open, which nobody waits to be closed.
    assert_eq!(world.says(&daemon), "done");
    assert_eq!(processes_with(&format!("sleep\0{long}\0")).len(), 0);
    assert_eq!(mounts(world), before);
}

fn endless_lines_go_through(world: &World) {
    let total = AtomicUsize::new(0);
    let on_output = |_: LogStream, bytes: &[u8]| {
        total.fetch_add(bytes.len(), Ordering::Relaxed);
    };
    let spec = world.command(&["head", "-c", "268435456", "/dev/zero"]);
    let ended = world.sandbox.run(&spec, &on_output, &Cancel::new());
    assert!(matches!(ended, Ok(ExitStatus::Code(0))), "{ended:?}");
    assert_eq!(total.into_inner(), 256 << 20);
}
