//! `kiln images`: [`filter`] says which, [`list`] makes lines of them, [`tree`] shows their platforms.

mod filter;
mod list;
mod tree;

use std::time::SystemTime;

use kiln_cache::{ImageRecord, Store};
use kiln_image::{Reference, inspect, spec};

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::{image_error, is_nameless};
use crate::session::{Session, store_error};
use crate::template::list::Format;
use crate::terminal;
use filter::Filters;

/// List images
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only those of this repository, with this tag if there is one; `*` and `?` stand for any letters
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,

    /// All images, as without: there are no intermediate ones
    #[arg(short, long)]
    all: bool,

    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,

    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,

    /// Show digests, too
    #[arg(long)]
    digests: bool,

    /// Only what this says: `dangling=true`, `label=KEY[=VALUE]`, `reference=PATTERN`, `before=IMAGE`, `since=IMAGE`,
    /// `until=TIME`; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show the platforms of each image
    #[arg(long, conflicts_with_all = ["quiet", "digests", "format"])]
    tree: bool,
}

/// Prints them.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let format = Format::parse(args.format.as_deref(), list::columns(args.digests))?;
    let now = SystemTime::now();
    let store = Session::open(environment)?.store;
    let filters = Filters::parse(&args.filter, args.name.as_deref(), &store, now)?;
    let mut images = read(&store)?;
    images.retain(|image| filters.accept(image));
    images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name_order().cmp(&b.name_order())));
    terminal::print(&match args {
        Args { tree: true, .. } => tree::show(&store, &images, args.no_trunc)?,
        Args { quiet: true, format: None, .. } => list::ids(&images, args.no_trunc),
        _ => list::show(&store, &images, &format, args.no_trunc, now)?,
    })
}

/// One name of an image, or none.
#[derive(Clone, Debug)]
struct Listed {
    name: Option<Reference>,
    record: ImageRecord,
    config: spec::Image,
    created: Option<SystemTime>,
}

impl Listed {
    /// Those of one age stand by name, with all that have none at the end.
    fn name_order(&self) -> (bool, String) {
        (self.name.is_none(), self.name.as_ref().map(ToString::to_string).unwrap_or_default())
    }
}

/// What the store has.
fn read(store: &Store) -> Result<Vec<Listed>, CliError> {
    let listed = |(name, record): (Option<Reference>, ImageRecord)| {
        let config = inspect::config(store, &record).map_err(|error| image_error(&error))?;
        let created = config.created.as_deref().and_then(spec::parse_time);
        Ok(Listed { name, record, config, created })
    };
    visible(store.images().map_err(|error| store_error(&error))?).into_iter().map(listed).collect()
}

/// What is shown of what the store has: an image without a name only if it has not got one since.
fn visible(all: Vec<(String, ImageRecord)>) -> Vec<(Option<Reference>, ImageRecord)> {
    let named = |record: &ImageRecord| {
        all.iter().any(|(name, other)| other.identity() == record.identity() && !is_nameless(name))
    };
    let shown = all.iter().filter(|(name, record)| !is_nameless(name) || !named(record));
    let name = |name: &str| Reference::parse(name).ok().filter(|_| !is_nameless(name));
    shown.map(|(text, record)| (name(text), record.clone())).collect()
}

/// How an image is called by its ID.
fn id(record: &ImageRecord, whole: bool) -> String {
    if whole { record.identity().to_string() } else { record.identity().short() }
}

#[cfg(test)]
mod tests {
    use kiln_solver::{Digest, Platform};

    use super::*;

    pub(super) fn record(content: &str) -> ImageRecord {
        ImageRecord::new(Digest::of(content.as_bytes()), Vec::new(), Platform::host(), SystemTime::UNIX_EPOCH)
    }

    pub(super) fn listed(name: Option<&str>, seconds: u64) -> Listed {
        let created = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let config = spec::Image { created: Some(spec::format_time(created)), ..spec::Image::default() };
        let record = record(name.unwrap_or_default());
        Listed { name: name.map(|name| Reference::parse(name).unwrap()), record, config, created: Some(created) }
    }

    #[test]
    fn nameless_images_are_shown_until_they_get_a_name() {
        let (named, nameless) = (record("named"), record("nameless"));
        let all = vec![
            ("docker.io/library/app:1.0".to_owned(), named.clone()),
            (named.id.to_string(), named.clone()),
            (nameless.id.to_string(), nameless),
        ];
        let shown: Vec<_> = visible(all).into_iter().map(|(name, _)| name.map(|name| name.familiar())).collect();
        assert_eq!(shown, [Some("app:1.0".to_owned()), None]);
    }
}
