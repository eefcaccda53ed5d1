//! Programs of another architecture, and the interpreter for them.

use std::path::Path;

/// Where binfmt_misc is mounted.
const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// Debian's interpreter (package `qemu-user-static`).
const QEMU: &str = "/usr/bin/qemu-aarch64-static";

/// What is registered: ELF files of 64 bits for AArch64, with an interpreter that the kernel keeps open.
const REGISTRATION: &str = "\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\
    \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff";

/// Has the kernel run programs for arm64; says why if it does not, and what depends on it is to be left out. That is for
/// the whole machine and stays: others may use it already.
pub fn has_arm64() -> bool {
    match register_arm64() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("programs for arm64 are not tried: {why}");
            false
        }
    }
}

fn register_arm64() -> Result<(), String> {
    if !Path::new(QEMU).exists() {
        return Err(format!("there is no {QEMU}"));
    }
    if !Path::new(DIRECTORY).join("status").exists() {
        use rustix::mount::{MountFlags, mount};
        mount("binfmt_misc", DIRECTORY, "binfmt_misc", MountFlags::empty(), None)
            .map_err(|error| format!("binfmt_misc cannot be mounted: {error}"))?;
    }
    let is_there = || Path::new(DIRECTORY).join("qemu-aarch64").exists();
    if is_there() {
        return Ok(());
    }
    let line = format!(":qemu-aarch64:M::{REGISTRATION}:{QEMU}:F");
    match std::fs::write(Path::new(DIRECTORY).join("register"), line) {
        // Another test was faster.
        Err(_) if is_there() => Ok(()),
        Err(error) => Err(format!("qemu-aarch64-static cannot be registered: {error}")),
        Ok(()) => Ok(()),
    }
}

/// A program for Linux on arm64: reads the file of this path and writes what it holds (at most 4 KiB) to that one.
pub fn arm64_copy(from: &str, to: &str) -> Vec<u8> {
    const START: u64 = 0x0040_0000;
    const HEADERS: u64 = 64 + 56;
    let (openat, read, write, exit) = (56, 63, 64, 93);
    let set = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let (call, at_cwd) = (0xd400_0001, 0x9280_0c60);
    let (x1_is_sp, path) = (0x9100_03e1, 0);
    let mut code = [
        // x0 = openat(AT_FDCWD, from, O_RDONLY)
        [at_cwd, path, set(2, 0), set(8, openat), call],
        // sub sp, sp, #4096; x0 = read(x0, sp, 4096)
        [0xd140_07ff, x1_is_sp, set(2, 4096), set(8, read), call],
        // x19 = x0; x0 = openat(AT_FDCWD, to, O_WRONLY | O_CREAT, 0644)
        [0xaa00_03f3, at_cwd, path, set(2, 0o101), set(3, 0o644)],
        // write(x0, sp, x19)
        [set(8, openat), call, x1_is_sp, 0xaa13_03e2, set(8, write)],
        // exit(0)
        [call, set(0, 0), set(8, exit), call, 0],
    ]
    .concat();
    // `adr x1, …`: the texts lie behind the code.
    let end = 4 * code.len() as u32;
    for (instruction, text) in [(1_u32, end), (12, end + from.len() as u32 + 1)] {
        let distance = text - 4 * instruction;
        code[instruction as usize] = 0x1000_0001 | (distance % 4) << 29 | (distance / 4) << 5;
    }
    let mut body: Vec<u8> = code.into_iter().flat_map(u32::to_le_bytes).collect();
    for text in [from, to] {
        body.extend(text.bytes().chain([0]));
    }
    let size = HEADERS + body.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.extend([0; 9]);
    file.extend([2_u16, 183].into_iter().flat_map(u16::to_le_bytes));
    file.extend(1_u32.to_le_bytes());
    file.extend([START + HEADERS, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    // One segment, to be loaded, readable and executable.
    file.extend([1_u32, 5].into_iter().flat_map(u32::to_le_bytes));
    file.extend([0, START, START, size, size, 0x1000].into_iter().flat_map(u64::to_le_bytes));
    file.extend(body);
    file
}
