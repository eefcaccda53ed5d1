//! Writing images out: archives for other tools, or the bare files.
//!
//! [`package`] makes the documents of an image, [`sink`] writes named files into a tar archive or a directory,
//! [`output`] is a file that appears whole or not at all, and [`tree`] writes the files of an image to disk.

mod local;
mod output;
mod package;
mod sink;
mod tree;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_cache::{Compression, ImageRecord, StoredLayer, View};
use kiln_solver::{Cancel, Digest, Layer};

use crate::push::{Document, Parcel, ParcelBlob, Place};
use crate::registry::Content;
use crate::spec::Descriptor;
use crate::{ImageError, Images, Reference};
use output::{Output, Stoppable};
use package::{Package, Vocabulary};
use sink::{ArchiveSink, DirectorySink};

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

/// How an image is written out.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// Its names.
    pub names: Vec<Reference>,
    /// How layers made here are compressed; gzip where absent. Layers of a base image stay as they were pulled.
    pub compression: Option<Compression>,
}

/// How files are written out.
#[derive(Clone, Copy, Debug)]
pub struct LocalOptions {
    /// Whether they get the owners that they have in the image (root alone can do that), or belong to the user.
    pub keep_owners: bool,
}

/// Writes an OCI image layout: a tar archive, or a directory. Returns the digest of the manifest.
///
/// # Errors
/// When a layer cannot be had, or the destination cannot be written.
pub fn oci(
    images: &Images,
    image: &ImageRecord,
    options: &ImageOptions,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<Digest, ImageError> {
    let package = Package::make(images, image, options, Vocabulary::Oci, cancel)?;
    write(&package, destination, cancel)
}

/// Writes an archive for `docker load`, which is an OCI image layout as well. Returns the digest of the manifest.
///
/// # Errors
/// When a layer cannot be had, or the destination cannot be written.
pub fn docker(
    images: &Images,
    image: &ImageRecord,
    options: &ImageOptions,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<Digest, ImageError> {
    let package = Package::make(images, image, options, Vocabulary::Docker, cancel)?;
    write(&package, destination, cancel)
}

/// What is to be pushed of an image.
///
/// # Errors
/// When a layer cannot be had.
pub fn parcel(
    images: &Images,
    image: &ImageRecord,
    options: &ImageOptions,
    cancel: &Cancel,
) -> Result<Parcel, ImageError> {
    let package = Package::make(images, image, options, Vocabulary::Oci, cancel)?;
    let layer = |(descriptor, layer): (Descriptor, &Layer)| ParcelBlob { descriptor, at: Place::Layer(*layer) };
    let mut blobs: Vec<ParcelBlob> = package.layers.into_iter().zip(&image.layers).map(layer).collect();
    blobs.push(ParcelBlob { descriptor: package.config, at: Place::Here(Content::of(&package.config_bytes)) });
    let document = Document { media_type: package.descriptor.media_type, bytes: package.manifest };
    Ok(Parcel { documents: vec![document], blobs })
}

/// Writes the files of these layers as one tar archive, to a file or stream.
///
/// # Errors
/// When a layer cannot be had, or the destination cannot be written.
pub fn tar(images: &Images, layers: &[Layer], destination: Destination<'_>, cancel: &Cancel) -> Result<(), ImageError> {
    let view = View::new(stored(images, layers, cancel)?);
    match destination {
        Destination::File(path) => {
            let mut output = Output::create(&path)?;
            let written = Stoppable::write(&mut output, cancel, |output| Ok(view.write_archive(output)?));
            written.map_err(|error| output.explain(error))?;
            output.finish()
        }
        Destination::Stream(stream) => Stoppable::write(stream, cancel, |output| {
            view.write_archive(output)?;
            output.flush().map_err(ImageError::Output)
        }),
        Destination::Directory(path) => Err(not_a_file(&path)),
    }
}

/// Writes the files of these layers into a directory. One that does not exist yet appears when it is complete.
/// Into one that does, they are merged: files of the same name are replaced, others stay, and no symbolic link
/// in it is followed.
///
/// # Errors
/// When a layer cannot be had, or the directory cannot be written.
pub fn local(
    images: &Images,
    layers: &[Layer],
    directory: &Path,
    options: LocalOptions,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let view = View::new(stored(images, layers, cancel)?);
    local::write(&view, directory, options, cancel)
}

fn write(package: &Package, destination: Destination<'_>, cancel: &Cancel) -> Result<Digest, ImageError> {
    match destination {
        Destination::File(path) => {
            let mut output = Output::create(&path)?;
            let written = package.write(&mut ArchiveSink::new(&mut output), cancel);
            written.map_err(|error| output.explain(error))?;
            output.finish()?;
        }
        Destination::Stream(stream) => package.write(&mut ArchiveSink::new(stream), cancel)?,
        Destination::Directory(path) => DirectorySink::fill(&path, |sink| package.write(sink, cancel))?,
    }
    Ok(package.digest())
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
