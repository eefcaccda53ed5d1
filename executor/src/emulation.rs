//! Whether commands of a platform can run on this machine: its processor knows them, or an interpreter such as
//! qemu-user does, which the kernel starts for them (binfmt_misc).

use std::path::{Path, PathBuf};

use kiln_solver::Platform;

/// The executables of an architecture, as the beginning of an ELF file tells of them.
struct Machine {
    architecture: &'static str,
    /// `ELFCLASS32` or `ELFCLASS64`.
    class: u8,
    /// `ELFDATA2LSB` or `ELFDATA2MSB`.
    order: u8,
    /// `e_machine`.
    number: u16,
}

const LITTLE: u8 = 1;
const BIG: u8 = 2;

const fn machine(architecture: &'static str, class: u8, order: u8, number: u16) -> Machine {
    Machine { architecture, class, order, number }
}

const MACHINES: [Machine; 14] = [
    machine("386", 1, LITTLE, 3),
    machine("mips", 1, BIG, 8),
    machine("mipsle", 1, LITTLE, 8),
    machine("mips64", 2, BIG, 8),
    machine("mips64le", 2, LITTLE, 8),
    machine("ppc64", 2, BIG, 21),
    machine("ppc64le", 2, LITTLE, 21),
    machine("s390x", 2, BIG, 22),
    machine("arm", 1, LITTLE, 40),
    machine("amd64", 2, LITTLE, 62),
    machine("arm64", 2, LITTLE, 183),
    machine("riscv64", 2, LITTLE, 243),
    machine("loong64", 2, LITTLE, 258),
    machine("sparc64", 2, BIG, 43),
];

/// The interpreters that the kernel knows.
#[derive(Clone, Debug)]
pub struct Interpreters {
    host: Platform,
    directory: PathBuf,
}

/// What it takes to run the commands of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// Nothing.
    Native,
    /// An interpreter, which is there.
    Interpreter {
        /// Where it is.
        path: String,
        /// Whether the kernel has it open (flag F): else it is looked for in the root of the command.
        is_open: bool,
    },
    /// An interpreter, and whether there is one cannot be told here.
    Unknown,
    /// An interpreter, and there is none.
    Missing,
}

impl Interpreters {
    /// Those that binfmt_misc shows in this directory, which is `/proc/sys/fs/binfmt_misc`.
    pub fn of(directory: impl Into<PathBuf>) -> Self {
        Self { host: Platform::host(), directory: directory.into() }
    }

    pub(crate) fn support(&self, platform: &Platform) -> Support {
        if runs_natively(&self.host.architecture, &platform.architecture) {
            return Support::Native;
        }
        let Some(machine) = MACHINES.iter().find(|machine| machine.architecture == platform.architecture) else {
            return Support::Missing;
        };
        // It need not be mounted to work, in a container for one.
        let Ok(status) = std::fs::read_to_string(self.directory.join("status")) else { return Support::Unknown };
        let found = if status.trim() == "disabled" { None } else { self.find(machine) };
        match found {
            Some(found) => found,
            // Some processors run it by themselves.
            None if self.host.architecture == "arm64" && platform.architecture == "arm" => Support::Unknown,
            None => Support::Missing,
        }
    }

    fn find(&self, machine: &Machine) -> Option<Support> {
        let entries = std::fs::read_dir(&self.directory).ok()?.flatten().map(|entry| entry.path());
        let mut found: Vec<Support> = entries.filter_map(|path| entry(&path, machine)).collect();
        // Of several that fit, one that works everywhere.
        found.sort_by_key(|support| !matches!(support, Support::Interpreter { is_open: true, .. }));
        found.into_iter().next()
    }
}

/// Whether a processor has this architecture, too. Variants are left to the processor to complain about.
fn runs_natively(host: &str, architecture: &str) -> bool {
    host == architecture || (host, architecture) == ("amd64", "386")
}

