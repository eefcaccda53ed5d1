//! `kiln sbom`

use std::path::PathBuf;

use kiln_cache::{ImageRecord, StoredLayer, View};
use kiln_image::{Images, inspect};
use kiln_sbom::Inventory;
use kiln_sbom::spdx::{Document, Heading};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::{self, CliError, Kind};
use crate::local::{familiar, image_error};
use crate::progress::{Progress, Style};
use crate::session::{Session, store_error};
use crate::signals::Interrupt;
use crate::{registry, terminal};

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
    let inventory = inventory(&images, &record, &cancel);
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

/// What an image has; layers that are elsewhere are fetched.
fn inventory(images: &Images, record: &ImageRecord, cancel: &Cancel) -> Result<Inventory, CliError> {
    images.ensure(&record.layers, cancel).map_err(|error| image_error(&error))?;
    let stored = |layer: &kiln_solver::Layer| -> Result<StoredLayer, CliError> {
        let stored = images.store().layer(&layer.diff_id).map_err(|error| store_error(&error))?;
        stored.ok_or_else(|| image_error(&kiln_image::ImageError::LostLayer(layer.diff_id)))
    };
    let layers = record.layers.iter().map(stored).collect::<Result<_, _>>()?;
    Inventory::of(&View::new(layers)).map_err(|error| CliError::from_error(Kind::Environment, &error))
}

/// The same for the same image, whenever and wherever.
fn document(images: &Images, record: &ImageRecord, inventory: &Inventory, name: &str) -> Result<String, CliError> {
    let config = inspect::config(images.store(), record).map_err(|error| image_error(&error))?;
    let heading = Heading {
        name: &familiar(name),
        namespace: &format!("urn:oci:{}", record.id),
        created: config.created.as_deref().unwrap_or("1970-01-01T00:00:00Z"),
        tool: concat!("kiln-", env!("CARGO_PKG_VERSION")),
    };
    let text = serde_json::to_string_pretty(&Document::new(inventory, &heading));
    text.map(|text| text + "\n").map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))
}
