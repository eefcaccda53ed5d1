//! `kiln images`

use std::time::SystemTime;

use kiln_cache::{ImageRecord, Store};
use kiln_image::{Reference, inspect};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::{age, image_error, is_nameless};
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// List images
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only those of this repository, with this tag if there is one
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,

    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,

    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,
}

/// Prints them.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let filter = args.name.as_deref().map(Filter::parse).transpose()?;
    let store = Session::open(environment)?.store;
    let all = store.images().map_err(|error| store_error(&error))?;
    let mut images = visible(all);
    images.retain(|image| filter.as_ref().is_none_or(|filter| filter.accepts(image)));
    images.sort_by(|a, b| b.record.tagged.cmp(&a.record.tagged).then_with(|| a.name.cmp(&b.name)));
    terminal::print(&if args.quiet { ids(&images, args.no_trunc) } else { list(&store, &images, args.no_trunc)? })
}

/// One name of an image, or none.
#[derive(Clone, Debug)]
struct Listed {
    name: Option<Reference>,
    record: ImageRecord,
}

/// What is shown of what the store has: an image without a name only if it has not got one since.
fn visible(all: Vec<(String, ImageRecord)>) -> Vec<Listed> {
    let named = |record: &ImageRecord| all.iter().any(|(name, other)| other.id == record.id && !is_nameless(name));
    let shown = all.iter().filter(|(name, record)| !is_nameless(name) || !named(record));
    let name = |name: &str| Reference::parse(name).ok().filter(|_| !is_nameless(name));
    shown.map(|(text, record)| Listed { name: name(text), record: record.clone() }).collect()
}

/// Which images are asked for.
struct Filter {
    repository: String,
    tag: Option<String>,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        let reference = Reference::parse(text).map_err(|error| CliError::from_error(Kind::User, &error))?;
        let tag = reference.tag.clone().filter(|tag| text.ends_with(&format!(":{tag}")));
        Ok(Self { repository: reference.name(), tag })
    }

    fn accepts(&self, image: &Listed) -> bool {
        image
            .name
            .as_ref()
            .is_some_and(|name| name.name() == self.repository && (self.tag.is_none() || self.tag == name.tag))
    }
}

fn ids(images: &[Listed], whole: bool) -> String {
    let mut seen = Vec::new();
    let mut text = String::new();
    for Listed { record, .. } in images {
        if !seen.contains(&record.id) {
            seen.push(record.id);
            text.push_str(&id(record, whole));
            text.push('\n');
        }
    }
    text
}

fn id(record: &ImageRecord, whole: bool) -> String {
    if whole { record.id.to_string() } else { record.id.short() }
}

fn list(store: &Store, images: &[Listed], whole: bool) -> Result<String, CliError> {
    let now = SystemTime::now();
    let mut rows = Vec::with_capacity(images.len());
    for Listed { name, record } in images {
        let config = inspect::config(store, record).map_err(|error| image_error(&error))?;
        let size = inspect::size(store, record).map_err(|error| image_error(&error))?;
        let [repository, tag] = columns(name.as_ref());
        rows.push(vec![repository, tag, id(record, whole), age(config.created.as_deref(), now), human::size(size)]);
    }
    Ok(human::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows))
}

fn columns(name: Option<&Reference>) -> [String; 2] {
    let none = || "<none>".to_owned();
    let Some(name) = name else { return [none(), none()] };
    let tag = name.tag.clone();
    let bare = Reference { tag: None, digest: None, ..name.clone() };
    [bare.familiar(), tag.unwrap_or_else(none)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_solver::{Digest, Platform};

    fn record(content: &str) -> ImageRecord {
        ImageRecord::new(Digest::of(content.as_bytes()), Vec::new(), Platform::host(), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn nameless_images_are_shown_until_they_get_a_name() {
        let (named, nameless) = (record("named"), record("nameless"));
        let all = vec![
            ("docker.io/library/app:1.0".to_owned(), named.clone()),
            (named.id.to_string(), named.clone()),
            (nameless.id.to_string(), nameless),
        ];
        let shown: Vec<_> = visible(all).iter().map(|image| columns(image.name.as_ref()).join(":")).collect();
        assert_eq!(shown, ["app:1.0", "<none>:<none>"]);
    }

    #[test]
    fn a_filter_may_leave_the_tag_open() {
        let image = Listed { name: Reference::parse("r.example/app:1.0").ok(), record: record("x") };
        for (text, expected) in
            [("r.example/app", true), ("r.example/app:1.0", true), ("r.example/app:latest", false), ("app", false)]
        {
            assert_eq!(Filter::parse(text).unwrap().accepts(&image), expected, "{text}");
        }
        assert!(Filter::parse("A").is_err());
    }

    #[test]
    fn each_id_is_printed_once() {
        let image = Listed { name: None, record: record("x") };
        let text = ids(&[image.clone(), image], false);
        assert_eq!(text, format!("{}\n", record("x").id.short()));
    }
}
