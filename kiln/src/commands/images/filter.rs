//! Which images are listed: `--filter`, and the name that is given.

use std::time::{Duration, SystemTime};

use kiln_cache::Store;
use kiln_image::{Reference, inspect, spec};
use kiln_parser::pattern::Pattern;

use super::Listed;
use crate::error::{CliError, Kind};
use crate::local::image_error;

/// All of these must hold; of several patterns for names, one.
#[derive(Debug, Default)]
pub(super) struct Filters {
    names: Vec<NamePattern>,
    others: Vec<Filter>,
}

#[derive(Debug)]
enum Filter {
    Dangling(bool),
    /// Whether a label is there, with this value where there is one; or that it is not.
    Label {
        key: String,
        value: Option<String>,
        is_there: bool,
    },
    Before(SystemTime),
    Since(SystemTime),
}

/// What names look like.
#[derive(Debug)]
struct NamePattern {
    pattern: Pattern,
    /// Where it is a whole name: its repository, and its tag if one was written.
    name: Option<(String, Option<String>)>,
}

impl Filters {
    /// Reads the values of `--filter`, and the argument.
    pub(super) fn parse(
        filters: &[String],
        name: Option<&str>,
        store: &Store,
        now: SystemTime,
    ) -> Result<Self, CliError> {
        let mut all = Self::default();
        for text in filters {
            all.add(text, store, now).map_err(|error| error.context(format!("`--filter {text}`")))?;
        }
        if let Some(name) = name {
            all.names.push(NamePattern::parse(name)?);
        }
        Ok(all)
    }

    fn add(&mut self, text: &str, store: &Store, now: SystemTime) -> Result<(), CliError> {
        let (key, value) = text.split_once('=').ok_or_else(|| CliError::usage("it is not of the form `KEY=VALUE`"))?;
        let created = || created(store, value);
        self.others.push(match key.trim() {
            "reference" => {
                self.names.push(NamePattern::parse(value)?);
                return Ok(());
            }
            "dangling" => Filter::Dangling(boolean(value)?),
            "label" => label(value, true),
            "label!" => label(value, false),
            "before" => Filter::Before(created()?),
            "since" => Filter::Since(created()?),
            "until" => Filter::Before(point_in_time(value, now)?),
            other => {
                let known = "dangling, label, reference, before, since and until";
                return Err(CliError::usage(format!("there is no filter `{other}`: there are {known}")));
            }
        });
        Ok(())
    }

    /// Whether an image is listed.
    pub(super) fn accept(&self, image: &Listed) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|name| name.accepts(image.name.as_ref()));
        named && self.others.iter().all(|filter| filter.accepts(image))
    }
}

impl Filter {
    fn accepts(&self, image: &Listed) -> bool {
        match self {
            Self::Dangling(dangling) => image.name.is_none() == *dangling,
            Self::Label { key, value, is_there } => {
                let found = image.config.config.labels.get(key);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found)) == *is_there
            }
            Self::Before(time) => image.created.is_some_and(|created| created < *time),
            Self::Since(time) => image.created.is_some_and(|created| created > *time),
        }
    }
}

impl NamePattern {
    fn parse(text: &str) -> Result<Self, CliError> {
        let pattern = Pattern::new(text).map_err(|error| CliError::from_error(Kind::Usage, &error))?;
        let name = match Reference::parse(text) {
            Ok(reference) => {
                let tag = reference.tag.clone().filter(|tag| text.ends_with(&format!(":{tag}")));
                Some((reference.name(), tag))
            }
            Err(_) if kiln_parser::pattern::has_wildcards(text) => None,
            Err(error) => return Err(CliError::from_error(Kind::User, &error)),
        };
        Ok(Self { pattern, name })
    }

    fn accepts(&self, name: Option<&Reference>) -> bool {
        let Some(reference) = name else { return false };
        if let Some((repository, tag)) = &self.name {
            return reference.name() == *repository && (tag.is_none() || *tag == reference.tag);
        }
        let bare = Reference { tag: None, digest: None, ..reference.clone() };
        [reference.familiar(), bare.familiar()].iter().any(|name| self.pattern.matches(name.as_bytes()))
    }
}

