//! Which images an archive has, read from its documents.

use kiln_solver::{Digest, Layer, Platform};
use serde::Deserialize;

use super::archive::Archive;
use crate::attest::STATEMENT_LIMIT;
use crate::documents::{self, Document};
use crate::layout::{CONTAINERD_NAME, REF_NAME};
use crate::registry::{CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::spec::{Descriptor, Image, Index, Manifest};
use crate::{ImageError, Reference, choose};

/// An index may list indexes, but not for ever.
const DEEPEST_INDEX: usize = 4;
/// How many bytes the documents of one archive may have: what is read twice counts twice.
const ALL_DOCUMENTS: u64 = 64 << 20;

/// What an archive has.
pub(super) struct Contents {
    pub(super) images: Vec<Listed>,
}

/// An image, or the images of several platforms, with its names.
pub(super) struct Listed {
    pub(super) names: Vec<Reference>,
    pub(super) images: Vec<Found>,
    /// Where it is one for several platforms.
    pub(super) index: Option<FoundIndex>,
}

/// An image of an archive: its documents, and the members that are its layers.
pub(super) struct Found {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) layers: Vec<Layer>,
    pub(super) members: Vec<String>,
    pub(super) platform: Platform,
}

/// An index of an archive.
pub(super) struct FoundIndex {
    pub(super) bytes: Vec<u8>,
    /// The documents of attestations.
    pub(super) attached: Vec<Vec<u8>>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Contents {
    /// Reads what an archive says of itself. An image layout counts before docker's own documents, which know no
    /// indexes.
    pub(super) fn read(archive: &Archive, platform: Option<&Platform>) -> Result<Self, ImageError> {
        let mut reader = Reader { archive, platform, left: ALL_DOCUMENTS };
        let images = if archive.has("index.json") && archive.has("oci-layout") {
            reader.layout()?
        } else if archive.has("manifest.json") {
            reader.docker()?
        } else if archive.has("repositories") {
            return Err(archive.refused("it is of docker 1.9 or older, which kiln does not read"));
        } else {
            return Err(archive.refused("it has neither `index.json` nor `manifest.json`"));
        };
        if images.is_empty() {
            return Err(archive.refused("there is no image in it"));
        }
        Ok(Self { images })
    }
}

struct Reader<'a> {
    archive: &'a Archive,
    platform: Option<&'a Platform>,
    left: u64,
}

