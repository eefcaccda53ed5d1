//! The documents of the OCI image specification v1.1 and of Docker's image manifest version 2, schema 2.
//!
//! Own types rather than a crate's, for three reasons: fields that kiln does not know are kept and written
//! back, maps are ordered so that the same document is always the same bytes, and Docker's own config fields
//! (health check, triggers, shell) are there.

mod config;
mod lenient;
mod manifest;
pub mod media_type;
mod time;

#[cfg(test)]
mod tests;

pub use config::{Config, Healthcheck, History, Image, RootFs};
pub use manifest::{Descriptor, DescriptorPlatform, Index, Manifest};
pub use time::{format_seconds, format_time, parse_time};

use std::collections::BTreeMap;

/// Fields that kiln does not know, kept as they came.
pub type Extra = BTreeMap<String, serde_json::Value>;
