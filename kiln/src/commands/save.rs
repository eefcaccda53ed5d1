//! `kiln save`

use std::path::PathBuf;

use kiln_cache::{ImageRecord, Store};
use kiln_image::export::{self, Destination, Format, Package};
use kiln_image::{ImageError, Images, Reference, inspect};
use kiln_solver::{Cancel, Platform};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::{image_error, is_nameless};
use crate::output::Output;
use crate::progress::Style;
use crate::transfer::Transfer;

/// Write images into an archive
///
/// `docker load`, `podman load` and `kiln load` read it; it is an OCI image layout as well. A name without a tag stands
/// for all tags of its repository.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Of images for several platforms the one for this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// What the archive is to be
    #[arg(long, value_enum, default_value_t = Kinds::Docker, value_name = "FORMAT")]
    format: Kinds,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kinds {
    /// What `docker save` writes, an OCI image layout as well
    #[value(alias = "docker-archive")]
    Docker,
    /// An OCI image layout
    #[value(alias = "oci-archive")]
    Oci,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let parse = |text: &String| text.parse().map_err(|error| CliError::from_error(Kind::Usage, &error));
    let platform: Option<Platform> = args.platform.as_ref().map(parse).transpose()?;
    let mut output = Output::new(args.output.as_deref(), "an archive")?;
    let transfer = Transfer::begin(Style::for_transfers(args.quiet, environment), environment)?;
    let chosen = find(&transfer.session.store, &args.images, platform.as_ref()).map_err(|error| image_error(&error));
    let format = if args.format == Kinds::Oci { Format::Oci } else { Format::Docker };
    let saved = chosen.and_then(|chosen| {
        let write = |_| write(&transfer.images(), &chosen, format, output.destination(), &transfer.cancel);
        transfer.progress.during("saving", write)
    });
    transfer.end(saved, CliError::stopped("saving was cancelled"))
}

/// An image and the names that it is saved under.
type Chosen = (ImageRecord, Vec<Reference>);

/// The images that are asked for, each once.
fn find(store: &Store, asked: &[String], platform: Option<&Platform>) -> Result<Vec<Chosen>, ImageError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in asked {
        for (record, name) in named(store, text)? {
            let record = match platform {
                Some(platform) => inspect::for_platform(&record, text, platform)?,
                None => record,
            };
            match chosen.iter_mut().find(|(known, _)| known.identity() == record.identity()) {
                Some((_, names)) => names.extend(name.filter(|name| !names.contains(name))),
                None => chosen.push((record, name.into_iter().collect())),
            }
        }
    }
    Ok(chosen)
}

/// The images that a text means: one, or all of a repository.
fn named(store: &Store, text: &str) -> Result<Vec<(ImageRecord, Option<Reference>)>, ImageError> {
    if let Ok(reference) = Reference::parse(text) {
        let is_bare =
            reference.digest.is_none() && !reference.tag.as_ref().is_some_and(|tag| text.ends_with(&format!(":{tag}")));
        let is_meant = |name: &Reference| match is_bare {
            true => name.name() == reference.name(),
            false => name.to_string() == reference.to_string(),
        };
        let all = store.images()?.into_iter().filter(|(name, _)| !is_nameless(name));
        let parsed = all.filter_map(|(name, record)| Some((record, Reference::parse(&name).ok()?)));
        let found: Vec<_> =
            parsed.filter(|(_, name)| is_meant(name)).map(|(record, name)| (record, Some(name))).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(vec![(inspect::find(store, text)?, None)])
}

fn write(
    images: &Images,
    chosen: &[Chosen],
    format: Format,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<(), CliError> {
    let package = |(record, names): &Chosen| Package::of(images, record, names, cancel);
    let packages = chosen.iter().map(package).collect::<Result<Vec<_>, _>>();
    let written = packages.and_then(|packages| export::write(&packages, format, destination, cancel));
    written.map_err(|error| image_error(&error))
}
