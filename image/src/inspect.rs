//! What commands such as `kiln images`, `inspect` and `history` ask about images of the store.

use kiln_cache::{ImageRecord, Store};

use crate::ImageError;
use crate::spec::Image;

/// The image that a name or the beginning of an id means.
///
/// # Errors
/// When there is none, or the id is ambiguous.
pub fn find(store: &Store, name: &str) -> Result<ImageRecord, ImageError> {
    todo!()
}

/// The config of an image.
///
/// # Errors
/// When it is not in the store any more, or is malformed.
pub fn config(store: &Store, image: &ImageRecord) -> Result<Image, ImageError> {
    todo!()
}

/// The size of each layer unpacked, in bytes; `None` for one that was never fetched.
///
/// # Errors
/// When the store cannot be read.
pub fn layer_sizes(store: &Store, image: &ImageRecord) -> Result<Vec<Option<u64>>, ImageError> {
    todo!()
}

/// The sum of the sizes of the layers that are here, in bytes.
///
/// # Errors
/// When the store cannot be read.
pub fn size(store: &Store, image: &ImageRecord) -> Result<u64, ImageError> {
    todo!()
}
