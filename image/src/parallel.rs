//! Several of the same kind at a time; the first error stops the others.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kiln_solver::Cancel;

use crate::ImageError;

/// Does some work for each item, so many at a time. Each is given the request to stop that the first error makes.
pub(crate) fn for_each<T: Send>(
    items: impl IntoIterator<Item = T>,
    most: usize,
    cancel: &Cancel,
    work: impl Fn(T, &Cancel) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    let items: VecDeque<T> = items.into_iter().collect();
    if items.is_empty() {
        return Ok(());
    }
    let own = Cancel::new();
    let stop = own.clone();
    let _hook = cancel.on_request(move || stop.request());
    let threads = items.len().min(most);
    let queue = Mutex::new(items);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let failure: Mutex<Option<ImageError>> = Mutex::new(None);
    let take_turns = || {
        while let Some(item) = next() {
            let outcome = if own.is_requested() { Err(ImageError::Cancelled) } else { work(item, &own) };
            if let Err(error) = outcome {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                own.request();
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Should no thread be had, this one does it all.
            let _ = std::thread::Builder::new().name("kiln-fetch".to_owned()).spawn_scoped(scope, take_turns);
        }
        take_turns();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
