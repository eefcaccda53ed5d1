//! Python: the metadata of what is installed, and lock files.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Listed, json};
use crate::{Ecosystem, Package};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    /// The project itself may have none.
    version: Option<String>,
}

/// Header lines, then an empty one.
///
/// Specification: <https://packaging.python.org/en/latest/specifications/core-metadata/>.
pub(super) fn metadata(text: &str, found_in: &str) -> Listed {
    let field = |name: &str| {
        let head = text.lines().take_while(|line| !line.is_empty());
        let value = head.filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty() && value != "UNKNOWN")
    };
    let (Some(name), Some(version)) = (field("Name"), field("Version")) else {
        return Err("no name or version".to_owned());
    };
    Ok(vec![Package {
        license: field("License-Expression").or_else(|| field("License")),
        supplier: field("Author").or_else(|| field("Author-email")),
        ..Package::new(Ecosystem::PyPi, &name, &version, found_in)
    }])
}

/// `poetry.lock`, `uv.lock` and `pdm.lock`, which are alike in this.
pub(super) fn toml_lock(text: &str, found_in: &str) -> Listed {
    let lock: Lock = toml::from_str(text).map_err(|error| format!("not understood: {}", error.message()))?;
    let package =
        |locked: &Locked| Some(Package::new(Ecosystem::PyPi, &locked.name, locked.version.as_deref()?, found_in));
    Ok(lock.package.iter().filter_map(package).collect())
}

/// `Pipfile.lock`: groups of packages by name, with versions such as `==1.2`.
pub(super) fn pipfile_lock(text: &str, found_in: &str) -> Listed {
    let lock: Map<String, Value> = json(text)?;
    let groups = lock.iter().filter(|(group, _)| !group.starts_with('_')).filter_map(|(_, group)| group.as_object());
    let package = |(name, locked): (&String, &Value)| {
        let version = locked.get("version")?.as_str()?.trim_start_matches('=');
        Some(Package::new(Ecosystem::PyPi, name, version, found_in))
    };
    Ok(groups.flatten().filter_map(package).collect())
}
