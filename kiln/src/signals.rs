//! Ctrl-C: the first one stops the build in order, a second one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_solver::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::console;
use crate::error::CliError;
use crate::terminal;

/// What the process ends with when a signal stopped it.
const INTERRUPTED: i32 = 130;

/// How long a build may take to stop. Then the process ends as it is, which the store can bear, and every
/// command it runs dies with it.
const PATIENCE: Duration = Duration::from_millis(900);

/// Whether a signal has asked the build to stop.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Interrupt {
    /// Watches for signals from now on, and makes `cancel`'s request at the first one.
    pub(crate) fn watch(cancel: &Cancel, colour: bool) -> Result<Self, CliError> {
        let interrupt = Self::default();
        interrupt.install(cancel.clone(), colour).map_err(|error| {
            CliError::environment(format!("cannot watch for signals: {}", crate::error::plain_io(&error)))
        })?;
        Ok(interrupt)
    }

    /// Whether a signal has come.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// Requested by a signal, and by nothing else.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn install(&self, cancel: Cancel, colour: bool) -> std::io::Result<()> {
        // Not SIGHUP: `nohup` has it ignored, and that is to stay.
        let signals = [SIGINT, SIGTERM];
        for signal in signals {
            // In this order: ends the process if the flag is set already, then sets it.
            flag::register_conditional_shutdown(signal, INTERRUPTED, self.flag.clone())?;
            flag::register(signal, self.flag.clone())?;
        }
        let mut signals = Signals::new(signals)?;
        let own = self.cancel.clone();
        let watch = move || {
            if signals.forever().next().is_some() {
                console::take_back();
                own.request();
                cancel.request();
                std::thread::sleep(PATIENCE);
                terminal::report(&CliError::interrupted(), colour);
                std::process::exit(INTERRUPTED);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
        Ok(())
    }
}
