//! The config of an image that was built.

use std::time::SystemTime;

use kiln_cache::{ImageRecord, Store};
use kiln_solver::Layer;

use crate::ImageError;
use crate::spec::Image;

/// An image that was put together.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// What the store lists: the id is the digest of the config, which is a blob of the store now.
    pub record: ImageRecord,
    /// The config.
    pub image: Image,
    /// The bytes of the config.
    pub config: Vec<u8>,
}

/// Makes the config of an image and stores it.
///
/// `image` is the config as the frontend leaves it: the base's `rootfs` still in it, and its own history behind
/// the base's, without times. `layers` are all layers of the image, the base's first. Nothing depends on the
/// clock: a step's entry gets the time at which its layer was made, an entry without a layer that of the one
/// before, and the image the time of its last entry. So the same layers give the same image again. `fixed` is
/// the time of everything younger (`SOURCE_DATE_EPOCH`), where there is one.
///
/// # Errors
/// When the store cannot be read or written.
pub fn assemble(
    store: &Store,
    image: &Image,
    layers: &[Layer],
    fixed: Option<SystemTime>,
) -> Result<Assembled, ImageError> {
    todo!()
}
