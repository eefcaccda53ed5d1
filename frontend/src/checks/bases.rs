//! What is known of base images: the answers that lowering got, good and bad.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_solver::Platform;

use crate::findings::with_causes;
use crate::{BaseImage, Resolver};

type Answers = BTreeMap<(String, Platform), Result<BaseImage, String>>;

/// A resolver that asks another one and keeps the answers, so that checks know what lowering was told.
pub struct KnownBases<'r> {
    resolver: &'r dyn Resolver,
    answers: Mutex<Answers>,
}

impl<'r> KnownBases<'r> {
    /// Knows nothing yet.
    pub fn new(resolver: &'r dyn Resolver) -> Self {
        Self { resolver, answers: Mutex::default() }
    }

    /// The image of this reference, if it was looked up and found.
    pub(crate) fn get(&self, reference: &str, platform: &Platform) -> Option<BaseImage> {
        self.answers().get(&(reference.to_owned(), platform.clone()))?.clone().ok()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for KnownBases<'_> {
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>> {
        // Several targets of one file are often lowered one after the other: what is not there is not asked for
        // again and again.
        let request = (reference.to_owned(), platform.clone());
        if let Some(known) = self.answers().get(&request) {
            return known.clone().map_err(Into::into);
        }
        let answer = self.resolver.resolve(reference, platform).map_err(|error| with_causes(&*error));
        self.answers().insert(request, answer.clone());
        answer.map_err(Into::into)
    }
}
