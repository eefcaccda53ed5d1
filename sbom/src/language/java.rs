//! Java: lock files of Gradle, and what Maven leaves beside unpacked classes.

use super::Listed;
use crate::{Ecosystem, Package};

/// `group:name:version=configurations` in each line.
pub(super) fn gradle_lock(text: &str, found_in: &str) -> Listed {
    let packages = text.lines().filter_map(|line| {
        let coordinates = line.trim().split('=').next().filter(|line| !line.starts_with('#'))?;
        let mut parts = coordinates.split(':');
        package(parts.next()?, parts.next()?, parts.next()?, found_in)
    });
    Ok(packages.collect())
}

/// `key=value` in each line.
pub(super) fn pom_properties(text: &str, found_in: &str) -> Listed {
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    let (Some(group), Some(name), Some(version)) = (value("groupId"), value("artifactId"), value("version")) else {
        return Ok(Vec::new());
    };
    Ok(package(group, name, version, found_in).into_iter().collect())
}

fn package(group: &str, name: &str, version: &str, found_in: &str) -> Option<Package> {
    let [group, name, version] = [group, name, version].map(str::trim);
    let is_whole = !group.is_empty() && !name.is_empty() && !version.is_empty();
    is_whole.then(|| Package {
        namespace: Some(group.to_owned()),
        ..Package::new(Ecosystem::Maven, name, version, found_in)
    })
}
