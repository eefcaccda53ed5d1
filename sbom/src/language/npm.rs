//! JavaScript: lock files of npm, Yarn and pnpm, and what is installed in `node_modules`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Listed, json};
use crate::{Ecosystem, Package};

/// Lock files of versions 2 and 3 have `packages`, by place; those of version 1 have `dependencies`, by name.
#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: BTreeMap<String, Locked>,
    #[serde(default)]
    dependencies: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    /// Where it is not what the place says.
    name: Option<String>,
    version: Option<String>,
    license: Option<Value>,
    /// A link into the project itself.
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dependencies: Value,
}

#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
    license: Option<Value>,
}

pub(super) fn package_lock(text: &str, found_in: &str) -> Listed {
    let lock: Lock = json(text)?;
    let mut packages = Vec::new();
    for (place, locked) in &lock.packages {
        // Others are parts of the project itself.
        let Some((_, name)) = place.rsplit_once("node_modules/") else { continue };
        if !locked.link {
            packages.extend(package(locked.name.as_deref().unwrap_or(name), locked, found_in));
        }
    }
    if lock.packages.is_empty() {
        old_dependencies(lock.dependencies, found_in, &mut packages);
    }
    Ok(packages)
}

/// What is nested in lock files of version 1.
fn old_dependencies(dependencies: BTreeMap<String, Locked>, found_in: &str, packages: &mut Vec<Package>) {
    let mut open = vec![dependencies];
    while let Some(dependencies) = open.pop() {
        for (name, locked) in dependencies {
            packages.extend(package(&name, &locked, found_in));
            open.extend(serde_json::from_value(locked.dependencies).ok());
        }
    }
}

fn package(name: &str, locked: &Locked, found_in: &str) -> Option<Package> {
    let version = locked.version.as_deref()?;
    let license = license(locked.license.as_ref());
    Some(Package { license, ..Package::new(Ecosystem::Npm, name, version, found_in) })
}

/// A text, or in old packages an object with a `type`.
fn license(license: Option<&Value>) -> Option<String> {
    let license = license?;
    license.as_str().or_else(|| license.get("type")?.as_str()).map(str::to_owned)
}

/// A `package.json` below `node_modules`. Those without name or version are no packages but parts of one.
pub(super) fn installed(text: &str, found_in: &str) -> Listed {
    let is_root = found_in.strip_suffix("/package.json").and_then(|place| place.rsplit_once("node_modules/"));
    let depth = is_root.map_or(0, |(_, name)| name.split('/').count() - usize::from(name.starts_with('@')));
    if depth != 1 {
        return Ok(Vec::new());
    }
    let manifest: Manifest = json(text)?;
    let (Some(name), Some(version)) = (manifest.name, manifest.version) else { return Ok(Vec::new()) };
    let license = license(manifest.license.as_ref());
    Ok(vec![Package { license, ..Package::new(Ecosystem::Npm, &name, &version, found_in) }])
}

/// Classic Yarn: `name@range, name@range:` and indented `version "1.2.3"`. Later ones have `resolution` as well.
pub(super) fn yarn_lock(text: &str, found_in: &str) -> Listed {
    let mut packages = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if !line.starts_with(' ') {
            let first = line.trim_end_matches(':').split(", ").next().unwrap_or_default().trim_matches('"');
            // A range of a project's own part needs no package.
            name = split(first).filter(|(_, range)| !range.starts_with("workspace:")).map(|(name, _)| name.to_owned());
            continue;
        }
        let Some(rest) = line.strip_prefix("  version") else { continue };
        let version = rest.trim_start_matches([':', ' ']).trim_matches('"');
        if let Some(name) = name.take() {
            packages.push(Package::new(Ecosystem::Npm, &name, version, found_in));
        }
    }
    Ok(packages)
}

/// pnpm: below `packages:`, keys such as `/name@1.2.3(peer@1):`, `name@1.2.3:` or (before version 6) `/name/1.2.3:`.
pub(super) fn pnpm_lock(text: &str, found_in: &str) -> Listed {
    let mut packages = Vec::new();
    let mut is_list = false;
    for line in text.lines() {
        if !line.is_empty() && !line.starts_with(' ') {
            is_list = line.trim_end() == "packages:";
            continue;
        }
        let key = line.strip_prefix("  ").filter(|key| is_list && !key.starts_with(' '));
        let Some(key) = key.and_then(|key| key.trim_end().strip_suffix(':')) else { continue };
        let key = key.trim_matches(['\'', '"']).trim_start_matches('/');
        let key = key.split('(').next().unwrap_or_default();
        if let Some((name, version)) = old_key(key).or_else(|| split(key)) {
            packages.push(Package::new(Ecosystem::Npm, name, version, found_in));
        }
    }
    Ok(packages)
}

/// `name/1.2.3` or `@scope/name/1.2.3`, with what the peers are behind a `_`.
fn old_key(key: &str) -> Option<(&str, &str)> {
    let slashes = usize::from(key.starts_with('@'));
    let (at, _) = key.match_indices('/').nth(slashes)?;
    let version = key.get(at + 1..)?.split('_').next()?;
    Some((key.get(..at)?, version))
}

/// `name@range`, where the name may begin with `@`.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.get(1..)?.find('@')? + 1;
    Some((text.get(..at)?, text.get(at + 1..)?))
}
