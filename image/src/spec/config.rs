//! The image config: what an image runs, on what, and how it came about.

use std::collections::{BTreeMap, BTreeSet};

use kiln_solver::{Digest, Platform};
use serde::{Deserialize, Serialize};

use super::Extra;
use super::lenient::{is_default, null_as_default, set};

/// An image config (OCI `application/vnd.oci.image.config.v1+json`, Docker's equivalent).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// When the image was made (RFC 3339), as written: see [`super::parse_time`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The processor architecture, as `GOARCH` names it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system, as `GOOS` names it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// How a container of the image runs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Config,
    /// The layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rootfs: RootFs,
    /// The instructions that made it, the oldest first.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Image {
    /// An image without layers, for this platform.
    pub fn empty(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            ..Self::default()
        }
    }

    /// The platform that the image says it is for; Linux on this machine's architecture where it says nothing.
    pub fn platform(&self) -> Platform {
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        if self.architecture.is_empty() {
            return Platform { os: os.to_owned(), ..Platform::host() };
        }
        Platform::new(os, &self.architecture, self.variant.as_deref())
    }
}

/// How a container of an image runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `user[:group]`, by name or number; empty for root.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports, `80/tcp` each.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// The environment, `NAME=value` each, in order.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run. An empty list is not the same as none: it was reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what is run where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that become volumes.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where it runs; empty for `/`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows: whether the command line is escaped already.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// How its health is checked (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from this image (Docker).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions (Docker); the default one where empty.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How the health of a container is checked (Docker's extension of the image config).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty inherits.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks; 0 inherits, as with all times here.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub interval: i64,
    /// Nanoseconds until a check counts as failed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// Nanoseconds at the start in which failures do not count.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Nanoseconds between two checks during the start period.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy; 0 inherits.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub retries: i64,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

/// One instruction that made an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When (RFC 3339), as written. [`crate::assemble`] fills in what is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A note, such as the name of the builder.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub empty_layer: bool,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub extra: Extra,
}
