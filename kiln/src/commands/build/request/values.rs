//! Values of flags.

use std::collections::BTreeMap;
use std::ffi::OsString;

use kiln_frontend::NoCache;
use kiln_image::Reference;
use kiln_solver::Platform;

use crate::error::{CliError, Kind};

/// The variable that says what to build for where no flag does, as for Docker.
const DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";

pub(super) fn parse_all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, CliError>) -> Result<Vec<T>, CliError> {
    texts.iter().map(|text| parse(text)).collect()
}

/// A name for the new image: a reference without a digest.
pub(crate) fn parse_tag(text: &str) -> Result<Reference, CliError> {
    let reference = Reference::parse(text).map_err(|error| CliError::from_error(Kind::User, &error))?;
    if reference.digest.is_some() {
        return Err(CliError::user(format!("`{text}` cannot name a new image: a digest is given by what is in it")));
    }
    Ok(reference)
}

pub(super) fn parse_build_args(
    texts: &[String],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), from_environment(text, variable)?),
        };
        if name.is_empty() {
            return Err(CliError::usage(format!("`--build-arg {text}` has no name")));
        }
        match value {
            Some(value) => arguments.insert(name.to_owned(), value),
            None => arguments.remove(name),
        };
    }
    Ok(arguments)
}

pub(super) fn from_environment(
    name: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, CliError> {
    match variable(name).map(OsString::into_string) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(CliError::user(format!("the environment variable `{name}` is not valid UTF-8"))),
        None => Ok(None),
    }
}

pub(super) fn parse_label(text: &str) -> Result<(String, String), CliError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(CliError::usage(format!("`--label {text}` has no key")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The platforms asked for, each once; none if nobody asks.
pub(in crate::commands::build) fn platforms(
    texts: &[String],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<Platform>, CliError> {
    let default = if texts.is_empty() { from_environment(DEFAULT_PLATFORM, variable)? } else { None };
    let words = texts.iter().chain(&default).flat_map(|text| text.split(',')).map(str::trim);
    let mut platforms = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        let platform: Platform = word.parse().map_err(|error| CliError::from_error(Kind::Usage, &error))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

pub(super) fn no_cache(all: bool, stages: Vec<String>) -> NoCache {
    let stages: Vec<String> =
        stages.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    match (all, stages.is_empty()) {
        (true, _) => NoCache::All,
        (false, false) => NoCache::Stages(stages),
        (false, true) => NoCache::Never,
    }
}
