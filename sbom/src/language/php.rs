//! PHP: Composer's lock file, and its list of what is installed.

use serde::Deserialize;
use serde_json::Value;

use super::{Listed, json};
use crate::{Ecosystem, Package};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Vec<Locked>,
    #[serde(default, rename = "packages-dev")]
    packages_dev: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    #[serde(default)]
    license: Vec<String>,
}

pub(super) fn lock(text: &str, found_in: &str) -> Listed {
    let Lock { packages, packages_dev } = json(text)?;
    Ok(packages.iter().chain(&packages_dev).map(|locked| package(locked, found_in)).collect())
}

/// A list before Composer 2, an object with such a list since.
pub(super) fn installed(text: &str, found_in: &str) -> Listed {
    let mut list: Value = json(text)?;
    if let Some(packages) = list.get_mut("packages") {
        list = packages.take();
    }
    let packages: Vec<Locked> = serde_json::from_value(list).map_err(|error| format!("not understood: {error}"))?;
    Ok(packages.iter().map(|locked| package(locked, found_in)).collect())
}

fn package(locked: &Locked, found_in: &str) -> Package {
    // Several licenses are alternatives.
    let license = (!locked.license.is_empty()).then(|| locked.license.join(" OR "));
    let version = locked.version.strip_prefix('v').unwrap_or(&locked.version);
    Package { license, ..Package::new(Ecosystem::Composer, &locked.name, version, found_in) }
}
