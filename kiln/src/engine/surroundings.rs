//! What of the environment says which container engine is meant, and where it listens.

use std::ffi::OsString;
use std::path::PathBuf;

/// What kiln needs to know to find a container engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// Where programs are looked for (`PATH`).
    pub(super) path: OsString,
    /// The engine that is to be used (`KILN_ENGINE`).
    pub(super) engine: Option<String>,
    /// `DOCKER_HOST`
    pub(super) docker_host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub(super) docker_context: Option<String>,
    /// Where Docker's settings are (`DOCKER_CONFIG`).
    pub(super) docker_config: Option<PathBuf>,
    /// Where the certificates for `DOCKER_HOST` are (`DOCKER_CERT_PATH`).
    pub(super) certificates: Option<PathBuf>,
    /// Whether TLS is spoken with `DOCKER_HOST` (`DOCKER_TLS`, `DOCKER_TLS_VERIFY`), and with proof of who it is.
    pub(super) tls: Option<Verified>,
    /// Where Docker's daemon listens where nobody says anything.
    pub(super) docker_socket: PathBuf,
    /// Where containerd listens (`CONTAINERD_ADDRESS`).
    pub(super) containerd_socket: PathBuf,
    /// Whether kiln is root outside of any namespace of its own.
    pub(super) is_root: bool,
}

/// Whether a server has to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    Yes,
    No,
}

impl Surroundings {
    /// Reads the environment.
    pub(crate) fn new(is_root: bool, variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| given(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| given(name).map(PathBuf::from);
        let tls = match (given("DOCKER_TLS_VERIFY"), given("DOCKER_TLS")) {
            (Some(_), _) => Some(Verified::Yes),
            (None, Some(_)) => Some(Verified::No),
            (None, None) => None,
        };
        let docker_config = path("DOCKER_CONFIG").or_else(|| path("HOME").map(|home| home.join(".docker")));
        Self {
            path: given("PATH").unwrap_or_default(),
            engine: text("KILN_ENGINE"),
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            certificates: path("DOCKER_CERT_PATH").or_else(|| docker_config.clone()),
            docker_config,
            tls,
            docker_socket: "/var/run/docker.sock".into(),
            containerd_socket: path("CONTAINERD_ADDRESS").unwrap_or_else(|| "/run/containerd/containerd.sock".into()),
            is_root,
        }
    }

    /// Whether the user says in the environment which of Docker's daemons counts.
    pub(super) fn is_docker_chosen(&self) -> bool {
        self.docker_host.is_some() || self.docker_context.is_some()
    }
}