fn label(text: &str, is_there: bool) -> Filter {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    Filter::Label { key: key.to_owned(), value, is_there }
}

fn boolean(text: &str) -> Result<bool, CliError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(CliError::usage(format!("`{text}` is neither `true` nor `false`"))),
    }
}

/// When an image was made.
fn created(store: &Store, name: &str) -> Result<SystemTime, CliError> {
    let record = inspect::find(store, name).map_err(|error| image_error(&error))?;
    let config = inspect::config(store, &record).map_err(|error| image_error(&error))?;
    let created = config.created.as_deref().and_then(spec::parse_time);
    created.ok_or_else(|| CliError::user(format!("image `{name}` does not say when it was made")))
}

/// A time as docker takes it: how long ago, a date, or seconds since 1970.
fn point_in_time(text: &str, now: SystemTime) -> Result<SystemTime, CliError> {
    let ago = kiln_frontend::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    let ago = ago.and_then(|nanos| now.checked_sub(Duration::from_nanos(nanos)));
    let seconds = || SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(text.parse().ok()?).ok()?);
    let date = || spec::parse_time(text).or_else(|| spec::parse_time(&format!("{text}Z")));
    let day = || spec::parse_time(&format!("{text}T00:00:00Z"));
    let wrong = || {
        CliError::usage(format!("`{text}` is no time"))
            .hint("write it as in `24h`, `2024-05-31` or `2024-05-31T10:00:00Z`")
    };
    ago.or_else(seconds).or_else(date).or_else(day).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::tests::listed;
    use super::*;

    #[test]
    fn a_name_may_leave_the_tag_open_and_have_wildcards() {
        let image = listed(Some("r.example/team/app:1.0"), 0);
        let cases = [
            ("r.example/team/app", true),
            ("r.example/team/app:1.0", true),
            ("r.example/team/app:latest", false),
            ("app", false),
            ("r.example/*/app", true),
            ("r.example/team/a*:1.?", true),
            ("*app", false),
        ];
        for (text, expected) in cases {
            assert_eq!(NamePattern::parse(text).unwrap().accepts(image.name.as_ref()), expected, "{text}");
        }
        assert!(NamePattern::parse("docker.io/library/x").unwrap().accepts(listed(Some("x"), 0).name.as_ref()));
        assert!(!NamePattern::parse("*").unwrap().accepts(None));
        assert!(NamePattern::parse("A").is_err() && NamePattern::parse("[").is_err());
    }

    #[test]
    fn filters_are_those_of_docker() {
        let mut image = listed(Some("app:1.0"), 100);
        image.config.config.labels.insert("a".to_owned(), "1".to_owned());
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (filter, expected) in [
            (Filter::Dangling(true), false),
            (Filter::Dangling(false), true),
            (label("a", true), true),
            (label("a=1", true), true),
            (label("a=2", true), false),
            (label("b", true), false),
            (label("a=2", false), true),
            (label("a", false), false),
            (Filter::Before(time(101)), true),
            (Filter::Before(time(100)), false),
            (Filter::Since(time(99)), true),
            (Filter::Since(time(100)), false),
        ] {
            assert_eq!(filter.accepts(&image), expected, "{filter:?}");
        }
    }

    #[test]
    fn times_are_ages_dates_or_seconds() {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = time(10 * 86_400);
        for (text, seconds) in [
            ("24h", 9 * 86_400),
            ("60", 60),
            ("1970-01-02", 86_400),
            ("1970-01-01T00:00:07Z", 7),
            ("1970-01-01T00:00:08", 8),
        ] {
            assert_eq!(point_in_time(text, now).unwrap(), time(seconds), "{text}");
        }
        for text in ["", "yesterday", "NaN", "-1e300"] {
            assert!(point_in_time(text, now).is_err(), "{text}");
        }
    }
}