impl Reader<'_> {
    fn document(&mut self, member: &str, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let left = self.left.checked_sub(self.archive.size(member)?);
        self.left = left.ok_or_else(|| self.archive.refused("its documents are too large"))?;
        self.archive.document(member, what, limit)
    }

    /// A document that is a blob, verified.
    fn blob(&mut self, descriptor: &Descriptor, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let bytes = self.document(&blob_member(&descriptor.digest), what, limit)?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            let source_name = self.archive.name().to_owned();
            return Err(ImageError::WrongDigest { what, source_name, expected: descriptor.digest, found });
        }
        Ok(bytes)
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        self.archive.has(&blob_member(&descriptor.digest))
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, member: &'static str) -> Result<T, ImageError> {
        let bytes = self.document(member, member, MANIFEST_LIMIT)?;
        serde_json::from_slice(&bytes).map_err(|error| ImageError::Malformed {
            what: member,
            name: self.archive.name().to_owned(),
            reason: error.to_string(),
        })
    }

    /// The images of `index.json`, each once with all of its names.
    fn layout(&mut self) -> Result<Vec<Listed>, ImageError> {
        let index: Index = self.json("index.json")?;
        let docker: Vec<DockerEntry> =
            if self.archive.has("manifest.json") { self.json("manifest.json")? } else { Vec::new() };
        let mut seen: Vec<(Digest, Listed)> = Vec::new();
        for descriptor in index.manifests.iter().filter(|descriptor| !choose::is_attestation(descriptor)) {
            let name = name_of(descriptor);
            match seen.iter_mut().find(|(digest, _)| *digest == descriptor.digest) {
                Some((_, known)) => known.names.extend(name.filter(|name| !known.names.contains(name))),
                None => {
                    let mut listed = self.listed(descriptor)?;
                    listed.names.extend(name);
                    seen.push((descriptor.digest, listed));
                }
            }
        }
        // Where the layout has tags alone, docker's own document may have the names.
        for (_, listed) in seen.iter_mut().filter(|(_, listed)| listed.names.is_empty()) {
            let configs: Vec<String> = listed.images.iter().map(|image| Digest::of(&image.config).hex()).collect();
            let is_it = |entry: &&DockerEntry| configs.iter().any(|config| entry.config.contains(config));
            for entry in docker.iter().filter(is_it) {
                listed.names.extend(names(entry)?);
            }
        }
        Ok(seen.into_iter().map(|(_, listed)| listed).collect())
    }

    /// An image or index of a layout.
    fn listed(&mut self, descriptor: &Descriptor) -> Result<Listed, ImageError> {
        let bytes = self.blob(descriptor, "manifest", MANIFEST_LIMIT)?;
        match documents::read_document(&bytes, &descriptor.media_type, self.archive.name())? {
            Document::Manifest(manifest) => {
                let found = self.image(&manifest, bytes)?;
                self.check_platform(&found.platform)?;
                Ok(Listed { names: Vec::new(), images: vec![found], index: None })
            }
            Document::Index(index) => {
                let (mut images, mut attached) = (Vec::new(), Vec::new());
                self.descend(&index, &mut images, &mut attached, 0)?;
                if images.is_empty() {
                    return Err(self.no_platform(choose::offered(&index.manifests)));
                }
                let index = Some(FoundIndex { bytes, attached });
                Ok(Listed { names: Vec::new(), images, index })
            }
        }
    }

    /// The images that an index lists and that are all here. Of others, docker leaves out the blobs.
    fn descend(
        &mut self,
        index: &Index,
        images: &mut Vec<Found>,
        attached: &mut Vec<Vec<u8>>,
        depth: usize,
    ) -> Result<(), ImageError> {
        for descriptor in &index.manifests {
            if !self.has(descriptor) {
                continue;
            }
            if choose::is_attestation(descriptor) {
                attached.extend(self.attestation(descriptor)?);
                continue;
            }
            let bytes = self.blob(descriptor, "manifest", MANIFEST_LIMIT)?;
            match documents::read_document(&bytes, &descriptor.media_type, self.archive.name())? {
                Document::Index(_) if depth + 1 == DEEPEST_INDEX => {
                    return Err(self.archive.refused("its indexes are nested too deep"));
                }
                Document::Index(inner) => self.descend(&inner, images, attached, depth + 1)?,
                Document::Manifest(manifest) => {
                    let is_whole = manifest.layers.iter().chain([&manifest.config]).all(|part| self.has(part));
                    if is_whole {
                        let found = self.image(&manifest, bytes)?;
                        let is_wanted = |platform: &Platform| choose::runs_on(platform, &found.platform);
                        if self.platform.is_none_or(is_wanted) {
                            images.push(found);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The documents of an attestation, if all of them are here.
    fn attestation(&mut self, descriptor: &Descriptor) -> Result<Vec<Vec<u8>>, ImageError> {
        let bytes = self.blob(descriptor, "attestation", MANIFEST_LIMIT)?;
        let Document::Manifest(manifest) = documents::read_document(&bytes, "", self.archive.name())? else {
            return Ok(Vec::new());
        };
        let parts: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
        if !parts.iter().all(|part| self.has(part)) {
            return Ok(Vec::new());
        }
        let mut documents = vec![bytes];
        for part in parts {
            documents.push(self.blob(part, "attestation", STATEMENT_LIMIT)?);
        }
        Ok(documents)
    }

    fn image(&mut self, manifest: &Manifest, bytes: Vec<u8>) -> Result<Found, ImageError> {
        documents::check_manifest(manifest, self.archive.name())?;
        let config = self.blob(&manifest.config, "config", CONFIG_LIMIT)?;
        let image = documents::read_config(&config, self.archive.name())?;
        let layers = documents::layers(manifest, &image, self.archive.name())?;
        let members = manifest.layers.iter().map(|layer| blob_member(&layer.digest)).collect();
        Ok(Found { config, manifest: Some(bytes), layers, members, platform: image.platform() })
    }

    /// The images of `manifest.json`.
    fn docker(&mut self) -> Result<Vec<Listed>, ImageError> {
        let entries: Vec<DockerEntry> = self.json("manifest.json")?;
        entries.iter().map(|entry| self.docker_image(entry)).collect()
    }

    fn docker_image(&mut self, entry: &DockerEntry) -> Result<Listed, ImageError> {
        let config = self.document(&entry.config, "config", CONFIG_LIMIT)?;
        let image: Image = documents::read_config(&config, self.archive.name())?;
        let members = entry.layers.clone().unwrap_or_default();
        let diff_ids = &image.rootfs.diff_ids;
        if members.len() != diff_ids.len() {
            let reason = format!("an image of {} layers has files for {}", diff_ids.len(), members.len());
            return Err(self.archive.refused(reason));
        }
        let layer = |diff_id: &Digest| Layer { diff_id: *diff_id, origin: kiln_solver::Origin::Image };
        let layers = diff_ids.iter().map(layer).collect();
        let platform = image.platform();
        self.check_platform(&platform)?;
        let found = Found { config, manifest: None, layers, members, platform };
        Ok(Listed { names: names(entry)?, images: vec![found], index: None })
    }

    fn check_platform(&self, own: &Platform) -> Result<(), ImageError> {
        match self.platform {
            Some(platform) if !choose::runs_on(platform, own) => Err(self.no_platform(vec![own.to_string()])),
            _ => Ok(()),
        }
    }

    fn no_platform(&self, available: Vec<String>) -> ImageError {
        let name = self.archive.name().to_owned();
        match self.platform {
            Some(platform) => ImageError::Platform { name, platform: Box::new(platform.clone()), available },
            None => self.archive.refused("no image of an index is in it"),
        }
    }
}

fn blob_member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn names(entry: &DockerEntry) -> Result<Vec<Reference>, ImageError> {
    entry.repo_tags.iter().flatten().map(|name| Ok(Reference::parse(name)?)).collect()
}

/// The name that a layout gives an image: containerd's annotation, or a tag that is a whole name.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let whole = descriptor.annotations.get(CONTAINERD_NAME);
    let tag = descriptor.annotations.get(REF_NAME).filter(|tag| tag.contains([':', '/']));
    Reference::parse(whole.or(tag)?).ok()
}
