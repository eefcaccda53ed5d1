//! `kiln push`

use kiln_cache::{ImageRecord, Store};
use kiln_image::export::Package;
use kiln_image::push::{Targets, push};
use kiln_image::{ImageError, Images, Reference};
use kiln_solver::{Cancel, Digest};

use super::build::parse_tag;
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::progress::{Progress, Style};
use crate::session::store_error;
use crate::terminal;
use crate::transfer::Transfer;

/// Send images to registries
///
/// What a registry has already is not sent again: it is asked for each layer. Layers of a base image that came from the
/// same registry never pass through this machine.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The names of images, each with its registry: `registry.example/team/app:1.0`
    #[arg(value_name = "NAME[:TAG]", required = true)]
    names: Vec<String>,

    /// Push every tag that the store has of each name
    #[arg(short, long)]
    all_tags: bool,

    /// Print nothing but the names that were pushed
    #[arg(short, long)]
    quiet: bool,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let asked = args.names.iter().map(|name| parse_tag(name)).collect::<Result<Vec<_>, _>>()?;
    let transfer = Transfer::begin(Style::for_transfers(args.quiet, environment), environment)?;
    let images = transfer.images();
    let mut report = String::new();
    let found = find(&transfer.session.store, &asked, args.all_tags);
    let result = found.and_then(|found| {
        found.iter().try_for_each(|(record, names)| {
            let (digest, size) = push_one(&images, record, names, &transfer.progress, &transfer.cancel)?;
            for name in names {
                report.push_str(&if args.quiet { format!("{name}\n") } else { line(name, &digest, size) });
            }
            Ok(())
        })
    });
    let ended = transfer.end(result, CliError::stopped("the push was cancelled; what has arrived by now stays there"));
    terminal::print(&report)?;
    ended
}

/// The images to push, each with its names.
fn find(store: &Store, asked: &[Reference], all_tags: bool) -> Result<Vec<(ImageRecord, Vec<Reference>)>, CliError> {
    let mut found: Vec<(ImageRecord, Vec<Reference>)> = Vec::new();
    let mut add = |record: ImageRecord, name: Reference| match found
        .iter_mut()
        .find(|(known, _)| known.identity() == record.identity())
    {
        Some((_, names)) => names.push(name),
        None => found.push((record, vec![name])),
    };
    for name in asked {
        let missing = || image_error(&ImageError::NoImage(name.familiar()));
        if all_tags {
            let all = store.images().map_err(|error| store_error(&error))?.into_iter();
            let named = all.filter_map(|(text, record)| Some((record, Reference::parse(&text).ok()?)));
            let tags: Vec<_> = named.filter(|(_, other)| other.name() == name.name()).collect();
            if tags.is_empty() {
                return Err(missing());
            }
            tags.into_iter().for_each(|(record, name)| add(record, name));
        } else {
            let record = store.image(&name.to_string()).map_err(|error| store_error(&error))?.ok_or_else(missing)?;
            add(record, name.clone());
        }
    }
    Ok(found)
}

/// Pushes an image; yields digest and size of its manifest.
fn push_one(
    images: &Images,
    record: &ImageRecord,
    names: &[Reference],
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Digest, usize), CliError> {
    let all: Vec<String> = names.iter().map(Reference::familiar).collect();
    progress.during(&format!("pushing {}", all.join(", ")), |group| {
        let package = Package::to_push(images, record, names, cancel).map_err(|error| image_error(&error))?;
        let parcel = package.parcel();
        let targets = Targets { names: names.to_vec(), by_digest: false };
        push(images, &parcel, &targets, cancel).map_err(|error| image_error(&error))?;
        let made = parcel.digest().ok_or_else(|| CliError::bug("what was pushed has no manifest"))?;
        progress.note(group, &format!("pushing manifest {made} done"));
        Ok((made, parcel.manifest_size()))
    })
}

/// The line with which `docker push` ends.
fn line(name: &Reference, digest: &Digest, size: usize) -> String {
    format!("{}: digest: {digest} size: {size}\n", name.tag.as_deref().unwrap_or_default())
}
