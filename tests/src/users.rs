//! Ordinary users for the rootless tests: one with ranges of subordinate ids, one without.

use crate::{command, run};
use std::process::Command;
use std::sync::OnceLock;

/// A user of this machine.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The login name.
    pub name: &'static str,
    /// The user id.
    pub uid: u32,
    /// The id of the only group.
    pub gid: u32,
}

/// A user with 65,536 subordinate user and group ids.
pub fn with_ranges() -> User {
    static USER: OnceLock<User> = OnceLock::new();
    *USER.get_or_init(|| {
        let user = ensure("kiln-e2e-ranges");
        if !std::fs::read_to_string("/etc/subuid").unwrap_or_default().contains(&format!("{}:", user.name)) {
            let range = "2000000000-2000065535";
            command::run(Command::new("usermod").args(["--add-subuids", range, "--add-subgids", range, user.name]));
        }
        user
    })
}

/// A user with no subordinate ids at all.
pub fn without_ranges() -> User {
    static USER: OnceLock<User> = OnceLock::new();
    *USER.get_or_init(|| ensure("kiln-e2e-single"))
}

fn ensure(name: &'static str) -> User {
    assert!(rustix::process::geteuid().is_root(), "the rootless tests make users, which takes root: run them as root");
    let lock = std::fs::File::create(run::cache_directory().join("users.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let id = |flag: &str| command::output(Command::new("id").args([flag, name]));
    if !id("-u").status.success() {
        command::run(Command::new("useradd").args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/bin/sh",
            name,
        ]));
    }
    let number = |flag: &str| String::from_utf8(id(flag).stdout).unwrap().trim().parse().expect("a number from `id`");
    User { name, uid: number("-u"), gid: number("-g") }
}
