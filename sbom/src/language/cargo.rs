//! Rust: `Cargo.lock`.

use serde::Deserialize;

use super::Listed;
use crate::{Ecosystem, Package};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

pub(super) fn lock(text: &str, found_in: &str) -> Listed {
    let lock: Lock = toml::from_str(text).map_err(|error| format!("not understood: {}", error.message()))?;
    let package = |locked: &Locked| Package::new(Ecosystem::Cargo, &locked.name, &locked.version, found_in);
    Ok(lock.package.iter().map(package).collect())
}
