//! What a user asks of a build, beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use kiln_solver::{Host, Limits, Network, Platform};

/// How a Dockerfile is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The stage to build, by name in any case or by number; the last one where absent.
    pub target: Option<String>,
    /// `--build-arg`: values for `ARG`s, and proxies.
    pub build_args: BTreeMap<String, String>,
    /// `--label`: labels for the image, over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// What the image is to run on.
    pub platform: Platform,
    /// Who says so.
    pub targeting: Targeting,
    /// What the build runs on.
    pub build_platform: Platform,
    /// `--no-cache` and `--no-cache-filter`: which steps run even where a cache entry fits.
    pub no_cache: NoCache,
    /// `--build-context`: what stands in for stages and images of these names. A name may carry a platform,
    /// `name::linux/arm64`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--allow`: what a `RUN` may ask for.
    pub entitlements: BTreeSet<Entitlement>,
    /// `--network`: what a `RUN` sees that does not say.
    pub network: Network,
    /// `--add-host`: machines that every `RUN` finds in `/etc/hosts`.
    pub hosts: Vec<Host>,
    /// `--ulimit` and the like: what every `RUN` may use of the machine.
    pub limits: Limits,
    /// `--shm-size`: how many bytes `/dev/shm` holds.
    pub shm_size: Option<u64>,
    /// Whether [`Build::scans`](crate::Build::scans) is wanted.
    pub finds_scans: bool,
}

impl Options {
    /// The options of a plain build on and for this platform.
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            build_platform: platform.clone(),
            platform,
            targeting: Targeting::Default,
            no_cache: NoCache::default(),
            contexts: BTreeMap::new(),
            entitlements: BTreeSet::new(),
            network: Network::Default,
            hosts: Vec::new(),
            limits: Limits::default(),
            shm_size: None,
            finds_scans: false,
        }
    }
}

/// How a build came to be for its platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Targeting {
    /// Nobody asked for another than that of the machine: the image is for what its base is for.
    #[default]
    Default,
    /// It was asked for.
    Asked,
    /// It is one of several that were asked for: the names of steps say which.
    OneOfSeveral,
}

/// Which steps run even where a cache entry fits, beside those that say so themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    Never,
    /// Those of these stages, by name in any case or by number.
    Stages(Vec<String>),
    /// All.
    All,
}

/// What a `--build-context` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory: becomes a `Source::Local` of the context's name.
    Local,
    /// An image: a reference or `oci-layout://…`, handed to the [`crate::Resolver`] as it is.
    Image(String),
    /// A stage of the Dockerfile itself, by name or number (`target:build`).
    Stage(String),
}

/// Something that a build has to be allowed before a `RUN` can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// The network of the host.
    NetworkHost,
    /// A sandbox that hardly is one.
    SecurityInsecure,
    /// Devices of the host.
    Device,
}

impl Entitlement {
    /// Every one that there is.
    pub const ALL: [Self; 3] = [Self::NetworkHost, Self::SecurityInsecure, Self::Device];

    /// What BuildKit calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
            Self::Device => "device",
        }
    }

    /// What it gives a command, for people.
    pub fn gives(self) -> &'static str {
        match self {
            Self::NetworkHost => "this machine's network",
            Self::SecurityInsecure => "this machine",
            Self::Device => "this machine's devices",
        }
    }
}
