//! What the profile says of each system call number.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::ALLOWED;

/// How a program calls the kernel: which number means which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    /// It fails with this error.
    Refuse(i32),
    /// New processes and threads, but no new namespaces.
    CheckClone,
    /// Only [`PERSONALITIES`].
    CheckPersonality,
    /// Any but [`REFUSED_SOCKETS`]. `socketcall`, the way of old 32-bit programs, hides the family from filters.
    CheckSocket,
}

/// The calls of an architecture as the kernel tells it to filters.
pub(super) struct Section {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) audit: u32,
    /// The first number of each range with the same action, ascending from 0.
    pub(super) ranges: Vec<(u32, Action)>,
}

/// In the number of every call under x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The last call that the profile knows (`removexattrat`). What is newer does not exist, as far as programs are
/// concerned: they fall back to something older, which they would not where it was forbidden.
pub(super) const NEWEST: u32 = 466;

/// The calls that x32 has for itself.
pub(super) const X32_OWN: std::ops::Range<u32> = 512..548;

/// The flags of `clone` that make namespaces; time namespaces are not to be had that way.
pub(super) const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Linux, Linux of 32 bits, and both with the kernel release as 2.6 (`UNAME26`); and the question which it is.
pub(super) const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Talking to the hypervisor and to the kernel's cryptography.
pub(super) const REFUSED_SOCKETS: [i32; 2] = [libc::AF_ALG, libc::AF_VSOCK];

/// The calls that are not just allowed or refused with `EPERM`, with numbers as in [`ALLOWED`].
pub(super) const SPECIAL: [(&str, [u32; 5], Action); 4] = [
    ("clone", [56, 120, 56, 220, 120], Action::CheckClone),
    // Its flags are out of a filter's sight. The C libraries then use `clone`.
    ("clone3", [435; 5], Action::Refuse(libc::ENOSYS)),
    ("personality", [135, 136, 135, 92, 136], Action::CheckPersonality),
    ("socket", [41, 359, 41, 198, 281], Action::CheckSocket),
];

/// The profile for what this machine's kernel runs; nothing for an architecture that the profile has no numbers of.
pub(super) fn native() -> Option<Vec<Section>> {
    match () {
        () if cfg!(target_arch = "x86_64") => Some(x86_64()),
        () if cfg!(target_arch = "aarch64") => Some(aarch64()),
        () => None,
    }
}

pub(super) fn x86_64() -> Vec<Section> {
    // To filters, x32 is x86-64 with higher numbers.
    let ranges = [ranges(Abi::X86_64), ranges(Abi::X32)].concat();
    vec![Section { audit: 0xc000_003e, ranges }, Section { audit: 0x4000_0003, ranges: self::ranges(Abi::I386) }]
}

pub(super) fn aarch64() -> Vec<Section> {
    vec![
        Section { audit: 0xc000_00b7, ranges: ranges(Abi::Aarch64) },
        Section { audit: 0x4000_0028, ranges: ranges(Abi::Arm) },
    ]
}

fn ranges(abi: Abi) -> Vec<(u32, Action)> {
    let named = named(abi);
    let mut starts: BTreeSet<u32> = named.keys().flat_map(|&number| [number, number + 1]).collect();
    starts.extend([0, NEWEST + 1]);
    if abi == Abi::X32 {
        starts.extend([X32_OWN.start, X32_OWN.end]);
    }
    let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
    let mut ranges: Vec<(u32, Action)> = Vec::new();
    for start in starts {
        let action = named.get(&start).copied().unwrap_or_else(|| unnamed(abi, start));
        if ranges.last().is_none_or(|last| last.1 != action) {
            ranges.push((start | bit, action));
        }
    }
    ranges
}

/// All calls that the profile has by name.
fn named(abi: Abi) -> BTreeMap<u32, Action> {
    let allowed = ALLOWED.iter().map(|(_, numbers)| (numbers[abi as usize], Action::Allow));
    let special = SPECIAL.iter().map(|(_, numbers, action)| (numbers[abi as usize], *action));
    allowed.chain(special).filter(|(number, _)| *number != u32::MAX).collect()
}

fn unnamed(abi: Abi, number: u32) -> Action {
    let known = number <= NEWEST || abi == Abi::X32 && X32_OWN.contains(&number);
    Action::Refuse(if known { libc::EPERM } else { libc::ENOSYS })
}
