//! Joins crates that do not know each other: what lowering and the executor ask for, answered by
//! [`Images`].

use std::sync::Arc;

use kiln_executor::{BoxError, Executor, ImageLayers, Part};
use kiln_frontend::{BaseImage, Resolver};
use kiln_image::remote_cache::{Contents, Select, Selector};
use kiln_image::{ImageError, Images, Location, Pull};
use kiln_solver::{Cancel, Digest, Layer, Platform};

use crate::local::image_error;
use crate::progress::Progress;

/// Finds base images, and shows that it does.
pub(super) struct BaseImages<'a> {
    pub(super) images: &'a Images,
    pub(super) progress: &'a Progress,
    pub(super) pull: Pull,
    /// Whether there are several platforms, so that it matters for which of them one is.
    pub(super) shows_platform: bool,
}

impl Resolver for BaseImages<'_> {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<BaseImage, BoxError> {
        let location = Location::parse(reference)?;
        let name = match self.shows_platform {
            true => format!("[{platform} internal] load metadata for {location}"),
            false => format!("[internal] load metadata for {location}"),
        };
        let resolved = self.progress.during(&name, |_| {
            self.images.resolve(&location, platform, self.pull).map_err(|error| image_error(&error))
        })?;
        Ok(BaseImage { reference: resolved.reference, digest: resolved.digest, image: resolved.image })
    }
}

/// The layers of base images.
pub(super) struct Layers(pub(super) Arc<Images>);

impl ImageLayers for Layers {
    fn stack(&self, image: &Digest) -> Result<Vec<Layer>, BoxError> {
        Ok(self.0.stack(image)?)
    }

    fn ensure(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), BoxError> {
        match self.0.ensure(layers, cancel) {
            Ok(()) => Ok(()),
            Err(ImageError::Cancelled) => Err(Box::new(kiln_solver::StepError::Cancelled)),
            Err(error) => Err(Box::new(error)),
        }
    }
}

/// What BuildKit's keys are made of beside the steps.
pub(super) struct Inputs<'a> {
    pub(super) executor: &'a Executor,
    pub(super) images: &'a Images,
    pub(super) cancel: &'a Cancel,
}

impl Contents for Inputs<'_> {
    fn of_context(&self, name: &str, selectors: &[Selector]) -> Option<Vec<Digest>> {
        let hash = |Selector { path, select }: &Selector| {
            let part = match select {
                Select::Path => Part::Path(path),
                Select::Matches => Part::Matches(path),
                Select::Wholes => Part::Wholes(path),
            };
            self.executor.content_hash(name, part, self.cancel)
        };
        selectors.iter().map(hash).collect()
    }

    fn layers_of(&self, image: &Digest) -> Option<Vec<Digest>> {
        Some(self.images.stack(image).ok()?.iter().map(|layer| layer.diff_id).collect())
    }
}
