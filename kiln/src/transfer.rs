//! What commands that move images or cache mounts begin and end with: the store, a display, and the user's interrupt.

use kiln_image::{Configuration, Images};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::{Progress, Style};
use crate::registry;
use crate::session::Session;
use crate::signals::Interrupt;

/// Work under way.
pub(crate) struct Transfer<'e> {
    /// The store.
    pub(crate) session: Session,
    /// What is shown of it.
    pub(crate) progress: Progress,
    /// Set when the user wants it to stop.
    pub(crate) cancel: Cancel,
    configuration: Configuration,
    interrupt: Interrupt,
    environment: &'e Environment,
}

impl<'e> Transfer<'e> {
    /// Begins to show what happens, and to listen for the user's interrupt.
    pub(crate) fn begin(style: Style, environment: &'e Environment) -> Result<Self, CliError> {
        let configuration = environment.configuration()?;
        let session = Session::open(environment)?;
        session.store.limit_archives(configuration.archives.limits());
        let progress = Progress::new(style, environment.colour);
        progress.keep_up();
        let cancel = Cancel::new();
        let interrupt = Interrupt::watch(&cancel, environment.colour)?;
        Ok(Self { session, progress, cancel, configuration, interrupt, environment })
    }

    /// The images of the store and of registries.
    pub(crate) fn images(&self) -> Images {
        let Self { session, progress, cancel, environment, .. } = self;
        registry::images(session, self.configuration.clone(), environment, progress, cancel)
    }

    /// Ends the display. An error of one that the user stopped is `stopped`.
    pub(crate) fn end<T>(self, result: Result<T, CliError>, stopped: CliError) -> Result<T, CliError> {
        self.progress.finish();
        result.map_err(|error| if self.interrupt.is_set() { stopped } else { error })
    }
}
