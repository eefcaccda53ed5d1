//! What is known of base images: the answers that lowering got.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kiln_solver::Platform;

use crate::{BaseImage, Resolver};

/// A resolver that asks another one and keeps the answers, so that checks know what lowering was told.
pub struct KnownBases<'r> {
    resolver: &'r dyn Resolver,
    answers: Mutex<BTreeMap<(String, Platform), BaseImage>>,
}

impl<'r> KnownBases<'r> {
    /// Knows nothing yet.
    pub fn new(resolver: &'r dyn Resolver) -> Self {
        Self { resolver, answers: Mutex::default() }
    }

    /// The image of this reference, if it was looked up.
    pub(crate) fn get(&self, reference: &str, platform: &Platform) -> Option<BaseImage> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&(reference.to_owned(), platform.clone())).cloned()
    }
}

impl Resolver for KnownBases<'_> {
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>> {
        // Several targets of one file are often lowered one after the other.
        if let Some(known) = self.get(reference, platform) {
            return Ok(known);
        }
        let found = self.resolver.resolve(reference, platform)?;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert((reference.to_owned(), platform.clone()), found.clone());
        Ok(found)
    }
}