/// One registration, if it is for the programs of this machine.
fn entry(path: &Path, machine: &Machine) -> Option<Support> {
    let text = std::fs::read_to_string(path).ok()?;
    let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    text.lines().any(|line| line == "enabled").then_some(())?;
    let magic = bytes(field("magic ")?)?;
    let mask = field("mask ").map_or_else(|| Some(vec![0xff; magic.len()]), bytes)?;
    let offset: usize = field("offset ").unwrap_or("0").parse().ok()?;
    let fits = |header: &[u8]| {
        let part = header.get(offset..offset.saturating_add(magic.len()));
        part.is_some_and(|part| part.iter().zip(&magic).zip(&mask).all(|((a, b), mask)| a & mask == b & mask))
    };
    machine.headers().iter().any(|header| fits(header)).then_some(())?;
    let is_open = field("flags: ").is_some_and(|flags| flags.contains('F'));
    Some(Support::Interpreter { path: field("interpreter ")?.to_owned(), is_open })
}

impl Machine {
    /// How its programs begin: those that lie at fixed addresses, and others.
    fn headers(&self) -> [Vec<u8>; 2] {
        let number = |value: u16| if self.order == BIG { value.to_be_bytes() } else { value.to_le_bytes() };
        [2, 3].map(|kind| {
            let mut header = b"\x7fELF".to_vec();
            header.extend([self.class, self.order, 1]);
            header.extend([0; 9]);
            header.extend(number(kind).into_iter().chain(number(self.number)));
            header.extend([0; 108]);
            header
        })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    hex.as_bytes().chunks(2).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn interpreters(entries: &[(&str, &str)]) -> (tempfile::TempDir, Interpreters) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in entries {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let host = Platform::new("linux", "amd64", None);
        let interpreters = Interpreters { host, directory: directory.path().to_owned() };
        (directory, interpreters)
    }

    fn support(entries: &[(&str, &str)], platform: &str) -> Support {
        interpreters(entries).1.support(&platform.parse().unwrap())
    }

    fn qemu(is_open: bool) -> Support {
        Support::Interpreter { path: "/usr/bin/qemu-aarch64-static".to_owned(), is_open }
    }

    #[test]
    fn what_the_processor_knows_needs_no_interpreter() {
        for platform in ["linux/amd64", "linux/amd64/v3", "linux/386"] {
            assert_eq!(support(&[("status", "enabled\n")], platform), Support::Native);
        }
    }

    #[test]
    fn an_interpreter_is_known_by_what_it_takes() {
        let entries = [("status", "enabled\n"), ("register", ""), ("whatever", QEMU)];
        assert_eq!(support(&entries, "linux/arm64"), qemu(true));
        for platform in ["linux/arm", "linux/riscv64", "linux/s390x", "linux/ppc64le", "linux/amiga"] {
            assert_eq!(support(&entries, platform), Support::Missing, "{platform}");
        }
    }

    #[test]
    fn one_that_the_kernel_has_open_comes_first() {
        let closed = QEMU.replace("OCF", "OC");
        assert_eq!(support(&[("status", "enabled\n"), ("a", &closed)], "linux/arm64"), qemu(false));
        assert_eq!(support(&[("status", "enabled\n"), ("a", &closed), ("b", QEMU)], "linux/arm64"), qemu(true));
    }

    #[test]
    fn what_is_switched_off_does_not_count() {
        let off = QEMU.replace("enabled", "disabled");
        assert_eq!(support(&[("status", "enabled\n"), ("a", &off)], "linux/arm64"), Support::Missing);
        assert_eq!(support(&[("status", "disabled\n"), ("a", QEMU)], "linux/arm64"), Support::Missing);
    }

    #[test]
    fn what_is_not_mounted_tells_nothing() {
        assert_eq!(support(&[], "linux/arm64"), Support::Unknown);
    }

    #[test]
    fn odd_entries_are_passed_over() {
        let entries = [
            ("status", "enabled\n"),
            ("jar", "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"),
            ("odd", "enabled\ninterpreter /x\noffset 18446744073709551615\nmagic 7f\nmask zz\n"),
            ("wide", "enabled\ninterpreter /x\nflags:\noffset 18446744073709551615\nmagic 7f45\n"),
            ("far", "enabled\ninterpreter /x\nflags:\noffset 200\nmagic 00\n"),
        ];
        assert_eq!(support(&entries, "linux/arm64"), Support::Missing);
    }
}
