//! Stopping a build: one flag that everything in flight can watch or be woken by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Action = Box<dyn Fn() + Send>;

/// A build's request to stop. Clones are the same request.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    requested: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    actions: HashMap<u64, Action>,
}

/// Keeps an action armed for as long as it lives.
pub struct CancelHook {
    cancel: Cancel,
    number: u64,
}

impl Cancel {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request: runs every armed action once, here and now.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let actions = std::mem::take(&mut self.hooks().actions);
        for action in actions.values() {
            action();
        }
    }

    /// Whether the request has been made.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Arms an action, such as killing a process; it runs at once if the request has been made already.
    pub fn on_request(&self, action: impl Fn() + Send + 'static) -> CancelHook {
        let mut hooks = self.hooks();
        let number = hooks.next;
        hooks.next += 1;
        if self.is_requested() {
            drop(hooks);
            action();
        } else {
            hooks.actions.insert(number, Box::new(action));
        }
        CancelHook { cancel: self.clone(), number }
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CancelHook {
    fn drop(&mut self) {
        self.cancel.hooks().actions.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn an_action_runs_once_and_only_while_armed() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = |runs: &Arc<AtomicUsize>| {
            let runs = runs.clone();
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        let cancel = Cancel::new();
        drop(cancel.on_request(count(&runs)));
        let _armed = cancel.on_request(count(&runs));
        cancel.request();
        cancel.request();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let _late = cancel.on_request(count(&runs));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
