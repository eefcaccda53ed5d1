//! Devices that a command finds when it may do all there is (`--security=insecure`): those that BuildKit adds.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::protocol::{Failure, failed};
use super::{Phase, sys};

/// Name, major, minor; whether or not the machine has them.
const DEVICES: [(&str, u32, u32); 6] = [
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("net/tun", 10, 200),
    ("loop-control", 10, 237),
];

/// The major number of loop devices.
const LOOP: u32 = 7;

/// How many loop devices there are behind the first free one.
const MORE_LOOPS: u32 = 7;

/// Puts them into `/dev`, which `dev` is open on, before the machine's own is out of sight. It takes more than a user
/// namespace.
pub(super) fn add_insecure(dev: &OwnedFd) -> Result<(), Failure> {
    rustix::fs::mkdirat(dev, "net", Mode::from_raw_mode(0o755)).map_err(failed(Phase::System, "/dev/net"))?;
    let make = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(dev, name, kind, Mode::from_raw_mode(0o666), device)
            .map_err(failed(Phase::System, format!("/dev/{name}")))
    };
    for (name, major, minor) in DEVICES {
        make(name, FileType::CharacterDevice, major, minor)?;
    }
    // A machine without loop devices has none in use.
    let free = free_loop().unwrap_or_default();
    for number in 0..=free + MORE_LOOPS {
        make(&format!("loop{number}"), FileType::BlockDevice, LOOP, number)?;
    }
    Ok(())
}

fn free_loop() -> Result<u32, Errno> {
    let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    sys::free_loop_device(control.as_fd())
}
