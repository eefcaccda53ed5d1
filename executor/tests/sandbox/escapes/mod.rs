//! Attempts to get out of the sandbox, or to change anything of the machine from within. Each must fail with the
//! error that it is known to fail with (another one may mean that it was not really made), and the machine must be as
//! it was. They run as the sandbox's root, which is the mightiest user there is.
//!
//! | file | |
//! |---|---|
//! | `machine.rs` | what of the machine must stay as it is |
//! | `kernel.rs`, `mounts.rs`, … | the attempts, by theme |
//! | `program/` | a C program that makes those for which a shell has no words |

mod devices;
mod files;
mod kernel;
mod layers;
mod machine;
mod mounts;
mod neighbours;
mod processes;
mod system;
mod users;

use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_executor::sandbox::{Network, RunSpec};

use crate::world::{Outcome, World};
use machine::Machine;

/// Where the program is in the sandbox.
const PROGRAM: &str = "/bin/attempt";

/// What the program exits with when it could not even try.
const MISUSED: i32 = 255;

/// What attempts call the things that they make.
pub const MARK: &str = "kiln-escape";

const SOURCES: [(&str, &str); 7] = [
    ("main.c", include_str!("program/main.c")),
    ("mounts.c", include_str!("program/mounts.c")),
    ("kernel.c", include_str!("program/kernel.c")),
    ("processes.c", include_str!("program/processes.c")),
    ("devices.c", include_str!("program/devices.c")),
    ("files.c", include_str!("program/files.c")),
    ("neighbours.c", include_str!("program/neighbours.c")),
];
/// What they include.
const HEADER: (&str, &str) = ("attempt.h", include_str!("program/attempt.h"));

/// One attempt.
pub struct Attempt {
    pub name: &'static str,
    way: Way,
}

enum Way {
    /// The program with these arguments, which must be stopped by one of these errors. Words in braces stand for
    /// things of the machine; see [`Ground::fill`].
    Program(&'static [&'static str], &'static [i32]),
    /// The same without a network.
    Offline(&'static [&'static str], &'static [i32]),
    /// A line of shell that must end with an error without saying `ESCAPED`.
    Shell(&'static str),
    /// Anything else.
    Special(fn(&Ground<'_>)),
}

const fn program(name: &'static str, arguments: &'static [&'static str], errors: &'static [i32]) -> Attempt {
    Attempt { name, way: Way::Program(arguments, errors) }
}

const fn offline(name: &'static str, arguments: &'static [&'static str], errors: &'static [i32]) -> Attempt {
    Attempt { name, way: Way::Offline(arguments, errors) }
}

const fn shell(name: &'static str, script: &'static str) -> Attempt {
    Attempt { name, way: Way::Shell(script) }
}

const fn special(name: &'static str, make: fn(&Ground<'_>)) -> Attempt {
    Attempt { name, way: Way::Special(make) }
}

/// All of them, each with its theme.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Attempt)> {
    let themes: [(&str, &[Attempt]); 9] = [
        ("system", system::ALL),
        ("mounts", mounts::ALL),
        ("kernel", kernel::ALL),
        ("processes", processes::ALL),
        ("devices", devices::ALL),
        ("files", files::ALL),
        ("users", users::ALL),
        ("layers", layers::ALL),
        ("neighbours", neighbours::ALL),
    ];
    themes.into_iter().flat_map(|(theme, attempts)| attempts.iter().map(move |attempt| (theme, attempt)))
}

/// What attempts are made from and against.
pub struct Ground<'a> {
    pub world: &'a World,
    pub machine: Machine,
    /// The layer with the program.
    layer: PathBuf,
}

impl<'a> Ground<'a> {
    pub fn new(world: &'a World) -> Self {
        let layer = world.layer(|root| {
            std::fs::create_dir(root.join("bin")).unwrap();
            compile(&SOURCES, &[], &root.join("bin/attempt"));
        });
        // The helper is there from the first command on.
        world.sh("true").assert_ok();
        let machine = Machine::new(&world.directory(), &[&world.base, &layer]);
        Self { world, machine, layer }
    }

    /// Makes an attempt and looks at what became of the machine.
    pub fn make(&self, attempt: &Attempt) {
        match &attempt.way {
            Way::Program(arguments, errors) => self.is_stopped(&self.spec(arguments), errors),
            Way::Offline(arguments, errors) => {
                let mut spec = self.spec(arguments);
                spec.network = Network::None;
                self.is_stopped(&spec, errors);
            }
            Way::Shell(script) => {
                let mut spec = self.world.spec(&self.fill(script));
                spec.root.lowers.push(self.layer.clone());
                let outcome = self.world.run(&spec);
                assert_ne!(outcome.code(), 0, "it got through: {outcome:?}");
                assert!(!outcome.stdout.contains("ESCAPED"), "it got through: {outcome:?}");
            }
            Way::Special(make) => make(self),
        }
        self.machine.assert_unchanged();
    }

    /// The program with these arguments.
    pub fn spec(&self, arguments: &[&str]) -> RunSpec {
        let arguments: Vec<String> = arguments.iter().map(|argument| self.fill(argument)).collect();
        let mut all = vec![PROGRAM];
        all.extend(arguments.iter().map(String::as_str));
        let mut spec = self.world.command(&all);
        spec.root.lowers.push(self.layer.clone());
        spec
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.world.run(&self.spec(arguments))
    }

    pub fn is_stopped(&self, spec: &RunSpec, errors: &[i32]) {
        let outcome = self.world.run(spec);
        let code = outcome.code();
        assert_ne!(code, 0, "{:?} got through", &spec.args[1..]);
        assert_ne!(code, MISUSED, "{:?} was not even made", &spec.args[1..]);
        // Not every kernel has all that there is to reach for.
        let aim = Path::new(spec.args.get(2).map_or("", String::as_str));
        let missing =
            code == libc::ENOENT && [Path::new("/proc"), Path::new("/sys")].iter().any(|top| aim.starts_with(top));
        if missing && !aim.exists() {
            return;
        }
        let said = std::io::Error::from_raw_os_error(code);
        assert!(errors.contains(&code), "{:?} failed with another error: {said}", &spec.args[1..]);
    }

    /// Puts what is of this machine in the place of words in braces.
    fn fill(&self, text: &str) -> String {
        let machine = &self.machine;
        let (major, minor) = machine.disk();
        text.replace("{pid}", &machine.victim().to_string())
            .replace("{address}", &machine.address().to_string())
            .replace("{file}", &machine.file().to_string_lossy())
            .replace("{major}", &major.to_string())
            .replace("{minor}", &minor.to_string())
    }
}

/// Compiles sources of `program/` to a static program. An ordinary user may not be able to read a checkout of root's.
fn compile(sources: &[(&str, &str)], flags: &[&str], program: &Path) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in sources.iter().chain([&HEADER]) {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-static", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(program)
        .args(sources.iter().map(|(name, _)| directory.path().join(name)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
