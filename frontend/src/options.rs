//! What a user asks of a build, beside the Dockerfile.

use std::collections::BTreeMap;

use kiln_solver::Platform;

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
    /// What the build runs on.
    pub build_platform: Platform,
    /// Whether every step runs even where a cache entry fits.
    pub no_cache: bool,
    /// `--build-context`: what stands in for stages and images of these names. A name may carry a platform,
    /// `name::linux/arm64`.
    pub contexts: BTreeMap<String, NamedContext>,
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
            no_cache: false,
            contexts: BTreeMap::new(),
        }
    }
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
