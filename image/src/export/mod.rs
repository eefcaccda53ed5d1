//! Writing images out: archives for other tools, or the bare files.

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_cache::{Compression, ImageRecord};
use kiln_solver::{Cancel, Digest, Layer};

use crate::{ImageError, Images, Reference};

/// Where an export goes.
pub enum Destination<'a> {
    /// A file, written beside and renamed.
    File(PathBuf),
    /// A directory, merged with what is there.
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
    todo!()
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
    todo!()
}

/// Writes the files of these layers as one tar archive, to a file or stream.
///
/// # Errors
/// When a layer cannot be had, or the destination cannot be written.
pub fn tar(images: &Images, layers: &[Layer], destination: Destination<'_>, cancel: &Cancel) -> Result<(), ImageError> {
    todo!()
}

/// Writes the files of these layers into a directory.
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
    todo!()
}
