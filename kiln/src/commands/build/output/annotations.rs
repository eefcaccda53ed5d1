//! Notes on images, as attributes of `--output` (`annotation-index.KEY=VALUE`) and as `--annotation` write them.

use kiln_image::export::{AnnotationPlace, Annotations};
use kiln_solver::Platform;

use crate::error::{CliError, Kind};

const PLACES: &str = "manifest, index, manifest-descriptor or index-descriptor";

/// Adds the note of an attribute, if it is one: `annotation[-PLACE][\[PLATFORM\]].KEY`.
pub(super) fn add_attribute(annotations: &mut Annotations, key: &str, value: &str) -> Result<bool, CliError> {
    let Some(rest) = key.strip_prefix("annotation").filter(|rest| rest.starts_with(['.', '-', '['])) else {
        return Ok(false);
    };
    // A platform has no dot that would end the place; a key has as many as it likes.
    let (head, platform, name) = match rest.split_once('[') {
        Some((head, behind)) if !head.contains('.') => {
            let (platform, name) = behind.split_once("].").ok_or_else(|| malformed(key))?;
            (head, Some(parse_platform(platform)?), name)
        }
        _ => {
            let (head, name) = rest.split_once('.').ok_or_else(|| malformed(key))?;
            (head, None, name)
        }
    };
    let place = match head.strip_prefix('-') {
        Some(name) => place(name)?,
        None => AnnotationPlace::Manifest,
    };
    if name.is_empty() {
        return Err(malformed(key));
    }
    annotations.add(place, platform, name.to_owned(), value.to_owned());
    Ok(true)
}

/// Adds the note of an `--annotation`: `[PLACE[\[PLATFORM\]],…:]KEY=VALUE`.
pub(in crate::commands) fn parse_flag(annotations: &mut Annotations, text: &str) -> Result<(), CliError> {
    let error = |problem: CliError| problem.context(format!("`--annotation {text}`"));
    let Some((name, value)) = text.split_once('=') else {
        return Err(error(CliError::usage("it is not of the form `KEY=VALUE`")));
    };
    let (places, key) = name.split_once(':').unwrap_or(("manifest", name));
    if key.is_empty() {
        return Err(error(CliError::usage("it has no key")));
    }
    for text in places.split(',') {
        let (name, platform) = match text.split_once('[') {
            Some((name, platform)) => {
                let platform = platform.strip_suffix(']').ok_or_else(|| error(malformed(text)))?;
                (name, Some(parse_platform(platform).map_err(error)?))
            }
            None => (text, None),
        };
        annotations.add(place(name).map_err(error)?, platform, key.to_owned(), value.to_owned());
    }
    Ok(())
}

fn place(name: &str) -> Result<AnnotationPlace, CliError> {
    AnnotationPlace::of_name(name)
        .ok_or_else(|| CliError::usage(format!("annotations have no place `{name}`: expected {PLACES}")))
}

fn parse_platform(text: &str) -> Result<Platform, CliError> {
    text.parse().map_err(|error| CliError::from_error(Kind::Usage, &error))
}

fn malformed(key: &str) -> CliError {
    CliError::usage(format!("`{key}` is not of the form `annotation[-PLACE][[PLATFORM]].KEY`"))
}
