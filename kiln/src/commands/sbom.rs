//! `kiln sbom`

use std::path::PathBuf;

use kiln_cache::ImageRecord;
use kiln_image::{Images, inspect};
use kiln_sbom::Inventory;
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{self, CliError};
use crate::local::{familiar, image_error};
use crate::progress::{Progress, Style};
use crate::session::Session;
use crate::signals::Interrupt;
use crate::{packages, registry, terminal};

/// List the packages that an image has, as an SPDX document
///
/// They are read from the databases of dpkg, apk and rpm, from what npm, pip, gem and the like have installed, and from
/// lock files. Nothing of the image is run.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A name or an ID
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Write the document to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let configuration = environment.configuration()?;
    let session = Session::open(environment)?;
    let record = inspect::find(&session.store, &args.image).map_err(|error| image_error(&error))?;
    let progress = Progress::new(Style::for_transfers(false, environment), environment.colour);
    let cancel = Cancel::new();
    let interrupt = Interrupt::watch(&cancel, environment.colour)?;
    let images = registry::images(&session, configuration, environment, &progress, &cancel);
    let inventory = packages::inventory(&images, &record.layers, &cancel);
    progress.finish();
    let inventory = inventory.map_err(|error| if interrupt.is_set() { CliError::interrupted() } else { error })?;
    for problem in &inventory.problems {
        terminal::warn(&format!("{problem}; its packages are not listed"), environment.colour);
    }
    let document = document(&images, &record, &inventory, &args.image)?;
    match &args.output {
        Some(path) => std::fs::write(path, document).map_err(|error| error::io("write", path, &error)),
        None => terminal::print(&document),
    }
}

/// The same for the same image, whenever and wherever.
fn document(images: &Images, record: &ImageRecord, inventory: &Inventory, name: &str) -> Result<String, CliError> {
    let config = inspect::config(images.store(), record).map_err(|error| image_error(&error))?;
    let namespace = format!("urn:oci:{}", record.id);
    let document = packages::document(inventory, &familiar(name), &namespace, config.created.as_deref());
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| text + "\n").map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))
}
