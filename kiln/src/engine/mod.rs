//! The container engine of this machine that images are loaded into.
//!
//! Docker's daemon is spoken to in its API ([`docker`] finds it), podman, nerdctl and containerd through programs
//! ([`program`]). Nothing here runs before an output asks for it.

mod docker;
mod program;
mod surroundings;
mod tunnel;

use std::cell::RefCell;

use kiln_image::daemon::Daemon;
use kiln_image::export::Package;
use kiln_solver::{Cancel, Digest};

use crate::error::CliError;
use crate::local::image_error;
use program::{Loading, Program};
pub(crate) use surroundings::Surroundings;
use tunnel::Tunnel;

/// Those that there are, in the order in which they are looked for.
const NAMES: [&str; 4] = ["docker", "podman", "nerdctl", "containerd"];

/// An engine that is there.
pub(crate) struct Engine {
    kind: Kind,
}

/// How it is spoken to.
enum Kind {
    Docker {
        daemon: Box<Daemon>,
        /// What its address leads through.
        _tunnel: Option<Tunnel>,
    },
    Program {
        program: Program,
        /// One that waits for an archive already: as an ordinary user podman has to begin before kiln enters its own
        /// user namespace.
        waiting: RefCell<Option<Loading>>,
    },
}

/// What came of loading an image.
pub(crate) struct Loaded {
    /// What the engine said about it, in lines.
    pub(crate) said: String,
    /// How many of its layers did not have to be sent.
    pub(crate) known_layers: usize,
}

impl Engine {
    /// Finds the one that was asked for, or else the first that there is: Docker, podman, nerdctl, containerd. A
    /// context is one of Docker's.
    ///
    /// # Errors
    /// When there is none, or the one that was asked for does not answer.
    pub(crate) fn find(context: Option<&str>, surroundings: &Surroundings) -> Result<Self, CliError> {
        let asked = match &surroundings.engine {
            _ if context.is_some() => Some("docker"),
            Some(name) => Some(known(name)?),
            None if surroundings.is_docker_chosen() => Some("docker"),
            None => None,
        };
        if let Some(name) = asked {
            let failed = |why| CliError::environment(format!("cannot load the image into {name}: {why}"));
            return Self::open(name, context, surroundings).map_err(failed);
        }
        let mut reasons = Vec::new();
        for name in NAMES {
            match Self::open(name, context, surroundings) {
                Ok(engine) => return Ok(engine),
                Err(why) => reasons.push(format!("{name}: {why}")),
            }
        }
        let message = format!("there is no container engine to load the image into ({})", reasons.join("; "));
        Err(CliError::environment(message)
            .hint("start Docker or containerd, or install podman")
            .hint("`--output type=docker,dest=FILE` writes an archive"))
    }

    /// The engine of this name, or why it cannot be used.
    fn open(name: &str, context: Option<&str>, surroundings: &Surroundings) -> Result<Self, String> {
        if name == "docker" {
            let (daemon, tunnel) = docker::connect(context, surroundings)?;
            return Ok(Self { kind: Kind::Docker { daemon: Box::new(daemon), _tunnel: tunnel } });
        }
        let program = Program::find(name, surroundings)?;
        let begins_early = program == Program::Podman && !surroundings.is_root;
        let waiting = begins_early.then(|| program.begin(&[])).transpose().map_err(|error| error.message)?;
        Ok(Self { kind: Kind::Program { program, waiting: RefCell::new(waiting) } })
    }

    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Docker { daemon, .. } => {
                let name = if daemon.is_docker() { "docker" } else { "podman" };
                format!("{name} {}", daemon.version())
            }
            Kind::Program { program, .. } => program.name().to_owned(),
        }
    }

    /// Whether it takes images for several platforms, and attestations.
    pub(crate) fn takes_indexes(&self) -> bool {
        match &self.kind {
            Kind::Docker { daemon, .. } => daemon.takes_indexes(),
            Kind::Program { program, .. } => *program != Program::Podman,
        }
    }

    /// Has it take in a package.
    ///
    /// # Errors
    /// When it refuses, or a layer cannot be had.
    pub(crate) fn load(&self, package: &Package, cancel: &Cancel) -> Result<Loaded, CliError> {
        match &self.kind {
            Kind::Docker { daemon, .. } => load_into_daemon(daemon, package, cancel),
            Kind::Program { program, waiting } => {
                let waiting = waiting.borrow_mut().take();
                let loading = waiting.map_or_else(|| program.begin(&program.arguments(package)), Ok)?;
                Ok(Loaded { said: loading.feed(package, cancel)?, known_layers: 0 })
            }
        }
    }
}

/// Sends what the daemon lacks. Should a layer have gone meanwhile, all are sent.
fn load_into_daemon(daemon: &Daemon, package: &Package, cancel: &Cancel) -> Result<Loaded, CliError> {
    let image = package.record().ok_or_else(|| CliError::bug("a package without an image"))?;
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    let known_layers = daemon.known_layers(&diff_ids, cancel);
    if known_layers > 0 {
        match daemon.load(&package.clone().without_layers(known_layers), cancel) {
            Ok(said) => return Ok(Loaded { said, known_layers }),
            Err(error) if cancel.is_requested() => return Err(image_error(&error)),
            Err(_) => {}
        }
    }
    let said = daemon.load(package, cancel).map_err(|error| image_error(&error))?;
    Ok(Loaded { said, known_layers: 0 })
}

fn known(name: &str) -> Result<&'static str, CliError> {
    let found = NAMES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| CliError::user(format!("`KILN_ENGINE` is one of {}, not `{name}`", NAMES.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_engine_all_reasons_are_told() {
        let nowhere = Surroundings { docker_socket: "/nowhere/docker.sock".into(), ..Surroundings::default() };
        let message = |surroundings: &Surroundings| Engine::find(None, surroundings).err().unwrap().message;
        let all = message(&nowhere);
        for part in ["there is no container engine", "unix:///nowhere/docker.sock", "podman: `podman` is not installed"]
        {
            assert!(all.contains(part), "{all}");
        }
        let chosen = Surroundings { engine: Some("nerdctl".to_owned()), ..nowhere.clone() };
        assert_eq!(message(&chosen), "cannot load the image into nerdctl: `nerdctl` is not installed");
        let unknown = Surroundings { engine: Some("rkt".to_owned()), ..nowhere.clone() };
        assert!(message(&unknown).contains("docker, podman, nerdctl, containerd, not `rkt`"));
        let host = Surroundings { docker_host: Some("npipe:////./pipe/x".to_owned()), ..nowhere };
        assert!(message(&host).starts_with("cannot load the image into docker: "));
    }
}
