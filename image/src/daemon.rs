//! Docker's daemon, spoken to in its Engine API: which layers its images have, and taking in an archive.
//!
//! The API is asked without a version in the path, which every daemon answers in its own: what is used here has been
//! the same since 1.24.

mod load;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use kiln_solver::{Cancel, Digest};
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ImageError;
use crate::configuration::{KeyPair, RegistrySettings};
use crate::export::Package;
use crate::registry::{Meter, attended, configure_tls, provide_tls, reason};

/// How long to wait for an answer to a question.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer to a question that is taken.
const ANSWER_LIMIT: u64 = 64 << 20;
/// How many images are looked at for layers.
const MOST_IMAGES: usize = 500;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonAddress {
    /// At a Unix socket.
    Unix(PathBuf),
    /// At a TCP port: host and port.
    Tcp {
        /// Host and port, and a path where the daemon is behind another server.
        authority: String,
        /// How TLS is spoken, if it is.
        tls: Option<DaemonTls>,
    },
}

/// How TLS is spoken with a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonTls {
    /// Who else may vouch for the daemon.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to it, and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Whether nobody has to vouch for the daemon.
    pub is_unverified: bool,
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { authority, .. } => write!(formatter, "tcp://{authority}"),
        }
    }
}

/// A daemon that has answered. It keeps no connection and no thread.
#[derive(Clone, Debug)]
pub struct Daemon {
    address: DaemonAddress,
    about: About,
}

/// A client of a daemon. It has a thread.
struct Connection {
    client: Client,
    base: Url,
    /// The address for people.
    daemon: String,
}

/// What a daemon says of itself.
#[derive(Clone, Debug, Default)]
struct About {
    version: String,
    /// Whether it is Docker's, and not podman's in its clothes.
    is_docker: bool,
    /// Whether its images are kept by containerd, with their indexes.
    has_indexes: bool,
}

/// `GET /version`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

/// `GET /info`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

/// One of `GET /images/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// `GET /images/{name}/json`
#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "RootFS", default)]
    root: Option<RootFs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What a daemon says went wrong.
#[derive(Deserialize)]
struct Complaint {
    message: String,
}

impl Daemon {
    /// Finds out who listens at an address. No thread is left behind.
    ///
    /// # Errors
    /// [`ImageError::Daemon`] when nobody answers, or no daemon of Docker's kind.
    pub fn connect(address: &DaemonAddress) -> Result<Self, ImageError> {
        let (connection, address) = (Connection::new(address)?, address.clone());
        let Version { version, components } = connection.get("version")?;
        let info: Info = connection.get("info")?;
        let mut status = info.driver_status.iter().flatten().flatten();
        let about = About {
            version,
            is_docker: !components.iter().any(|component| component.name.contains("Podman")),
            has_indexes: status.any(|word| word.starts_with("io.containerd.snapshotter")),
        };
        Ok(Self { address, about })
    }

    /// The version that it says it is of.
    pub fn version(&self) -> &str {
        &self.about.version
    }

    /// Whether it is Docker's own, and not podman's with the same API.
    pub fn is_docker(&self) -> bool {
        self.about.is_docker
    }

    /// Whether it takes indexes: images for several platforms, and attestations.
    pub fn takes_indexes(&self) -> bool {
        self.about.has_indexes
    }

    /// How many of these layers, from the lowest on, an image of the daemon has: an archive may come without them.
    /// None for one that reads all of an archive.
    pub fn known_layers(&self, diff_ids: &[Digest], cancel: &Cancel) -> usize {
        if self.about.has_indexes || !self.about.is_docker {
            return 0;
        }
        let (address, diff_ids, stop) = (self.address.clone(), diff_ids.to_vec(), cancel.clone());
        let look = move || Connection::new(&address).map_or(0, |connection| connection.longest_stack(&diff_ids, &stop));
        attended(cancel, &Meter::default(), |_| PATIENCE, look).ok().flatten().unwrap_or_default()
    }

