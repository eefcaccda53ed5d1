//! Packages as an OCI image layout, which with one more file is what `docker load` reads, too.

use std::collections::BTreeMap;

use kiln_cache::Blob;
use kiln_solver::{Cancel, Digest, Platform};
use serde::Serialize;

use super::package::{Package, Packed, json};
use super::sink::Sink;
use crate::layout::{CONTAINERD_NAME, REF_NAME};
use crate::spec::{Descriptor, Index};
use crate::{ImageError, Reference, choose};

/// What makes a directory an OCI layout.
pub(crate) const LAYOUT_MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Which files an archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Those of an OCI image layout.
    Oci,
    /// Those of `docker save`, which are an OCI image layout as well.
    Docker,
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes everything; the index, which makes an image of it all, comes last of what counts.
pub(super) fn write(
    packages: &[Package],
    format: Format,
    sink: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let index = merged_index(packages, sink)?;
    sink.directory("blobs")?;
    sink.directory("blobs/sha256")?;
    let mut documents: BTreeMap<&Digest, &Vec<u8>> = BTreeMap::new();
    let mut blobs: BTreeMap<&Digest, &Blob> = BTreeMap::new();
    for package in packages {
        documents.extend(&package.documents);
        blobs.extend(&package.blobs);
    }
    let mut digests: Vec<&Digest> = documents.keys().chain(blobs.keys()).copied().collect();
    digests.sort();
    digests.dedup();
    for digest in digests {
        match (documents.get(digest), blobs.get(digest)) {
            (Some(bytes), _) => sink.document(&blob_name(digest), bytes)?,
            (None, Some(blob)) => sink.blob(&blob_name(digest), blob, cancel)?,
            (None, None) => {}
        }
    }
    sink.document("oci-layout", LAYOUT_MARKER)?;
    if format == Format::Docker {
        let entries: Vec<DockerEntry> = packages.iter().filter_map(docker_entry).collect();
        sink.document("manifest.json", &json(&entries))?;
    }
    sink.document("index.json", &json(&index))?;
    sink.finish()
}

/// The same with documents alone.
pub(super) fn write_documents(
    index: Index,
    documents: &BTreeMap<Digest, Vec<u8>>,
    sink: &mut dyn Sink,
) -> Result<(), ImageError> {
    sink.directory("blobs")?;
    sink.directory("blobs/sha256")?;
    for (digest, bytes) in documents {
        sink.document(&blob_name(digest), bytes)?;
    }
    sink.document("oci-layout", LAYOUT_MARKER)?;
    sink.document("index.json", &json(&index))?;
    sink.finish()
}

/// The index of the layout: each package under each of its names, and what was there under others.
fn merged_index(packages: &[Package], sink: &dyn Sink) -> Result<Index, ImageError> {
    let own: Vec<Descriptor> = packages.iter().flat_map(descriptors).collect();
    let Some(existing) = sink.existing("index.json")? else {
        return Ok(Index::of(own));
    };
    let mut index: Index = serde_json::from_slice(&existing).map_err(|error| ImageError::Malformed {
        what: "index",
        name: "index.json".to_owned(),
        reason: error.to_string(),
    })?;
    let replaced = |old: &Descriptor| {
        let same_name = |new: &Descriptor| new.annotations.get(CONTAINERD_NAME) == old.annotations.get(CONTAINERD_NAME);
        let same_tag = |new: &Descriptor| new.annotations.get(REF_NAME) == old.annotations.get(REF_NAME);
        own.iter().any(|new| same_tag(new) && (same_name(new) || !old.annotations.contains_key(CONTAINERD_NAME)))
    };
    index.manifests.retain(|old| !replaced(old));
    index.manifests.extend(own);
    Ok(index)
}

fn descriptors(package: &Package) -> Vec<Descriptor> {
    if package.names.is_empty() {
        return vec![package.root.clone()];
    }
    let named = |name: &Reference| {
        let mut descriptor = package.root.clone();
        descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        descriptor.annotations.extend(name.tag.clone().map(|tag| (REF_NAME.to_owned(), tag)));
        descriptor
    };
    package.names.iter().map(named).collect()
}

/// What `docker load` takes: of several images the one that suits this machine best, or else the first. One that
/// knows indexes takes them all.
fn docker_entry(package: &Package) -> Option<DockerEntry> {
    let host = Platform::host();
    let platform = |packed: &Packed| packed.descriptor.platform.as_ref().map(|platform| platform.normalised());
    let suits = |packed: &&Packed| platform(packed).is_some_and(|platform| choose::runs_on(&host, &platform));
    let packed = package.images.iter().find(suits).or(package.images.first())?;
    Some(DockerEntry {
        config: blob_name(&packed.config.digest),
        repo_tags: package.names.iter().map(Reference::familiar).collect(),
        layers: packed.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    })
}

/// Where a layout has a blob.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
