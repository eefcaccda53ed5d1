//! Writing images out: archives for other tools, or the bare files.
//!
//! [`package`] makes the documents of an image as [`options`] say, [`archive`] arranges them in files, [`sink`] writes
//! named files into a tar archive or a directory, [`output`] is a file that appears whole or not at all, and [`tree`]
//! writes the files of an image to disk.

mod archive;
mod local;
mod options;
mod output;
mod package;
mod sink;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::write::GzEncoder;
use kiln_cache::{StoredLayer, View};
use kiln_solver::{Cancel, Digest, Layer};

use crate::spec::{Descriptor, Index};
use crate::{ImageError, Images};
pub use archive::Format;
pub(crate) use archive::{LAYOUT_MARKER, blob_name};
pub use options::{AnnotationPlace, Annotations, ImageOptions, MediaTypes};
use output::{Output, Stoppable};
pub use package::Package;
pub(crate) use package::layer_blob;
use sink::ArchiveSink;
pub(crate) use sink::{DirectorySink, Sink};

/// Where an export goes.
pub enum Destination<'a> {
    /// A file, written beside and renamed.
    File(PathBuf),
    /// A directory. One that does not exist yet appears when it is complete; one that does gets the image
    /// added.
    Directory(PathBuf),
    /// A stream, such as standard output.
    Stream(&'a mut (dyn Write + Send)),
}

/// How files are written out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalOptions {
    /// Whether they get the owners that they have in the image (root alone can do that), or belong to the user.
    pub keep_owners: bool,
    /// When all of them are said to have changed; as they did where absent.
    pub mtime: Option<SystemTime>,
    /// Whether everything else in the directory is removed.
    pub is_mirror: bool,
}

/// The files of an image.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The directory that they go into, of the one that is written; that itself where it has no name.
    pub directory: String,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// Writes images as one archive, or as an OCI image layout in a directory, which may have others already.
///
/// # Errors
/// When a blob is not what it should be, or the destination cannot be written.
pub fn write(
    packages: &[Package],
    format: Format,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    match destination {
        Destination::File(path) => {
            let mut output = Output::create(&path)?;
            let written = archive::write(packages, format, &mut ArchiveSink::new(&mut output), cancel);
            written.map_err(|error| output.explain(error))?;
            output.finish()
        }
        Destination::Stream(stream) => archive::write(packages, format, &mut ArchiveSink::new(stream), cancel),
        Destination::Directory(path) => {
            DirectorySink::fill(&path, |sink| archive::write(packages, format, sink, cancel))
        }
    }
}

/// Writes the files of images as one tar archive, to a file or stream. All of them are said to have changed at
/// `mtime`, where there is one.
///
/// # Errors
/// When a layer cannot be had, or the destination cannot be written.
pub fn tar(
    images: &Images,
    files: &[Files],
    mtime: Option<SystemTime>,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let views = views(images, files, cancel)?;
    let trees: Vec<(&[u8], &View)> =
        files.iter().zip(&views).map(|(files, view)| (files.directory.as_bytes(), view)).collect();
    stream(destination, cancel, |output| Ok(View::write_archives(&trees, mtime, output)?))
}

/// Writes documents that are no image as the archive of an OCI image layout, compressed by gzip. `root` is what its index
/// has. The same documents give the same bytes.
///
/// # Errors
/// When the destination cannot be written.
pub fn documents(
    root: Descriptor,
    documents: &BTreeMap<Digest, Vec<u8>>,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    stream(destination, cancel, |output| {
        let mut encoder = GzEncoder::new(output, flate2::Compression::default());
        archive::write_documents(Index::of(vec![root]), documents, &mut ArchiveSink::new(&mut encoder))?;
        encoder.finish().map(drop).map_err(ImageError::Output)
    })
}

/// Writes what `work` gives to a file, which is there when it is complete, or to a stream.
///
/// # Errors
/// Those of `work`, and when the destination cannot be written.
pub fn stream(
    destination: Destination<'_>,
    cancel: &Cancel,
    work: impl FnOnce(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    match destination {
        Destination::File(path) => {
            let mut output = Output::create(&path)?;
            let written = Stoppable::write(&mut output, cancel, |output| work(output));
            written.map_err(|error| output.explain(error))?;
            output.finish()
        }
        Destination::Stream(stream) => Stoppable::write(stream, cancel, |output| {
            work(output)?;
            output.flush().map_err(ImageError::Output)
        }),
        Destination::Directory(path) => Err(not_a_file(&path)),
    }
}

/// Writes the files of images into a directory. One that does not exist yet appears when it is complete.
/// Into one that does, they are merged: files of the same name are replaced, others stay unless it is to be a mirror,
/// and no symbolic link in it is followed.
///
/// # Errors
/// When a layer cannot be had, or the directory cannot be written.
pub fn local(
    images: &Images,
    files: &[Files],
    directory: &Path,
    options: LocalOptions,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let views = views(images, files, cancel)?;
    let trees: Vec<(&str, &View)> =
        files.iter().zip(&views).map(|(files, view)| (files.directory.as_str(), view)).collect();
    local::write(&trees, directory, options, cancel)
}

fn views(images: &Images, files: &[Files], cancel: &Cancel) -> Result<Vec<View>, ImageError> {
    let view = |files: &Files| Ok(View::new(stored(images, &files.layers, cancel)?));
    let views = files.iter().map(view).collect::<Result<Vec<View>, ImageError>>()?;
    if files.len() > 1 {
        check_overlaps(files, &views)?;
    }
    Ok(views)
}

/// Images that go into the same directory may share directories and nothing else.
fn check_overlaps(files: &[Files], views: &[View]) -> Result<(), ImageError> {
    let mut seen: HashMap<(&str, Vec<u8>), bool> = HashMap::new();
    for (files, view) in files.iter().zip(views) {
        for found in view.walk(b"")? {
            let is_directory = found.entry.is_directory();
            let place = (files.directory.as_str(), found.entry.path.to_vec());
            if seen.insert(place, is_directory).is_some_and(|other| !(other && is_directory)) {
                return Err(ImageError::Overlap(found.entry.path.to_vec()));
            }
        }
    }
    Ok(())
}

fn stored(images: &Images, layers: &[Layer], cancel: &Cancel) -> Result<Vec<StoredLayer>, ImageError> {
    images.ensure(layers, cancel)?;
    let find = |layer: &Layer| images.store().layer(&layer.diff_id)?.ok_or(ImageError::LostLayer(layer.diff_id));
    layers.iter().map(find).collect()
}

fn not_a_file(path: &Path) -> ImageError {
    let reason = "an archive of files goes to a file or stream, not into a directory".to_owned();
    ImageError::Export { path: path.to_owned(), reason }
}