    /// Has it take in a package, as an archive of `docker save`; yields what it says about it. Half an archive never
    /// becomes an image.
    ///
    /// # Errors
    /// [`ImageError::Daemon`] when it refuses; others when the archive cannot be made.
    pub fn load(&self, package: &Package, cancel: &Cancel) -> Result<String, ImageError> {
        load::load(&Connection::new(&self.address)?, package, cancel)
    }
}

impl Connection {
    fn new(address: &DaemonAddress) -> Result<Self, ImageError> {
        let daemon = address.to_string();
        let wrong = |reason: String| ImageError::Daemon { daemon: daemon.clone(), reason };
        provide_tls();
        let builder = Client::builder().no_proxy().timeout(None);
        let (builder, base) = match address {
            DaemonAddress::Unix(path) => {
                (builder.tls_certs_only([]).unix_socket(path.as_path()), "http://localhost/".to_owned())
            }
            DaemonAddress::Tcp { authority, tls: None } => {
                (builder.tls_certs_only([]).connect_timeout(PATIENCE), format!("http://{authority}/"))
            }
            DaemonAddress::Tcp { authority, tls: Some(tls) } => {
                let builder = configure_tls(builder.connect_timeout(PATIENCE), &tls.settings()).map_err(wrong)?;
                (builder, format!("https://{authority}/"))
            }
        };
        let base = Url::parse(&base).map_err(|error| wrong(error.to_string()))?;
        let client = builder.build().map_err(|error| wrong(reason(&error)))?;
        Ok(Self { client, base, daemon })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ImageError> {
        let request = self.client.get(self.url(path)?).timeout(PATIENCE);
        let answered = request.send().map_err(|error| reason(&error)).and_then(answer);
        let parsed = answered.and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| format!("its answer to `/{path}` is malformed: {error}"))
        });
        parsed.map_err(|reason| self.error(reason))
    }

    /// How many of these layers, from the lowest on, the image has that has most of them.
    fn longest_stack(&self, diff_ids: &[Digest], cancel: &Cancel) -> usize {
        let images: Vec<Listed> = self.get("images/json").unwrap_or_default();
        let mut longest = 0;
        for Listed { id } in images.iter().take(MOST_IMAGES) {
            // An image that has gone since is no reason to know nothing of the others.
            let found: Result<Inspected, _> = self.get(&format!("images/{id}/json"));
            let layers = found.ok().and_then(|found| found.root?.layers).unwrap_or_default();
            longest = longest.max(common(&layers, diff_ids));
            if longest == diff_ids.len() || cancel.is_requested() {
                break;
            }
        }
        longest
    }

    fn url(&self, path: &str) -> Result<Url, ImageError> {
        self.base.join(path).map_err(|error| self.error(error.to_string()))
    }

    fn error(&self, reason: String) -> ImageError {
        ImageError::Daemon { daemon: self.daemon.clone(), reason }
    }
}

impl DaemonTls {
    fn settings(&self) -> RegistrySettings {
        let pair = |(cert, key): &(PathBuf, PathBuf)| KeyPair { cert: cert.clone(), key: key.clone() };
        RegistrySettings {
            ca: self.ca.iter().cloned().collect(),
            keypair: self.pair.iter().map(pair).collect(),
            insecure: self.is_unverified,
            ..RegistrySettings::default()
        }
    }
}

/// The whole of an answer, or what it complains of.
fn answer(response: Response) -> Result<Vec<u8>, String> {
    let status = response.status();
    let mut bytes = Vec::new();
    response.take(ANSWER_LIMIT).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if status.is_success() {
        return Ok(bytes);
    }
    let complaint = serde_json::from_slice::<Complaint>(&bytes);
    Err(complaint.map_or_else(|_| format!("it answered {status}"), |complaint| complaint.message))
}

/// How many layers, from the lowest on, two stacks have in common.
fn common(theirs: &[String], ours: &[Digest]) -> usize {
    theirs.iter().zip(ours).take_while(|(theirs, ours)| **theirs == ours.to_string()).count()
}
