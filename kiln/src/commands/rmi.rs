//! `kiln rmi`

use kiln_cache::Store;
use kiln_image::{ImageError, Reference, inspect};
use kiln_solver::Digest;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::{familiar, image_error, names_of};
use crate::session::{Session, store_error};
use crate::terminal;

/// Remove images, or names of them
///
/// The cache keeps the layers for later builds, until `kiln prune`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Remove an image by its ID even if several repositories have it, and do not fail when there is none
    #[arg(short, long)]
    force: bool,

    /// Keep what only the removed image needed, as kiln does anyway
    #[arg(long)]
    no_prune: bool,
}

/// Removes every one that can be, and fails in the end if one could not.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let mut failure = None;
    for image in &args.images {
        match remove(&store, image, args.force) {
            Ok(removed) => terminal::print(&removed.lines())?,
            Err(Refusal::Absent(error)) if args.force => terminal::report(&error, environment.colour),
            Err(Refusal::Absent(error) | Refusal::Other(error)) => {
                if let Some(earlier) = failure.replace(error) {
                    terminal::report(&earlier, environment.colour);
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// What was taken away.
struct Removed {
    names: Vec<String>,
    /// The image, if nothing is left of it but what the cache keeps.
    image: Option<Digest>,
}

/// Why nothing was.
enum Refusal {
    /// There is no such image.
    Absent(CliError),
    Other(CliError),
}

impl From<CliError> for Refusal {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

impl Removed {
    /// As docker tells it.
    fn lines(&self) -> String {
        let names = self.names.iter().map(|name| format!("Untagged: {}\n", familiar(name)));
        names.chain(self.image.map(|id| format!("Deleted: {id}\n"))).collect()
    }
}

/// Takes away a name, or all names of the image with an ID.
fn remove(store: &Store, text: &str, force: bool) -> Result<Removed, Refusal> {
    if let Ok(reference) = Reference::parse(text) {
        let name = reference.to_string();
        if let Some(record) = store.image(&name).map_err(|error| store_error(&error))? {
            untag(store, &name)?;
            let is_last = names_of(store, record.identity())?.is_empty();
            if is_last {
                untag(store, &record.identity().to_string())?;
            }
            return Ok(Removed { names: vec![name], image: is_last.then_some(*record.identity()) });
        }
    }
    let record = inspect::find(store, text).map_err(|error| match error {
        ImageError::NoImage(_) => Refusal::Absent(image_error(&error)),
        error => Refusal::Other(image_error(&error)),
    })?;
    let names = names_of(store, record.identity())?;
    let mut repositories: Vec<String> =
        names.iter().filter_map(|name| Some(Reference::parse(name).ok()?.name())).collect();
    repositories.dedup();
    if repositories.len() > 1 && !force {
        let all: Vec<String> = names.iter().map(|name| format!("`{}`", familiar(name))).collect();
        let message = format!("image `{text}` has names in several repositories: {}", all.join(", "));
        return Err(CliError::user(message).hint("`--force` removes it under all of them").into());
    }
    for name in &names {
        untag(store, name)?;
    }
    untag(store, &record.identity().to_string())?;
    Ok(Removed { names, image: Some(*record.identity()) })
}

fn untag(store: &Store, name: &str) -> Result<bool, CliError> {
    store.untag(name).map_err(|error| store_error(&error))
}
