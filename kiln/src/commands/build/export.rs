//! What happens with an image once it is built: it is written out, gets its names, and is told about.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::SystemTime;

use kiln_cache::{Compression as LayerCompression, ImageRecord};
use kiln_image::export::{self, Destination as Place, ImageOptions, LocalOptions};
use kiln_image::push::{Targets, push};
use kiln_image::{Images, Reference};
use kiln_solver::{Cancel, Digest, Layer};

use super::output::{ArchiveDestination, Compression, Destination, ImageFormat, Output};
use crate::error::{self, CliError};
use crate::local::image_error;
use crate::progress::Progress;
use crate::session::store_error;

/// The levels of the tools themselves, where the user names none.
const GZIP_LEVEL: u8 = 6;
const ZSTD_LEVEL: u8 = 3;

/// Says so before the build if an archive would end up on a terminal.
pub(super) fn check_stdout(outputs: &[Output]) -> Result<(), CliError> {
    if outputs.iter().any(Output::is_stdout) && std::io::stdout().is_terminal() {
        return Err(CliError::usage("`--output` to standard output would write an archive to the terminal")
            .hint("redirect it, or name a file with `dest=FILE`"));
    }
    Ok(())
}

/// Writes finished images.
pub(super) struct Exporter<'a> {
    pub(super) images: &'a Images,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) names: &'a [Reference],
}

impl Exporter<'_> {
    /// Writes the image as `output` says.
    pub(super) fn write(&self, image: &ImageRecord, layers: &[Layer], output: &Output) -> Result<(), CliError> {
        let name = match output {
            Output::Image { format: ImageFormat::Oci, .. } => "exporting to oci image format",
            Output::Image { format: ImageFormat::Docker, .. } => "exporting to docker image format",
            Output::Named(named) if !named.is_pushed => return Ok(()),
            Output::Named(_) => "pushing image",
            Output::Files(_) => "exporting to client directory",
            Output::Archive(_) => "exporting to client tarball",
        };
        self.progress.during(name, |group| {
            match output {
                Output::Image { format, compression, destination } => {
                    let manifest = self.write_image(image, *format, *compression, destination)?;
                    self.progress.note(group, &format!("exporting manifest {manifest} done"));
                    self.progress.note(group, &format!("exporting config {} done", image.id));
                }
                Output::Named(named) => {
                    let names = if named.names.is_empty() { self.names } else { &named.names };
                    let options =
                        ImageOptions { names: names.to_vec(), compression: layer_compression(named.compression) };
                    let manifest = self.push(image, &options, named.by_digest)?;
                    self.progress.note(group, &format!("pushing manifest {manifest} done"));
                }
                Output::Files(directory) => {
                    // As Docker does: whoever builds owns the files.
                    let options = LocalOptions { keep_owners: false };
                    export::local(self.images, layers, directory, options, self.cancel)
                        .map_err(|error| image_error(&error))?;
                    self.progress.note(group, "copying files done");
                }
                Output::Archive(destination) => {
                    let path = match destination {
                        ArchiveDestination::File(path) => Some(path),
                        ArchiveDestination::Stdout => None,
                    };
                    with_archive(path, |place| {
                        export::tar(self.images, layers, place, self.cancel).map_err(|error| image_error(&error))
                    })?;
                    self.progress.note(group, "sending tarball done");
                }
            }
            Ok(())
        })
    }

    fn push(&self, image: &ImageRecord, options: &ImageOptions, by_digest: bool) -> Result<Digest, CliError> {
        let parcel = export::parcel(self.images, image, options, self.cancel).map_err(|error| image_error(&error))?;
        let targets = Targets { names: options.names.clone(), by_digest };
        push(self.images, &parcel, &targets, self.cancel).map_err(|error| image_error(&error))?;
        parcel.digest().ok_or_else(|| CliError::bug("what was pushed has no manifest"))
    }

    fn write_image(
        &self,
        image: &ImageRecord,
        format: ImageFormat,
        compression: Compression,
        destination: &Destination,
    ) -> Result<Digest, CliError> {
        let options = ImageOptions { names: self.names.to_vec(), compression: layer_compression(compression) };
        let write = match format {
            ImageFormat::Oci => export::oci,
            ImageFormat::Docker => export::docker,
        };
        let write = |place: Place<'_>| {
            write(self.images, image, &options, place, self.cancel).map_err(|error| image_error(&error))
        };
        match destination {
            Destination::Directory(path) => write(Place::Directory(path.clone())),
            Destination::File(path) => with_archive(Some(path), write),
            Destination::Stdout => with_archive(None, write),
        }
    }

    /// Lets the store list the image: under its names, or under its ID if it has none and goes nowhere else.
    pub(super) fn name(&self, image: &ImageRecord, names: &[Reference], listed: bool) -> Result<(), CliError> {
        let image = ImageRecord { tagged: SystemTime::now(), ..image.clone() };
        let id = image.id.to_string();
        self.progress.during("exporting to image", |group| {
            self.progress.note(group, &format!("writing image {id} done"));
            let tag = |name: &str| self.images.store().tag(name, &image).map_err(|error| store_error(&error));
            for name in names {
                tag(&name.to_string())?;
                self.progress.note(group, &format!("naming to {name} done"));
            }
            if listed { tag(&id) } else { Ok(()) }
        })
    }
}

/// Runs `write` with the file of this path, or with standard output where there is none.
fn with_archive<T>(
    path: Option<&PathBuf>,
    write: impl FnOnce(Place<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let Some(path) = path else {
        // Not `Stdout`, which would look for the ends of lines in the archive.
        let stdout = std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| CliError::environment(format!("cannot write to stdout: {}", error::plain_io(&error))))?;
        return write(Place::Stream(&mut File::from(stdout)));
    };
    write(Place::File(path.clone()))
}

fn layer_compression(compression: Compression) -> Option<LayerCompression> {
    match compression {
        Compression::Any => None,
        Compression::Uncompressed => Some(LayerCompression::Uncompressed),
        Compression::Gzip(level) => Some(LayerCompression::Gzip { level: level.unwrap_or(GZIP_LEVEL) }),
        Compression::Zstd(level) => Some(LayerCompression::Zstd { level: level.unwrap_or(ZSTD_LEVEL) }),
    }
}
