//! kiln's side of the sandbox: starts the helper, hands it commands and pumps their output.

use kiln_solver::{Cancel, LogStream};

use super::{ExitStatus, RunSpec, SandboxError, SandboxSettings};

/// Runs commands, any number at once.
pub struct Sandbox {
    settings: SandboxSettings,
}

impl Sandbox {
    /// A sandbox that has not started anything yet.
    pub fn new(settings: SandboxSettings) -> Self {
        Self { settings }
    }

    /// Runs a command to its end and tells `on_output` what it prints, as it comes. When this returns, every
    /// process of the command is dead and nothing of it is mounted.
    ///
    /// # Errors
    /// When the sandbox cannot be put together, the program cannot be executed or the build is cancelled.
    pub fn run(
        &self,
        spec: &RunSpec,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        let _ = (&self.settings, spec, on_output, cancel);
        todo!()
    }
}
