//! What `--output` means: `type=docker,dest=app.tar`, a directory, or `-`.
//!
//! [`attributes`] reads what was written, [`annotations`] the notes among it.

mod annotations;
mod attributes;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use kiln_cache::Compression;
use kiln_image::Reference;
use kiln_image::attest::Form;
use kiln_image::export::{Annotations, Format, MediaTypes};

pub(in crate::commands) use annotations::parse_flag as parse_annotation;
use attributes::Attributes;
pub(super) use attributes::{boolean, compression, split_fields};

use crate::error::CliError;

/// One thing to do with the result when the build has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The image in kiln's own store, in registries, or both.
    Store {
        /// What it is to look like.
        image: ImageAttributes,
        /// Whether the store lists it under its names.
        is_kept: bool,
        /// How it is pushed, if it is.
        push: Option<Push>,
    },
    /// The image in a format that other tools read.
    Image {
        /// Which format.
        format: Format,
        /// What it is to look like.
        image: ImageAttributes,
        /// Where to.
        destination: Destination,
    },
    /// The files of the final stage, in a directory.
    Files(FilesOutput),
    /// The files of the final stage as one tar archive.
    Archive {
        /// Where it goes.
        destination: ArchiveDestination,
        /// What the names of the files with attestations begin with.
        attestation_prefix: String,
        /// Whether each platform gets a directory of its own; where there are several unless this says otherwise.
        platform_split: Option<bool>,
    },
    /// Nothing but what the cache keeps.
    CacheOnly,
}

/// How an image is pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Push {
    /// Whether the registries give it no tags.
    pub(super) by_digest: bool,
    /// Whether those registries need not prove who they are.
    pub(super) is_insecure: bool,
}

/// What an image looks like that is written or stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageAttributes {
    /// Its names, where they are not those of `--tag`.
    pub(super) names: Vec<Reference>,
    pub(super) media_types: MediaTypes,
    /// How its layers are compressed; as they are at hand where absent, and gzip where they are not compressed yet.
    pub(super) compression: Option<Compression>,
    /// Whether gzip is eStargz, for registries that files are fetched from one by one.
    pub(super) is_estargz: bool,
    /// Whether layers of base images are compressed anew.
    pub(super) force_compression: bool,
    /// Whether files are made no younger than `SOURCE_DATE_EPOCH`; by default if there is one.
    pub(super) rewrite_timestamp: Option<bool>,
    pub(super) annotations: Annotations,
    /// What the manifests of attestations look like.
    pub(super) attestations: Form,
}

/// Files in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilesOutput {
    pub(super) directory: PathBuf,
    /// Whether each platform has a directory of its own; where nothing is said, if there are several.
    pub(super) platform_split: Option<bool>,
    /// Whether what else is in the directory is removed.
    pub(super) is_mirror: bool,
    /// What the names of the files with attestations begin with.
    pub(super) attestation_prefix: String,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// One archive file.
    File(PathBuf),
    /// An image layout in a directory (`tar=false`).
    Directory(PathBuf),
    /// An archive on standard output.
    Stdout,
    /// The container engine of this machine; Docker's with this context, where one is named.
    Engine(Option<String>),
}

/// Where an archive of files goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveDestination {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl ImageAttributes {
    /// Its own names, or else these.
    pub(super) fn names_or<'n>(&'n self, tags: &'n [Reference]) -> &'n [Reference] {
        if self.names.is_empty() { tags } else { &self.names }
    }
}

impl Output {
    /// Whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(
            self,
            Self::Image { destination: Destination::Stdout, .. }
                | Self::Archive { destination: ArchiveDestination::Stdout, .. }
        )
    }

    /// Whether nothing of the result has to be on this machine for it.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::CacheOnly | Self::Store { is_kept: false, .. })
    }

    /// Whether it is loaded into a container engine, and with which context.
    pub(crate) fn engine(&self) -> Option<Option<&str>> {
        match self {
            Self::Image { destination: Destination::Engine(context), .. } => Some(context.as_deref()),
            _ => None,
        }
    }

    /// What the image is to look like, where one is made.
    pub(super) fn image(&self) -> Option<&ImageAttributes> {
        match self {
            Self::Store { image, .. } | Self::Image { image, .. } => Some(image),
            Self::Files(_) | Self::Archive { .. } | Self::CacheOnly => None,
        }
    }

    /// Parses the value of one `--output`.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        Attributes::parse(text).and_then(Attributes::finish).map_err(|error| {
            error.context(format!("`--output {text}`")).hint("see `kiln build --help` for what `--output` takes")
        })
    }
}

impl FilesOutput {
    /// Whether what is removed here cannot be what the user did not think of: `directory` is below the one that kiln was
    /// started in, as far as links are concerned, too.
    pub(super) fn is_below(&self, current: &Path) -> bool {
        let Ok(current) = current.canonicalize() else { return false };
        let path = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        // Of a directory that does not exist yet, the one above has a say.
        let Some(existing) = path.ancestors().find_map(|above| above.canonicalize().ok()) else { return false };
        let is_new = !path.exists();
        let has_parent = path.components().any(|component| component == std::path::Component::ParentDir);
        !has_parent && existing.starts_with(&current) && (is_new || existing != current)
    }
}
