//! Packages of languages: what is installed, and what lock files name.
//!
//! Which parser a file is for is told by its name alone; one file of each ecosystem each.

mod cargo;
mod golang;
mod java;
mod npm;
mod php;
mod python;
mod ruby;
#[cfg(test)]
mod tests;

use kiln_cache::ViewError;

use crate::Package;
use crate::inventory::Found;

/// What a file lists, or what is wrong with it.
type Listed = Result<Vec<Package>, String>;

/// Reads a list of packages: the text of a file, and where it is.
type Parser = fn(&str, &str) -> Listed;

/// Finds the packages that a file names, if it is of a kind that does.
pub(crate) fn find(found: &mut Found<'_>, path: &[u8]) -> Result<(), ViewError> {
    let Some(parse) = parser(path) else { return Ok(()) };
    let Some(text) = found.text(path)? else { return Ok(()) };
    match parse(&text, &String::from_utf8_lossy(path)) {
        Ok(packages) => found.packages.extend(packages),
        Err(reason) => found.problem(path, &reason),
    }
    Ok(())
}

fn parser(path: &[u8]) -> Option<Parser> {
    let mut names = path.rsplit(|byte| *byte == b'/');
    let (name, parent) = (names.next()?, names.next().unwrap_or_default());
    let parser: Parser = match name {
        b"Cargo.lock" => cargo::lock,
        b"go.mod" => golang::module,
        b"gradle.lockfile" => java::gradle_lock,
        b"pom.properties" => java::pom_properties,
        b"package-lock.json" | b"npm-shrinkwrap.json" | b".package-lock.json" => npm::package_lock,
        b"yarn.lock" => npm::yarn_lock,
        b"pnpm-lock.yaml" => npm::pnpm_lock,
        b"package.json" if path.split(|byte| *byte == b'/').any(|name| name == b"node_modules") => npm::installed,
        b"composer.lock" => php::lock,
        b"installed.json" if parent == b"composer" => php::installed,
        b"METADATA" if parent.ends_with(b".dist-info") => python::metadata,
        b"PKG-INFO" if parent.ends_with(b".egg-info") => python::metadata,
        _ if name.ends_with(b".egg-info") => python::metadata,
        b"poetry.lock" | b"uv.lock" | b"pdm.lock" => python::toml_lock,
        b"Pipfile.lock" => python::pipfile_lock,
        b"Gemfile.lock" => ruby::lock,
        _ if name.ends_with(b".gemspec") && parent == b"specifications" => ruby::installed,
        _ => return None,
    };
    Some(parser)
}

/// A message about text that is not JSON as it should be.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not understood: {error}"))
}
