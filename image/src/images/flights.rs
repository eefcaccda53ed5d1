//! One fetch at a time for each layer, whoever asks.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use kiln_solver::{Cancel, Digest};

use crate::ImageError;

/// How often somebody who waits looks whether the build is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The layers that are being fetched.
#[derive(Default)]
pub(super) struct Flights {
    aloft: Mutex<HashSet<Digest>>,
    landed: Condvar,
}

/// The right to fetch a layer, until dropped.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    digest: Digest,
}

impl Flights {
    /// Waits until nobody else fetches this layer.
    pub(super) fn take_off(&self, digest: Digest, cancel: &Cancel) -> Result<Flight<'_>, ImageError> {
        let mut aloft = self.aloft.lock().unwrap_or_else(PoisonError::into_inner);
        while !aloft.insert(digest) {
            if cancel.is_requested() {
                return Err(ImageError::Cancelled);
            }
            aloft = self.landed.wait_timeout(aloft, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Flight { flights: self, digest })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.aloft.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.flights.landed.notify_all();
    }
}
