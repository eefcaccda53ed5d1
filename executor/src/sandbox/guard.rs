//! Which devices a command can open: a control group of version 2 with Docker's rules, as a BPF program.
//!
//! Any node can be made, for an image may need it, and only harmless ones opened, wherever they are. All commands of
//! one helper share the group, which costs them next to nothing; one with limits is in groups of its own, which get the
//! same program. The kernel has the hierarchy whether or not it is mounted anywhere, beside those of version 1, too. It
//! takes power over the machine itself: in a user namespace, or a container that may not load programs, no device can
//! be opened but those of `/dev` (see `system.rs`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::protocol::errno;
use super::sys::{self, Instruction};
use super::system::{INERT, filesystem};
use crate::cgroup::{Directory, own_unified, sweep};

/// What a command can do with device nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Devices {
    /// Open those of `/dev`, each of which is a mount of its own. All other mounts are without devices.
    #[default]
    Mounted,
    /// Make all, and open those that its control group lets it.
    Guarded,
    /// Whatever it likes.
    All,
}

/// The group, for as long as this lives.
pub(super) struct Guard {
    program: OwnedFd,
    group: OwnedFd,
    /// The locked directory of the group, which is removed with it; before the tree that it is found in.
    _directory: Directory,
    _tree: OwnedFd,
}

impl Guard {
    /// Makes a group below that of this process.
    pub(super) fn new() -> Result<Self, Errno> {
        let program = sys::load_device_program(&instructions())?;
        let tree = filesystem("cgroup2", &[], INERT)?;
        let own = own_unified().map_err(|error| errno(&error))?.ok_or(Errno::NOENT)?;
        let parent = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd())).join(own);
        sweep(&parent);
        let directory = Directory::make(&parent).map_err(|error| errno(&error))?;
        let group = open(directory.path())?;
        sys::attach_device_program(program.as_fd(), group.as_fd())?;
        Ok(Self { program, group, _directory: directory, _tree: tree })
    }

    pub(super) fn group(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Puts another group under the same rules.
    pub(super) fn protect(&self, group: BorrowedFd<'_>) -> Result<(), Errno> {
        sys::attach_device_program(self.program.as_fd(), group)
    }
}

/// A control group, to make processes in.
pub(super) fn open(directory: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Character devices that can be opened: major number, and minor number unless all are meant. Docker has `console` and,
/// before runc 1.2, `net/tun` as well, which are the machine's own.
const OPEN: [(i32, Option<i32>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// `linux/bpf.h`: what is asked for, as bits above those of the kind.
const READ_OR_WRITE: i32 = 2 | 4;

/// `linux/bpf.h`: the kind of a character device.
const CHARACTER: i32 = 2;

/// Where things are in `struct bpf_cgroup_dev_ctx`.
const KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Jumps to the two ends of the program, until it is known how far those are.
const ALLOW: i16 = i16::MAX;
const REFUSE: i16 = i16::MIN;

/// Registers: where the kernel puts the context, where it looks for the answer, and three to work with.
const CONTEXT: u8 = 1;
const ANSWER: u8 = 0;
const KIND_OF: u8 = 2;
const MAJOR_OF: u8 = 3;
const MINOR_OF: u8 = 4;

/// The program. It is called for each opening and making of a node, and says 1 for yes.
fn instructions() -> Vec<Instruction> {
    let mut program = vec![
        Instruction::load(MAJOR_OF, CONTEXT, KIND),
        Instruction::and(MAJOR_OF, READ_OR_WRITE << 16),
        // It is only made.
        Instruction::jump_if_equal(MAJOR_OF, 0, ALLOW),
        Instruction::load(KIND_OF, CONTEXT, KIND),
        Instruction::and(KIND_OF, 0xffff),
        Instruction::jump_unless_equal(KIND_OF, CHARACTER, REFUSE),
        Instruction::load(MAJOR_OF, CONTEXT, MAJOR),
        Instruction::load(MINOR_OF, CONTEXT, MINOR),
    ];
    for (major, minor) in OPEN {
        match minor {
            None => program.push(Instruction::jump_if_equal(MAJOR_OF, major, ALLOW)),
            Some(minor) => program.extend([
                Instruction::jump_unless_equal(MAJOR_OF, major, 1),
                Instruction::jump_if_equal(MINOR_OF, minor, ALLOW),
            ]),
        }
    }
    let refuse = program.len();
    for (place, instruction) in program.iter_mut().enumerate() {
        let end = match instruction.offset {
            REFUSE => refuse,
            ALLOW => refuse + 2,
            _ => continue,
        };
        // There are a few dozen.
        instruction.offset = i16::try_from(end - place - 1).unwrap_or_default();
    }
    for answer in [0, 1] {
        program.extend([Instruction::set(ANSWER, answer), Instruction::end()]);
    }
    program
}
