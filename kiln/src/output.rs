//! Where commands that write archives write them: a file, or standard output.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use kiln_image::export::Destination;

use crate::error::{self, CliError};

/// The file that was named, or standard output.
pub(crate) enum Output {
    /// That file.
    File(PathBuf),
    /// Standard output.
    Stdout(File),
}

impl Output {
    /// Of what `--output` says: standard output where that is nothing, or `-`. `what` is written, such as `an archive`.
    ///
    /// # Errors
    /// When standard output is a terminal.
    pub(crate) fn new(path: Option<&Path>, what: &str) -> Result<Self, CliError> {
        if let Some(path) = path.filter(|path| path.as_os_str() != "-") {
            return Ok(Self::File(path.to_owned()));
        }
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(CliError::usage(format!("{what} would be written to the terminal"))
                .hint("name a file with `--output FILE`, or redirect standard output"));
        }
        // Not `Stdout`, which would look for the ends of lines in it.
        let stdout = stdout.as_fd().try_clone_to_owned();
        let stdout = stdout.map_err(|error| error::io("write to", "standard output".as_ref(), &error))?;
        Ok(Self::Stdout(File::from(stdout)))
    }

    /// Whether it is standard output.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// For what writes it.
    pub(crate) fn destination(&mut self) -> Destination<'_> {
        match self {
            Self::File(path) => Destination::File(path.clone()),
            Self::Stdout(stdout) => Destination::Stream(stdout),
        }
    }
}
