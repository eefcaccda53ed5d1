//! Waiting for the network without missing the request to stop.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use kiln_solver::Cancel;

use crate::ImageError;

/// Counts bytes as they pass, so that somebody else sees whether they still do. Clones are the same meter.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

/// What passes through a meter.
pub(crate) struct Measured<R> {
    inner: R,
    meter: Meter,
}

impl Meter {
    pub(super) fn measure<R: Read>(&self, inner: R) -> Measured<R> {
        Measured { inner, meter: self.clone() }
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Does some work on another thread and waits for it, or for the request to stop, whichever comes first; `None`
/// where nothing passed the meter for as long as `silence` says, given how much had passed before. Work that is not waited for any more ends by its own
/// time limits.
pub(crate) fn attended<T: Send + 'static>(
    cancel: &Cancel,
    meter: &Meter,
    silence: impl Fn(u64) -> Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, ImageError> {
    let (sender, receiver) = mpsc::channel();
    let stop = sender.clone();
    let _hook = cancel.on_request(move || {
        let _ = stop.send(None);
    });
    let work = move || {
        let _ = sender.send(Some(work()));
    };
    let failed = ImageError::Thread("start a thread for a connection");
    std::thread::Builder::new().name("kiln-registry".to_owned()).spawn(work).map_err(|_| failed)?;
    let mut seen = meter.count();
    loop {
        match receiver.recv_timeout(silence(seen)) {
            Ok(Some(result)) => return Ok(Some(result)),
            Ok(None) => return Err(ImageError::Cancelled),
            Err(RecvTimeoutError::Timeout) if meter.count() == seen => return Ok(None),
            Err(RecvTimeoutError::Timeout) => seen = meter.count(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ImageError::Thread("finish a request: its thread died"));
            }
        }
    }
}

/// Sleeps, unless the build is asked to stop.
pub(super) fn pause(cancel: &Cancel, duration: Duration) -> Result<(), ImageError> {
    let (sender, receiver) = mpsc::channel();
    let _hook = cancel.on_request(move || {
        let _ = sender.send(());
    });
    match receiver.recv_timeout(duration) {
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
        _ => Err(ImageError::Cancelled),
    }
}
