//! The container engine of this machine that images are loaded into: Docker's daemon, podman or nerdctl.
//!
//! Their own commands do it, so that contexts, `DOCKER_HOST`, ssh and certificates mean what the user made them mean.
//! [`docker`] finds out which layers need not be sent. Nothing here runs before an output asks for it.

mod docker;

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use kiln_solver::Digest;

use crate::error::{self, CliError};

/// An engine that is there.
pub(crate) struct Engine {
    kind: Kind,
    /// Docker's context, where one was named.
    context: Option<String>,
    /// A command that waits for an archive already: as an ordinary user podman has to begin before kiln enters its own
    /// user namespace.
    waiting: RefCell<Option<Loading>>,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Docker's daemon, of this version.
    Docker(String),
    Podman,
    Nerdctl,
}

/// What kiln needs to know to find one.
pub(crate) struct Surroundings {
    /// Where programs are looked for.
    pub(crate) path: OsString,
    /// Whether the user said which daemon it is to be, with `DOCKER_HOST` or `DOCKER_CONTEXT`.
    pub(crate) has_docker_host: bool,
    /// Whether kiln is root outside of any namespace of its own.
    pub(crate) is_root: bool,
}

/// A command that takes an archive on its standard input.
struct Loading {
    program: &'static str,
    child: Child,
}

impl Engine {
    /// Finds Docker's daemon, or else podman, or else nerdctl.
    ///
    /// # Errors
    /// When there is none, or the one that was asked for does not answer.
    pub(crate) fn find(context: Option<&str>, surroundings: &Surroundings) -> Result<Self, CliError> {
        let is_there = |program: &str| is_program(program, &surroundings.path);
        let engine = |kind| Self { kind, context: context.map(str::to_owned), waiting: RefCell::default() };
        let is_asked_for = context.is_some() || surroundings.has_docker_host;
        let docker = match is_there("docker") {
            true => docker::version(context),
            false => Err("`docker` is not installed".to_owned()),
        };
        match docker {
            Ok(Some(version)) => return Ok(engine(Kind::Docker(version))),
            // The command of that name is podman's own.
            Ok(None) => {}
            Err(why) if is_asked_for => {
                return Err(CliError::environment(format!("cannot load the image into Docker: {why}")));
            }
            Err(_) if is_there("podman") => {}
            Err(_) if is_there("nerdctl") => return Ok(engine(Kind::Nerdctl)),
            Err(why) => {
                return Err(CliError::environment(format!(
                    "there is no container engine to load the image into: {why}"
                ))
                .hint("start Docker, or install podman")
                .hint("`--output type=docker,dest=FILE` writes an archive"));
            }
        }
        let engine = engine(Kind::Podman);
        if !surroundings.is_root {
            engine.waiting.replace(Some(engine.begin()?));
        }
        Ok(engine)
    }

    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Docker(version) => format!("docker {version}"),
            Kind::Podman => "podman".to_owned(),
            Kind::Nerdctl => "nerdctl".to_owned(),
        }
    }

    /// How many of these layers, from the lowest on, it has and need not be sent.
    pub(crate) fn known_layers(&self, diff_ids: &[Digest]) -> usize {
        match &self.kind {
            Kind::Docker(_) => docker::known_layers(self.context.as_deref(), diff_ids),
            // They read all of an archive.
            Kind::Podman | Kind::Nerdctl => 0,
        }
    }

    /// Has it take the archive that `write` writes; yields what it said.
    ///
    /// # Errors
    /// When it refuses the archive, or `write` fails for a reason of its own.
    pub(crate) fn load(
        &self,
        write: impl FnOnce(&mut (dyn std::io::Write + Send)) -> Result<(), CliError>,
    ) -> Result<String, CliError> {
        let waiting = self.waiting.borrow_mut().take();
        match waiting {
            Some(loading) => loading.feed(write),
            None => self.begin()?.feed(write),
        }
    }

    fn begin(&self) -> Result<Loading, CliError> {
        let (program, mut command) = match &self.kind {
            Kind::Docker(_) => ("docker", docker::command(self.context.as_deref())),
            Kind::Podman => ("podman", Command::new("podman")),
            Kind::Nerdctl => ("nerdctl", Command::new("nerdctl")),
        };
        command.arg("load");
        if program != "nerdctl" {
            command.arg("--quiet");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| CliError::environment(format!("cannot run `{program}`: {}", error::plain_io(&error))))?;
        Ok(Loading { program, child })
    }
}

impl Loading {
    fn feed(
        mut self,
        write: impl FnOnce(&mut (dyn std::io::Write + Send)) -> Result<(), CliError>,
    ) -> Result<String, CliError> {
        let (Some(mut input), Some(mut output), Some(mut errors)) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err(CliError::bug("a pipe to a container engine is missing"));
        };
        let (written, said, complained) = std::thread::scope(|scope| {
            let said = scope.spawn(move || {
                let mut text = Vec::new();
                // What cannot be read will not be missed.
                let _ = output.read_to_end(&mut text);
                text
            });
            let complained = scope.spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                text
            });
            let written = write(&mut input);
            if written.is_err() {
                // Half an archive is not to become an image.
                let _ = self.child.kill();
            }
            drop(input);
            (written, said.join().unwrap_or_default(), complained.join().unwrap_or_default())
        });
        let status = self.child.wait();
        let complained = String::from_utf8_lossy(&complained).trim().to_owned();
        let ended_well = status.is_ok_and(|status| status.success());
        match written {
            Ok(()) if ended_well => Ok(String::from_utf8_lossy(&said).trim().to_owned()),
            Err(error) if complained.is_empty() => Err(error),
            _ => {
                let why = if complained.is_empty() { "it did not say why" } else { &complained };
                Err(CliError::environment(format!("`{} load` failed: {why}", self.program)))
            }
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // One that has ended is not there any more to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is a program of this name.
fn is_program(name: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|directory| {
        let file = directory.join(name);
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}
