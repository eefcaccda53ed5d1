//! `kiln cache export-mounts`

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use kiln_cache::Compression;
use kiln_image::ImageError;
use kiln_image::export::{self, Destination};

use super::{mount_error, shown, with_mounts};
use crate::environment::Environment;
use crate::error::{self, CliError};
use crate::local::image_error;
use crate::{progress, terminal};

/// Write cache mounts into an archive
///
/// What `RUN --mount=type=cache` has gathered, for `kiln cache import-mounts` on another machine. A mount that a build
/// has is waited for. The same mounts give the same bytes.
#[derive(clap::Args, Debug)]
pub(in crate::commands) struct Args {
    /// Ids of cache mounts, as `kiln du --filter type=exec.cachemount` shows them [default: all]
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Write to this file, or to standard output with `-`
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// How it is compressed [default: as the name of the file says, else zstd]
    #[arg(long, value_enum, value_name = "FORMAT")]
    compression: Option<Format>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The values of `--compression`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Not at all
    Uncompressed,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
}

impl Format {
    /// What the name of a file says.
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tar") => Self::Uncompressed,
            Some("gz" | "tgz") => Self::Gzip,
            _ => Self::Zstd,
        }
    }

    fn compression(self) -> Compression {
        match self {
            Self::Uncompressed => Compression::Uncompressed,
            Self::Gzip => Compression::Gzip { level: 6 },
            Self::Zstd => Compression::Zstd { level: 3 },
        }
    }
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let is_stream = args.output.as_os_str() == "-";
    if is_stream && std::io::stdout().is_terminal() {
        return Err(CliError::usage("an archive would be written to the terminal")
            .hint("name a file with `--output FILE`, or redirect standard output"));
    }
    let compression = args.compression.unwrap_or_else(|| Format::of(&args.output)).compression();
    let exported = with_mounts("exporting cache mounts", args.quiet, environment, |store, watch, note| {
        let mut exported = None;
        // Not `Stdout`, which would look for the ends of lines in the archive.
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        let mut stdout = File::from(stdout.map_err(|error| error::io("write to", "standard output".as_ref(), &error))?);
        let destination = match is_stream {
            true => Destination::Stream(&mut stdout),
            false => Destination::File(args.output.clone()),
        };
        let written = export::stream(destination, watch.cancel, |output| {
            exported = Some(store.export_mounts(&args.ids, compression, output, watch).map_err(ImageError::Store)?);
            Ok(())
        });
        written.map_err(|error| match &error {
            ImageError::Store(error) => mount_error(error),
            error => image_error(error),
        })?;
        let exported = exported.unwrap_or_default();
        for socket in &exported.left_out {
            note(&format!("the socket `{}` is left out", progress::clean(&socket.to_string_lossy())));
        }
        Ok(exported)
    })?;
    let line = |id: &String| format!("Exported cache mount: {}\n", shown(id));
    if is_stream { Ok(()) } else { terminal::print(&exported.ids.iter().map(line).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_says_how_it_is_compressed() {
        for (name, format) in [
            ("a.tar", Format::Uncompressed),
            ("a.tar.gz", Format::Gzip),
            ("a.tgz", Format::Gzip),
            ("a.tar.zst", Format::Zstd),
            ("a", Format::Zstd),
            ("-", Format::Zstd),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }
}
