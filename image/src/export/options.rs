//! How an image is to be written out.

use std::collections::BTreeMap;

use kiln_cache::Compression;
use kiln_solver::Platform;

use crate::attest::Form;
use crate::spec::media_type;
use crate::{LayerNotes, Reference};

/// How an image is written out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Its names.
    pub names: Vec<Reference>,
    /// Whose media types describe it.
    pub media_types: MediaTypes,
    /// How layers made here are compressed; gzip where absent. Layers of a base image stay as they were pulled.
    pub compression: Option<Compression>,
    /// Whether layers of a base image are compressed anew where they are not so already.
    pub force_compression: bool,
    /// Notes on it.
    pub annotations: Annotations,
    /// Notes on its layers.
    pub layer_notes: LayerNotes,
    /// What the manifests of attestations look like.
    pub attestations: Form,
    /// Whether layers of a base image that were never fetched may stay where they are: for what is pushed or listed.
    pub lazy_base: bool,
}

/// Whose media types an image is described with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// Those of the OCI image specification.
    #[default]
    Oci,
    /// Those of Docker's image manifest version 2, schema 2.
    Docker,
}

/// Where a note stands, as BuildKit names the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnnotationPlace {
    /// In the manifest of an image.
    Manifest,
    /// In the index.
    Index,
    /// With the manifest, where an index lists it.
    ManifestDescriptor,
    /// With the index, where a layout lists it.
    IndexDescriptor,
}

/// Notes on images and indexes (OCI annotations), by place; those for one platform win over those for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(BTreeMap<(AnnotationPlace, Option<Platform>), BTreeMap<String, String>>);

impl AnnotationPlace {
    /// The place of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "manifest" => Self::Manifest,
            "index" => Self::Index,
            "manifest-descriptor" => Self::ManifestDescriptor,
            "index-descriptor" => Self::IndexDescriptor,
            _ => return None,
        })
    }
}

impl Annotations {
    /// Adds one; for every platform where none is given.
    pub fn add(&mut self, place: AnnotationPlace, platform: Option<Platform>, key: String, value: String) {
        self.0.entry((place, platform)).or_default().insert(key, value);
    }

    /// Adds all of these, which win over what is there.
    pub fn extend(&mut self, others: &Self) {
        for (place, notes) in &others.0 {
            self.0.entry(place.clone()).or_default().extend(notes.clone());
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are any at a place.
    pub fn has(&self, place: AnnotationPlace) -> bool {
        self.0.keys().any(|(other, _)| *other == place)
    }

    /// Whether any of them only has a place where there is an index.
    pub fn need_index(&self) -> bool {
        let of_index =
            |place: &AnnotationPlace| matches!(place, AnnotationPlace::Index | AnnotationPlace::IndexDescriptor);
        self.0.keys().any(|(place, _)| of_index(place))
    }

    /// Those at a place, for a platform or, where none is given, for no one in particular.
    pub(crate) fn at(&self, place: AnnotationPlace, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let mut notes = self.0.get(&(place, None)).cloned().unwrap_or_default();
        if let Some(platform) = platform {
            notes.extend(self.0.get(&(place, Some(platform.clone()))).cloned().unwrap_or_default());
        }
        notes
    }
}

impl MediaTypes {
    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_INDEX,
            Self::Docker => media_type::DOCKER_LIST,
        }
    }

    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    pub(super) fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }

    pub(crate) fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::Uncompressed) => media_type::OCI_LAYER,
            (Self::Oci, Compression::Gzip { .. }) => media_type::OCI_LAYER_GZIP,
            (Self::Oci, Compression::Zstd { .. }) => media_type::OCI_LAYER_ZSTD,
            (Self::Docker, Compression::Uncompressed) => media_type::DOCKER_LAYER,
            (Self::Docker, Compression::Gzip { .. }) => media_type::DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd { .. }) => media_type::DOCKER_LAYER_ZSTD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_for_a_platform_win() {
        let arm: Platform = "linux/arm64".parse().unwrap();
        let mut notes = Annotations::default();
        let mut add = |platform: Option<&Platform>, key: &str, value: &str| {
            notes.add(AnnotationPlace::Manifest, platform.cloned(), key.to_owned(), value.to_owned());
        };
        add(None, "a", "all");
        add(Some(&arm), "a", "arm");
        add(None, "b", "all");
        let at = |platform: Option<&Platform>| notes.at(AnnotationPlace::Manifest, platform);
        assert_eq!((at(None)["a"].as_str(), at(Some(&arm))["a"].as_str()), ("all", "arm"));
        assert_eq!(at(Some(&arm))["b"], "all");
        assert!(!notes.need_index() && notes.at(AnnotationPlace::Index, None).is_empty());
    }
}
