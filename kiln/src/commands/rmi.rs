//! `kiln rmi`

use kiln_cache::Store;
use kiln_image::{Reference, inspect};

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::{familiar, image_error, names_of};
use crate::session::{Session, store_error};
use crate::terminal;

/// Remove names of images
///
/// An image given by its ID loses all its names. The cache keeps the layers, for later builds.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Do not fail when there is no such image
    #[arg(short, long)]
    force: bool,
}

/// Removes every one that can be, and fails in the end if one could not.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let mut failures = Vec::new();
    for image in &args.images {
        match remove(&store, image) {
            Ok(removed) => {
                let lines: String = removed.iter().map(|name| format!("Untagged: {}\n", familiar(name))).collect();
                terminal::print(&lines)?;
            }
            Err(error) => failures.push(error),
        }
    }
    if args.force {
        failures.clear();
    }
    let last = failures.pop();
    for error in &failures {
        terminal::report(error, environment.colour);
    }
    last.map_or(Ok(()), Err)
}

/// Takes away a name, or all names of the image with an ID; yields those taken away.
fn remove(store: &Store, text: &str) -> Result<Vec<String>, CliError> {
    if let Ok(reference) = Reference::parse(text) {
        let name = reference.to_string();
        if let Some(record) = store.image(&name).map_err(|error| store_error(&error))? {
            untag(store, &name)?;
            if names_of(store, &record.id)?.is_empty() {
                untag(store, &record.id.to_string())?;
            }
            return Ok(vec![name]);
        }
    }
    let record = inspect::find(store, text).map_err(|error| image_error(&error))?;
    let mut removed = names_of(store, &record.id)?;
    for name in &removed {
        untag(store, name)?;
    }
    let id = record.id.to_string();
    if untag(store, &id)? && removed.is_empty() {
        removed.push(id);
    }
    Ok(removed)
}

fn untag(store: &Store, name: &str) -> Result<bool, CliError> {
    store.untag(name).map_err(|error| store_error(&error))
}
