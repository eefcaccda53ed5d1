//! Waiting for the network without missing the request to stop.

use std::sync::mpsc;
use std::time::Duration;

use kiln_solver::Cancel;

use crate::ImageError;

/// Does some work on another thread and waits for it, or for the request to stop, whichever comes first. Work
/// that is not waited for any more ends by its own time limits.
pub(super) fn interruptible<T: Send + 'static>(
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ImageError> {
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
    match receiver.recv() {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(ImageError::Cancelled),
        Err(_) => Err(ImageError::Thread("finish a request: its thread died")),
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
