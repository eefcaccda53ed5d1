//! `kiln cache import-mounts`

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::PathBuf;

use super::{mount_error, shown, with_mounts};
use crate::environment::Environment;
use crate::error::{self, CliError};
use crate::{progress, terminal};

const BUFFER: usize = 256 << 10;

/// Take in cache mounts from an archive
///
/// What `kiln cache export-mounts` wrote elsewhere. Builds find the mounts by the same `RUN --mount=type=cache,…`. One
/// that is here already stays as it is.
#[derive(clap::Args, Debug)]
pub(in crate::commands) struct Args {
    /// Read this file, or standard input with `-`
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,

    /// Exchange mounts that are here already; one that a build has is waited for
    #[arg(long)]
    replace: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let is_stream = args.input.as_os_str() == "-";
    if is_stream && std::io::stdin().is_terminal() {
        return Err(CliError::usage("there is no archive on standard input")
            .hint("name a file with `--input FILE`, or redirect one"));
    }
    let imported = with_mounts("importing cache mounts", args.quiet, environment, |store, watch, note| {
        let open = |path| File::open(path).map_err(|error| error::io("open", path, &error));
        let mut input: Box<dyn BufRead> = match is_stream {
            true => Box::new(BufReader::with_capacity(BUFFER, std::io::stdin())),
            false => Box::new(BufReader::with_capacity(BUFFER, open(&args.input)?)),
        };
        let imported = store.import_mounts(&mut *input, args.replace, watch).map_err(|error| mount_error(&error))?;
        for device in &imported.left_out {
            let device = progress::clean(&device.to_string_lossy());
            note(&format!("the device `{device}` is left out: an ordinary user cannot make it"));
        }
        Ok(imported)
    })?;
    let mut text = String::new();
    for mount in &imported.mounts {
        let id = shown(&mount.id);
        text.push_str(&match mount.was_kept {
            true => format!("Kept cache mount: {id} (it is here already; --replace exchanges it)\n"),
            false => format!("Imported cache mount: {id}\n"),
        });
    }
    terminal::print(&text)
}
