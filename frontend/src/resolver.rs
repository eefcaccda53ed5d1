//! The one thing that lowering asks of the outside: what a base image is.

use kiln_image::spec::Image;
use kiln_solver::{Digest, Platform};

/// Finds base images. Several references may be asked for at the same time, each once per platform.
pub trait Resolver: Sync {
    /// The image that this reference, as a user wrote it, names for this platform.
    ///
    /// # Errors
    /// Whatever kept it from being found; shown under the line that names the image.
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>>;
}

/// An image to build on or to copy from.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseImage {
    /// Its reference, fully written out, for people and for fetching.
    pub reference: String,
    /// Its identity: the digest of its manifest, or that of its config where it was built here.
    pub digest: Digest,
    /// Its config.
    pub image: Image,
}
