//! What a build is given to use and not to keep: secrets and the sockets of ssh agents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::sandbox::Secret;

/// Secrets and agents, by the names under which steps ask for them. They are no part of a step, and so of no key.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// What secrets hold.
    pub secrets: BTreeMap<String, Secret>,
    /// The sockets of ssh agents.
    pub agents: BTreeMap<String, PathBuf>,
}
