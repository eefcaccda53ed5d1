//! What is known of base images: the answers that lowering got, good and bad.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_parser::Dockerfile;
use kiln_solver::Platform;

use crate::findings::with_causes;
use crate::{BaseImage, Options, Resolver};

/// Each is found once, whoever asks.
type Answers = BTreeMap<(String, Platform), Arc<OnceLock<Result<BaseImage, String>>>>;

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

    /// Has what several builds of a Dockerfile need looked up at the same time. What is wrong with it they will tell
    /// when they are lowered.
    pub fn look_up(&self, dockerfile: &Dockerfile, builds: &[Options]) {
        if builds.len() < 2 {
            return;
        }
        std::thread::scope(|scope| {
            for options in builds {
                scope.spawn(move || crate::lower(dockerfile, options, self));
            }
        });
    }

    /// The image of this reference, if it was looked up and found.
    pub(crate) fn get(&self, reference: &str, platform: &Platform) -> Option<BaseImage> {
        let answer = self.answers().get(&(reference.to_owned(), platform.clone()))?.clone();
        answer.get()?.clone().ok()
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
        // again and again. Who asks for what another thread is asking for waits for that.
        let request = (reference.to_owned(), platform.clone());
        let answer = self.answers().entry(request).or_default().clone();
        let ask = || self.resolver.resolve(reference, platform).map_err(|error| with_causes(&*error));
        answer.get_or_init(ask).clone().map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::Duration;

    use super::*;

    /// Knows every image, once it is asked for those of two platforms at the same time.
    #[derive(Default)]
    struct Together {
        asked: Mutex<Vec<String>>,
        arrived: Condvar,
    }

    impl Resolver for Together {
        fn resolve(
            &self,
            reference: &str,
            platform: &Platform,
        ) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(format!("{reference} {platform}"));
            self.arrived.notify_all();
            let is_alone = |asked: &mut Vec<String>| asked.len() < 3;
            let (_asked, waited) = self.arrived.wait_timeout_while(asked, Duration::from_secs(60), is_alone).unwrap();
            assert!(!waited.timed_out(), "nobody else asks");
            Err("there is none".into())
        }
    }

    #[test]
    fn all_platforms_are_asked_for_at_once_and_what_they_share_once() {
        let text = "FROM --platform=$BUILDPLATFORM tools AS tools\nFROM base\nCOPY --from=tools /x /\n";
        let parsed = kiln_parser::parse(text);
        let platforms = ["linux/amd64", "linux/s390x"].map(|platform| platform.parse::<Platform>().unwrap());
        let options =
            |platform: &Platform| Options { build_platform: platforms[0].clone(), ..Options::new(platform.clone()) };
        let together = Together::default();
        let bases = KnownBases::new(&together);
        bases.look_up(&parsed.dockerfile, &platforms.each_ref().map(options));
        let mut asked = together.asked.lock().unwrap().clone();
        asked.sort();
        assert_eq!(asked, ["base linux/amd64", "base linux/s390x", "tools linux/amd64"]);
    }
}
