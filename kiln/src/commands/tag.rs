//! `kiln tag`

use std::time::SystemTime;

use kiln_cache::ImageRecord;
use kiln_image::inspect;

use super::build::parse_tag;
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::session::{Session, store_error};

/// Give an image another name
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The image, by name or ID
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Its new name; an image that has it now loses it
    #[arg(value_name = "TARGET[:TAG]")]
    target: String,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let target = parse_tag(&args.target)?;
    let store = Session::open(environment)?.store;
    let image = inspect::find(&store, &args.source).map_err(|error| image_error(&error))?;
    let image = ImageRecord { tagged: SystemTime::now(), ..image };
    store.tag(&target.to_string(), &image).map_err(|error| store_error(&error))?;
    // It has a name now: being listed under its ID is over.
    store.untag(&image.identity().to_string()).map_err(|error| store_error(&error))?;
    Ok(())
}
