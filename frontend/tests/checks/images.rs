//! The images of a registry that exists only here.

use std::error::Error;

use kiln_frontend::{BaseImage, Resolver};
use kiln_image::{Reference, spec};
use kiln_solver::{Digest, Platform};

/// Knows a few images.
pub(crate) struct Registry;

impl Resolver for Registry {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        let parsed = Reference::parse(reference)?;
        let mut image = spec::Image::empty(platform);
        image.config.env = vec!["PATH=/bin".to_owned(), "LANGUAGE=en".to_owned()];
        match parsed.repository.as_str() {
            "library/debian" | "library/node" => {}
            "library/arm" => image.architecture = "arm64".to_owned(),
            "library/nonroot" => image.config.user = "1000".to_owned(),
            "library/triggers" => {
                image.config.on_build = vec!["ENV HOME_OF=/srv".to_owned(), "WORKDIR $HOME".to_owned()]
            }
            "library/shelled" => image.config.shell = vec!["/bin/bash".to_owned(), "-c".to_owned()],
            _ => return Err("no such image".into()),
        }
        let digest = Digest::of(reference.as_bytes());
        Ok(BaseImage { reference: parsed.to_string(), digest, image })
    }
}
