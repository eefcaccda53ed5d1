//! Engines that take an archive through a program of theirs: podman, nerdctl, and `ctr` of containerd.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use kiln_image::export::{self, Destination, Format, Package};
use kiln_solver::{Cancel, Platform};

use super::Surroundings;
use crate::error::{self, CliError};
use crate::local::image_error;

/// Whose program it is. What the environment says of sockets, namespaces and snapshotters, they read themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Podman,
    Nerdctl,
    /// containerd, through `ctr`.
    Containerd,
}

/// A program that takes an archive on its standard input.
pub(super) struct Loading {
    program: Program,
    what: String,
    child: Child,
}

impl Program {
    /// The program of the engine of this name, or why it cannot be used.
    pub(super) fn find(name: &str, surroundings: &Surroundings) -> Result<Self, String> {
        let program = match name {
            "podman" => Self::Podman,
            "nerdctl" => Self::Nerdctl,
            _ => Self::Containerd,
        };
        if !is_program(program.file(), &surroundings.path) {
            return Err(format!("`{}` is not installed", program.file()));
        }
        if program == Self::Containerd {
            answers(surroundings)?;
        }
        Ok(program)
    }

    /// What it is, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
            Self::Containerd => "containerd",
        }
    }

    fn file(self) -> &'static str {
        if self == Self::Containerd { "ctr" } else { self.name() }
    }

    /// What has to be said because of what a package is.
    pub(super) fn arguments(self, package: &Package) -> Vec<&'static str> {
        let is_index = package.config().is_none();
        let is_native = package.record().is_some_and(|image| image.platform == Platform::host());
        match self {
            Self::Podman => Vec::new(),
            Self::Nerdctl if is_index || !is_native => vec!["--all-platforms"],
            Self::Nerdctl => Vec::new(),
            // What does not run here would be unpacked in vain; an image that is not unpacked is when it is first run.
            Self::Containerd if !is_native => vec!["--all-platforms", "--no-unpack", "-"],
            Self::Containerd if is_index => vec!["--all-platforms", "-"],
            Self::Containerd => vec!["-"],
        }
    }

    /// Starts it.
    pub(super) fn begin(self, arguments: &[&str]) -> Result<Loading, CliError> {
        let words: &[&str] = match self {
            Self::Podman => &["load", "--quiet"],
            Self::Nerdctl => &["load"],
            Self::Containerd => &["images", "import"],
        };
        let mut command = Command::new(self.file());
        command.args(words).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{} {}", self.file(), words.join(" "));
        let failed = |error| CliError::environment(format!("cannot run `{what}`: {}", error::plain_io(&error)));
        let child = command.spawn().map_err(failed)?;
        Ok(Loading { program: self, what, child })
    }
}

/// Whether containerd answers.
fn answers(surroundings: &Surroundings) -> Result<(), String> {
    let socket = &surroundings.containerd_socket;
    let shown = socket.display().to_string();
    let path = shown.strip_prefix("unix://").unwrap_or(&shown);
    if !std::path::Path::new(path).exists() {
        return Err(format!("there is no socket `{path}`"));
    }
    let asked = Command::new("ctr").args(["version"]).stdin(Stdio::null()).output();
    let asked = asked.map_err(|error| format!("cannot run `ctr`: {}", error::plain_io(&error)))?;
    if asked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&asked.stderr);
    Err(said.lines().last().unwrap_or("`ctr version` fails").trim().to_owned())
}

impl Loading {
    /// Gives it the archive of a package; yields what it said.
    pub(super) fn feed(mut self, package: &Package, cancel: &Cancel) -> Result<String, CliError> {
        let (Some(mut input), Some(output), Some(errors)) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err(CliError::bug("a pipe to a container engine is missing"));
        };
        let (written, said, complained) = std::thread::scope(|scope| {
            let said = scope.spawn(move || all(output));
            let complained = scope.spawn(move || all(errors));
            let written = write(package, &mut input, cancel);
            if written.is_err() {
                // Half an archive is not to become an image.
                let _ = self.child.kill();
            }
            drop(input);
            (written, said.join().unwrap_or_default(), complained.join().unwrap_or_default())
        });
        let status = self.child.wait();
        let complained = complained.trim();
        let ended_well = status.is_ok_and(|status| status.success());
        match written {
            // `ctr` shows progress, and the names somewhere in it.
            Ok(()) if ended_well && self.program == Program::Containerd => Ok(names(package)),
            Ok(()) if ended_well => Ok(said.trim().to_owned()),
            Err(error) if complained.is_empty() => Err(error),
            _ => {
                let why = if complained.is_empty() { "it did not say why" } else { complained };
                Err(CliError::environment(format!("`{}` failed: {why}", self.what)))
            }
        }
    }
}

fn write(package: &Package, input: &mut (dyn Write + Send), cancel: &Cancel) -> Result<(), CliError> {
    let packages = std::slice::from_ref(package);
    export::write(packages, Format::Docker, Destination::Stream(input), cancel).map_err(|error| image_error(&error))
}

/// The names of a package, in the words of the other engines.
fn names(package: &Package) -> String {
    package.names().iter().map(|name| format!("Loaded image: {}\n", name.familiar())).collect()
}

/// All that comes out of a pipe; what cannot be read will not be missed.
fn all(mut pipe: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Loading {
    fn drop(&mut self) {
        // One that has ended is not there any more to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is a program of this name.
pub(super) fn is_program(name: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|directory| {
        let file = directory.join(name);
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}
