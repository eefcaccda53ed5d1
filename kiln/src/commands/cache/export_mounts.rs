//! `kiln cache export-mounts`

use std::path::{Path, PathBuf};

use kiln_cache::Compression;
use kiln_image::ImageError;
use kiln_image::export;

use super::{mount_error, shown, with_mounts};
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::output::Output;
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
    let mut output = Output::new(Some(&args.output), "an archive")?;
    let compression = args.compression.unwrap_or_else(|| Format::of(&args.output)).compression();
    let exported = with_mounts("exporting cache mounts", args.quiet, environment, |store, watch, note| {
        let mut exported = None;
        let written = export::stream(output.destination(), watch.cancel, |output| {
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
    if output.is_stream() { Ok(()) } else { terminal::print(&exported.ids.iter().map(line).collect::<String>()) }
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
