//! Lists of the packages of trees, as SPDX documents: for `kiln sbom`, and for attestations of builds.

use kiln_cache::{StoredLayer, View};
use kiln_image::{ImageError, Images};
use kiln_sbom::Inventory;
use kiln_sbom::spdx::{Document, Heading};
use kiln_solver::{Cancel, Layer};

use crate::error::{CliError, Kind};
use crate::local::image_error;
use crate::session::store_error;

/// The name and version of this program, as documents have it.
const TOOL: &str = concat!("kiln-", env!("CARGO_PKG_VERSION"));
/// When something was made of which nobody knows.
const LONG_AGO: &str = "1970-01-01T00:00:00Z";

/// What the tree of these layers has; those that are elsewhere are fetched.
pub(crate) fn inventory(images: &Images, layers: &[Layer], cancel: &Cancel) -> Result<Inventory, CliError> {
    images.ensure(layers, cancel).map_err(|error| image_error(&error))?;
    let stored = |layer: &Layer| -> Result<StoredLayer, CliError> {
        let stored = images.store().layer(&layer.diff_id).map_err(|error| store_error(&error))?;
        stored.ok_or_else(|| image_error(&ImageError::LostLayer(layer.diff_id)))
    };
    let layers = layers.iter().map(stored).collect::<Result<_, _>>()?;
    Inventory::of(&View::new(layers)).map_err(|error| CliError::from_error(Kind::Environment, &error))
}

/// The document of an inventory: the same for the same, whenever and wherever. `created` is when what it is of was made.
pub(crate) fn document(inventory: &Inventory, name: &str, namespace: &str, created: Option<&str>) -> Document {
    Document::new(inventory, &Heading { name, namespace, created: created.unwrap_or(LONG_AGO), tool: TOOL })
}
