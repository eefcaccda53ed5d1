//! Compressing before it is asked for, while a build goes on: by threads that give way to all others.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::time::SystemTime;

use kiln_solver::{Cancel, Digest};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Compression;
use crate::{Store, StoreError};

/// How much lower than usual the priority is (nice(2)) of what is done ahead.
const NICE: i32 = 10;

/// How urgently something is compressed.
#[derive(Clone, Copy)]
pub(crate) enum Urgency<'a> {
    /// Somebody waits for it.
    Now,
    /// Somebody may want it later, unless this is requested.
    Ahead(&'a Cancel),
}

impl Urgency<'_> {
    /// Fails where it is not wanted any more.
    pub(super) fn check(self) -> io::Result<()> {
        match self {
            Self::Ahead(cancel) if cancel.is_requested() => Err(io::Error::other("it is not wanted any more")),
            Self::Now | Self::Ahead(_) => Ok(()),
        }
    }

    /// Threads for compression alone: a caller may be a thread of rayon's own pool, and would wait for itself there.
    pub(super) fn pool(self) -> Option<&'static ThreadPool> {
        static NOW: OnceLock<Option<ThreadPool>> = OnceLock::new();
        static AHEAD: OnceLock<Option<ThreadPool>> = OnceLock::new();
        let threads =
            |name: &'static str| ThreadPoolBuilder::new().thread_name(move |number| format!("{name}-{number}"));
        let pool = match self {
            Self::Now => NOW.get_or_init(|| threads("kiln-gzip").build().ok()),
            Self::Ahead(_) => AHEAD.get_or_init(|| threads("kiln-ahead").start_handler(|_| give_way()).build().ok()),
        };
        pool.as_ref()
    }
}

/// Has this thread, and those that it starts, run when others need not; for good, as nobody but root may take it back.
fn give_way() {
    thread_local!(static GIVES_WAY: Cell<bool> = const { Cell::new(false) });
    if !GIVES_WAY.replace(true) {
        // One that is denied even this is as good as any other.
        let _ = rustix::process::nice(NICE);
    }
}

impl Store {
    /// Makes what an export will need of a layer that was made here: its blob, or that of the layer in which no file is
    /// younger than `latest` (see [`Store::clamp_layer`]). The thread that calls this gives way to others from then on.
    ///
    /// # Errors
    /// As [`Store::layer_blob`], and when `cancel` is requested. Nothing is left of it then.
    pub fn compress_ahead(
        &self,
        diff_id: &Digest,
        latest: Option<SystemTime>,
        compression: Compression,
        cancel: &Cancel,
    ) -> Result<(), StoreError> {
        give_way();
        let urgency = Urgency::Ahead(cancel);
        let clamped = match latest {
            Some(latest) => self.clamp_layer_with(diff_id, latest, compression, urgency)?,
            None => *diff_id,
        };
        if clamped == *diff_id {
            self.make_layer_blob(diff_id, compression, urgency)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use std::time::{Duration, UNIX_EPOCH};

    const GZIP: Compression = Compression::Gzip { level: 6 };

    fn sample(store: &Store) -> Digest {
        let made = layer(store, |files| {
            std::fs::write(files.join("f"), (0..3_000_000_u32).map(|n| (n / 7) as u8).collect::<Vec<_>>()).unwrap();
            set_mtime(&files.join("f"), 1_000_000_000);
        });
        *made.diff_id()
    }

    #[test]
    fn what_was_made_ahead_is_what_is_found() {
        let (_one, now) = store();
        let (_two, ahead) = store();
        let layer = sample(&now);
        assert_eq!(sample(&ahead), layer);
        for compression in [GZIP, Compression::Zstd { level: 3 }, Compression::Uncompressed] {
            assert_eq!(ahead.find_layer_blob(&layer, compression).unwrap(), None);
            ahead.compress_ahead(&layer, None, compression, &Cancel::new()).unwrap();
            let found = ahead.find_layer_blob(&layer, compression).unwrap().unwrap();
            assert_eq!(now.layer_blob(&layer, compression).unwrap(), found);
        }
        let latest = UNIX_EPOCH + Duration::from_secs(5);
        ahead.compress_ahead(&layer, Some(latest), GZIP, &Cancel::new()).unwrap();
        let clamped = now.clamp_layer(&layer, latest, GZIP).unwrap();
        assert_ne!(clamped, layer);
        assert_eq!(ahead.known_blob(&clamped).unwrap(), now.known_blob(&clamped).unwrap());
        assert!(ahead.known_blob(&clamped).unwrap().is_some());
    }

    #[test]
    fn what_is_not_wanted_any_more_leaves_nothing() {
        let (_root, store) = store();
        let layer = sample(&store);
        let cancel = Cancel::new();
        cancel.request();
        for compression in [GZIP, Compression::Zstd { level: 3 }, Compression::Uncompressed] {
            assert!(store.compress_ahead(&layer, None, compression, &cancel).is_err());
            assert_eq!(store.find_layer_blob(&layer, compression).unwrap(), None);
        }
        assert!(store.compress_ahead(&layer, Some(UNIX_EPOCH), GZIP, &cancel).is_err());
        assert_eq!(left_in_tmp(&store), 0);
        assert!(store.layer_blob(&layer, GZIP).is_ok());
    }

    #[test]
    fn only_threads_that_work_ahead_give_way() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let pool = |urgency: Urgency<'_>| urgency.pool().unwrap().install(nice);
        assert_eq!(pool(Urgency::Ahead(&Cancel::new())), (before + NICE).min(19));
        assert_eq!((pool(Urgency::Now), nice()), (before, before));
    }
}
