//! The images of the store as commands show them.

use std::time::SystemTime;

use kiln_cache::{ImageRecord, Store};
use kiln_image::{ImageError, Reference, spec};
use kiln_solver::Digest;

use crate::error::{CliError, Kind};
use crate::human;
use crate::session::store_error;

/// How people call the image that the store has under this name: `app:1.0`.
pub(crate) fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Whether an image is listed under its ID because it was built without a name.
pub(crate) fn is_nameless(name: &str) -> bool {
    name.parse::<Digest>().is_ok()
}

/// All names of the image that is known by this; being listed under its ID does not count as one.
pub(crate) fn names_of(store: &Store, identity: &Digest) -> Result<Vec<String>, CliError> {
    let images = store.images().map_err(|error| store_error(&error))?;
    let named = images.into_iter().filter(|(name, record)| record.identity() == identity && !is_nameless(name));
    Ok(named.map(|(name, _)| name).collect())
}

/// What registries know an image by: the digest of its index or manifest, where it has one.
pub(crate) fn digest_of(record: &ImageRecord) -> Option<Digest> {
    record.index.as_ref().map(|index| index.digest).or(record.manifest)
}

/// An error about an image, with who has to act.
pub(crate) fn image_error(error: &ImageError) -> CliError {
    match error {
        ImageError::Cancelled => CliError::interrupted(),
        ImageError::NoImage(_) | ImageError::AmbiguousId(_) => {
            CliError::from_error(Kind::User, error).hint("`kiln images` lists what there is")
        }
        ImageError::Store(_) | ImageError::Io { .. } | ImageError::Output(_) | ImageError::Unreachable { .. } => {
            CliError::from_error(Kind::Environment, error)
        }
        _ => CliError::from_error(Kind::User, error),
    }
}

/// How long ago something was, in words; `N/A` where nobody knows.
pub(crate) fn age(created: Option<&str>, now: SystemTime) -> String {
    match created.and_then(spec::parse_time) {
        Some(time) => {
            let seconds = now.duration_since(time).map_or(0, |age| age.as_secs());
            format!("{} ago", human::duration(seconds))
        }
        None => "N/A".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_words() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7200);
        assert_eq!(age(Some("1970-01-01T00:00:00Z"), now), "2 hours ago");
        assert_eq!(age(Some("2970-01-01T00:00:00Z"), now), "Less than a second ago");
        assert_eq!(age(Some("yesterday"), now), "N/A");
        assert_eq!(age(None, now), "N/A");
    }

    #[test]
    fn names_are_short_and_ids_are_not_names() {
        assert_eq!(familiar("docker.io/library/app:1.0"), "app:1.0");
        let id = Digest::of(b"").to_string();
        assert_eq!(familiar(&id), id);
        assert!(is_nameless(&id));
        assert!(!is_nameless("docker.io/library/app:1.0"));
    }
}
