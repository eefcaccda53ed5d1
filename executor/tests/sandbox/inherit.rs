//! What commands do not inherit of how kiln was started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use kiln_executor::rootless::enter;

use crate::cases::Case;
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[("commands_inherit_nothing_unusual", commands_inherit_nothing_unusual)];

/// What a command finds, however kiln was started. Programs can be traced and dumped, and gain from setuid bits.
const USUAL: &str = "key none\npersonality 0\ntimer slack 50000\noom score 0\numask 22\nblocked 0\nignored 00\n\
                     descriptor 0\nno new privileges 0\ndumpable 1\n";

/// Runs this program as a kiln of its own, with all that can be inherited set to something else.
fn commands_inherit_nothing_unusual(world: &World) {
    let program = compile(&world.directory(), "inherit", include_str!("programs/inherit.c"));
    let place = world.directory();
    let this = fs::read_link("/proc/self/exe").unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(&program).args(arguments).env("TMPDIR", &place).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // That it is passed on at all.
    let passed = run(&["pass".as_ref(), program.as_ref(), "show".as_ref()]);
    assert!(passed.starts_with("key FOUND\npersonality 40000\ntimer slack 123456\n"), "{passed}");
    assert!(passed.contains("\numask 77\nblocked 1\nignored 11\ndescriptor 1\n"), "{passed}");
    let shown = run(&["pass".as_ref(), this.as_ref(), "--show".as_ref(), program.as_ref()]);
    let (sandboxed, insecure) = shown.split_once("insecure:\n").unwrap();
    // What keeps the first from its keyring could be the filter alone; the second is under none.
    assert_eq!(sandboxed, USUAL);
    assert_eq!(insecure, USUAL);
}

/// A process of its own that prints what commands find.
pub fn show(program: &Path) -> ExitCode {
    // As it was, that is; this program makes directories.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let world = World::new(enter().unwrap());
    rustix::process::umask(before);
    let layer = world.layer(|root| {
        fs::copy(program, root.join("inherit")).unwrap();
    });
    for (title, insecure) in [("", false), ("insecure:\n", true)] {
        let mut spec = world.command(&["/inherit", "show"]);
        spec.root.lowers.push(layer.clone());
        spec.insecure = insecure;
        let outcome = world.run(&spec);
        print!("{title}{}", outcome.assert_ok().stdout);
    }
    ExitCode::SUCCESS
}

/// Compiles a C program that needs nothing to run.
pub fn compile(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let (source, program) = (directory.join(name).with_extension("c"), directory.join(name));
    fs::write(&source, text).unwrap();
    let output = Command::new("cc").args(["-static", "-Os", "-o"]).args([&program, &source]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}
