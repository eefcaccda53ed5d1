//! `kiln load`

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use kiln_image::load::{Loaded, Source};
use kiln_solver::Platform;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::image_error;
use crate::progress::Style;
use crate::terminal;
use crate::transfer::Transfer;

/// Take in images from an archive
///
/// Archives of `docker save`, `podman save`, `kiln save` and OCI image layouts, compressed with gzip, bzip2, xz or zstd
/// or not at all. An image gets its names when all of it is there.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Read this file [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Of images for several platforms the one for this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let parse = |text: &String| text.parse().map_err(|error| CliError::from_error(Kind::Usage, &error));
    let platform: Option<Platform> = args.platform.as_ref().map(parse).transpose()?;
    let input = args.input.as_ref().filter(|path| path.as_os_str() != "-");
    if input.is_none() && std::io::stdin().is_terminal() {
        return Err(CliError::usage("there is no archive on standard input")
            .hint("name a file with `--input FILE`, or redirect one"));
    }
    let transfer = Transfer::begin(Style::for_transfers(args.quiet, environment), environment)?;
    let images = transfer.images();
    let name = input.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let loaded = transfer.progress.during(&format!("loading {name}"), |_| {
        let mut stdin = std::io::stdin();
        let source = match input {
            Some(path) => Source::File(path),
            None => Source::Stream(&mut stdin),
        };
        images.load(source, platform.as_ref(), &transfer.cancel).map_err(|error| image_error(&error))
    });
    let stopped = CliError::stopped("loading was cancelled; the layers that have arrived stay");
    let loaded = transfer.end(loaded, stopped)?;
    terminal::print(&loaded.iter().map(lines).collect::<String>())
}

/// The lines with which `docker load` ends.
fn lines(Loaded { names, record }: &Loaded) -> String {
    let mut text = String::new();
    for name in names {
        let _ = writeln!(text, "Loaded image: {}", name.familiar());
    }
    if names.is_empty() {
        let _ = writeln!(text, "Loaded image ID: {}", record.identity());
    }
    text
}
