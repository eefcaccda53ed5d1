//! Caches in that of GitHub Actions, laid out as BuildKit's are: a config for each branch under a key that ends in a
//! number, the youngest counts, and blobs by their digests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use kiln_solver::{Cancel, Digest};

use super::place::blob;
use super::wrap::Wrapped;
use crate::actions::{ActionsCache, Saved};
use crate::registry::{CONFIG_LIMIT, Content};
use crate::{ActionsSettings, ImageError, Images, parallel};

/// How many blobs are sent at a time.
const PARALLELISM: usize = 4;
/// How many numbers are tried that others have taken meanwhile.
const MOST_NUMBERS: u64 = 100;

/// A cache in that of GitHub Actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// Where it is.
    pub settings: ActionsSettings,
    /// What tells it from others of the repository.
    pub scope: String,
    /// The longest that reading its records, or writing it, may take.
    pub timeout: Duration,
}

impl fmt::Display for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "gha:{}", self.scope)
    }
}

impl Actions {
    /// The key of a blob.
    pub(crate) fn blob(digest: &Digest) -> String {
        format!("buildkit-blob-1-{digest}")
    }

    /// How the keys of the configs of a branch begin.
    fn index(&self, branch: &str) -> String {
        let branch = Digest::of(branch.as_bytes()).hex().to_string();
        format!("index-{}-1-{}#", self.scope, branch.get(..8).unwrap_or(&branch))
    }

    /// The configs of all branches that can be read, the job's own first.
    pub(super) fn configs(&self, cache: &ActionsCache, cancel: &Cancel) -> Result<Vec<Vec<u8>>, ImageError> {
        self.in_time(cache, cancel, |cancel| {
            let mut configs = Vec::new();
            for branch in cache.readable() {
                if let Some(entry) = cache.find(&self.index(branch), cancel)? {
                    configs.push(cache.read(&entry, "cache", CONFIG_LIMIT, cancel)?);
                }
            }
            if configs.is_empty() { Err(cache.missing(&self.scope)) } else { Ok(configs) }
        })
    }

    /// Saves the blobs that are not there yet, and then the config that makes a cache of them.
    pub(super) fn write(&self, images: &Images, wrapped: &Wrapped, cancel: &Cancel) -> Result<(), ImageError> {
        let cache = images.actions(&self.settings)?;
        let reason = "its token allows nothing to be written".to_owned();
        let denied = || ImageError::RegistrySettings { registry: cache.host(), reason };
        let branch = cache.writable().ok_or_else(denied)?;
        self.in_time(&cache, cancel, |cancel| {
            parallel::for_each(&wrapped.layers, PARALLELISM, cancel, |(layer, descriptor), cancel| {
                let key = Self::blob(&descriptor.digest);
                if cache.has(&key, cancel)? {
                    return Ok(());
                }
                let blob = blob(images, layer, &descriptor.digest, cancel)?;
                cache.save(&key, &Content::File(blob.path), blob.size, cancel).map(drop)
            })?;
            let save = |key: &str, bytes: &[u8]| cache.save(key, &Content::of(bytes), bytes.len() as u64, cancel);
            save(&Self::blob(&Digest::of(&wrapped.ledger)), &wrapped.ledger)?;
            let index = self.index(branch);
            let last =
                cache.find(&index, cancel)?.and_then(|entry| entry.key.strip_prefix(&index)?.parse::<u64>().ok());
            let first = last.unwrap_or_default().saturating_add(1);
            // Another job of the branch may be at it: the last one counts.
            for number in first..first.saturating_add(MOST_NUMBERS) {
                if save(&format!("{index}{number}"), &wrapped.config)? == Saved::Now {
                    return Ok(());
                }
            }
            let reason = format!("{MOST_NUMBERS} entries after `{index}{first}` are taken and not to be found");
            Err(ImageError::Protocol { registry: cache.host(), reason })
        })
    }

    /// Does some work for as long as it may take.
    fn in_time<T>(
        &self,
        cache: &ActionsCache,
        cancel: &Cancel,
        work: impl FnOnce(&Cancel) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let (own, is_late) = (Cancel::new(), Arc::new(AtomicBool::new(false)));
        let stop = own.clone();
        let _hook = cancel.on_request(move || stop.request());
        let (done, waits) = channel::<()>();
        let (limit, late, watched) = (self.timeout, is_late.clone(), own.clone());
        let watch = move || {
            if waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::SeqCst);
                watched.request();
            }
        };
        let thread = std::thread::Builder::new().name("kiln-timeout".to_owned()).spawn(watch);
        thread.map_err(|_| ImageError::Thread("start a thread that watches the time"))?;
        let outcome = work(&own);
        drop(done);
        match outcome {
            Err(ImageError::Cancelled) if is_late.load(Ordering::SeqCst) && !cancel.is_requested() => {
                let reason = format!("it took longer than {} seconds (`timeout`)", self.timeout.as_secs());
                Err(ImageError::Unreachable { registry: cache.host(), reason })
            }
            outcome => outcome,
        }
    }
}
