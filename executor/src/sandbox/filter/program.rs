//! The BPF program: which architecture, then a binary search for the range of the number.
//!
//! The kernel runs it once for each number when it is installed and remembers those that are allowed whatever the
//! arguments (from Linux 5.11 on), so that most calls never run it.

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};

use super::profile::{Action, NAMESPACES, PERSONALITIES, REFUSED_SOCKETS, Section};

/// Where things are in the kernel's `struct seccomp_data`, of which a little-endian machine has the lower half of
/// an argument first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const FIRST_ARGUMENT_HIGH: u32 = 20;

/// The program for these architectures. There is no other way to call the kernel; if there were, it would kill.
pub(super) fn generate(sections: &[Section]) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for section in sections {
        let search = search(&section.ranges);
        program.push(jump(BPF_JEQ, section.audit, 1, 0));
        program.push(skip(search.len() + 1));
        program.push(load(NUMBER));
        program.extend(search);
    }
    program.push(give(SECCOMP_RET_KILL_PROCESS));
    program
}

/// Finds the number's range, by halves.
fn search(ranges: &[(u32, Action)]) -> Vec<sock_filter> {
    let (below, above) = match ranges {
        [] => return refuse(libc::EPERM),
        [(_, action)] => return decide(*action),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let start = above[0].0;
    let (below, above) = (search(below), search(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(BPF_JGE, start, distance, 0)],
        Err(_) => vec![jump(BPF_JGE, start, 0, 1), skip(below.len())],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn decide(action: Action) -> Vec<sock_filter> {
    let (allow, refused) = (give(SECCOMP_RET_ALLOW), refuse(libc::EPERM));
    let mut program = match action {
        Action::Allow => return vec![allow],
        Action::Refuse(error) => return refuse(error),
        Action::CheckClone => {
            vec![load(FIRST_ARGUMENT), jump(BPF_JSET, NAMESPACES.cast_unsigned(), 1, 0), allow]
        }
        // The kernel takes a family as 32 bits, whatever is above them.
        Action::CheckSocket => {
            let [one, other] = REFUSED_SOCKETS.map(i32::cast_unsigned);
            vec![load(FIRST_ARGUMENT), jump(BPF_JEQ, one, 2, 0), jump(BPF_JEQ, other, 1, 0), allow]
        }
        Action::CheckPersonality => {
            let count = PERSONALITIES.len() as u8;
            let mut program = vec![load(FIRST_ARGUMENT_HIGH), jump(BPF_JEQ, 0, 0, count + 3), load(FIRST_ARGUMENT)];
            program.extend((0..count).zip(PERSONALITIES).map(|(index, value)| {
                // Over the others and one more, to `allow`.
                jump(BPF_JEQ, value, count - index, 0)
            }));
            program.push(skip(1));
            program.push(allow);
            program
        }
    };
    program.extend(refused);
    program
}

fn refuse(error: i32) -> Vec<sock_filter> {
    vec![give(SECCOMP_RET_ERRNO | error.cast_unsigned())]
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

/// Skips `then` instructions if the comparison holds, and `otherwise` ones if not.
fn jump(comparison: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, then, otherwise, value)
}

fn skip(count: usize) -> sock_filter {
    instruction(BPF_JMP | BPF_JA, 0, 0, count as u32)
}

fn give(verdict: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, verdict)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
