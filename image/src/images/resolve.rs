//! From a name to a config and layers.

use kiln_solver::{Digest, Platform};

use super::source::Source;
use super::{Images, Pull, Resolved};
use crate::choose;
use crate::documents::{self, Document};
use crate::layout::Layout;
use crate::location::LayoutLocation;
use crate::registry::{CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::spec::{Descriptor, DescriptorPlatform, Index, Manifest, media_type};
use crate::{ImageError, Reference};

/// An index may list indexes, but not for ever.
const DEEPEST_INDEX: usize = 4;

/// Where the documents of one image come from.
trait Provider {
    /// The image, for errors.
    fn name(&self) -> String;
    /// Where its layers are to be had.
    fn source(&self) -> Source;
    /// A manifest or index, verified, and its media type.
    fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, String), ImageError>;
    /// The config, verified.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError>;
}

/// An image for all platforms.
pub(super) struct Everything {
    /// The digest of the index or manifest.
    pub(super) digest: Digest,
    /// The index, if there is one, and its images.
    pub(super) index: Option<Index>,
    pub(super) images: Vec<(Platform, Resolved)>,
}

struct FromRegistry<'a> {
    images: &'a Images,
    reference: &'a Reference,
}

struct FromLayout<'a> {
    location: &'a LayoutLocation,
    layout: Layout,
    source: Source,
}

impl Images {
    pub(super) fn resolve_reference(
        &self,
        reference: &Reference,
        platform: &Platform,
        pull: Pull,
    ) -> Result<Resolved, ImageError> {
        if pull == Pull::Missing {
            let pulled = self.pulled_before(reference, platform)?;
            if let Some(resolved) = self.built_here(reference, platform, pulled.as_ref())? {
                return Ok(resolved);
            }
            if let Some((_, resolved)) = pulled {
                return Ok(resolved);
            }
        }
        self.resolve_at_registry(reference, platform).map(|(_, resolved)| resolved)
    }

    /// What a reference stands for at its registry, and the image that this is for a platform.
    pub(super) fn resolve_at_registry(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Digest, Resolved), ImageError> {
        let provider = FromRegistry { images: self, reference };
        let (bytes, media_type) = self.top_document(reference, platform)?;
        let digest = Digest::of(&bytes);
        let resolved = self.descend(&provider, bytes, &media_type, platform)?;
        self.store().remember_reference(&reference.to_string(), platform, &resolved.digest)?;
        if digest != resolved.digest {
            self.store().remember_index(&reference.to_string(), &digest)?;
        }
        Ok((digest, resolved))
    }

    /// What a reference stands for at its registry, and the images of all platforms if that is an index.
    pub(super) fn resolve_all(&self, reference: &Reference) -> Result<Everything, ImageError> {
        let provider = FromRegistry { images: self, reference };
        let (bytes, media_type) = self.top_document(reference, &Platform::host())?;
        let digest = Digest::of(&bytes);
        let Document::Index(index) = documents::read_document(&bytes, &media_type, &provider.name())? else {
            return Ok(Everything { digest, index: None, images: Vec::new() });
        };
        self.store().put_fetched_blob(&bytes)?;
        self.store().remember_index(&reference.to_string(), &digest)?;
        let mut images = Vec::new();
        for descriptor in index.manifests.iter().filter(|descriptor| !choose::is_attestation(descriptor)) {
            let (bytes, media_type) = match self.store().read_blob(&descriptor.digest, MANIFEST_LIMIT)? {
                Some(bytes) => (bytes, descriptor.media_type.clone()),
                None => provider.manifest(descriptor)?,
            };
            let platform = descriptor.platform.as_ref().map_or_else(Platform::host, DescriptorPlatform::normalised);
            let resolved = self.descend(&provider, bytes, &media_type, &platform)?;
            self.store().remember_reference(&reference.to_string(), &platform, &resolved.digest)?;
            images.push((platform, resolved));
        }
        Ok(Everything { digest, index: Some(index), images })
    }

    /// The index that a reference stood for when it was last seen, if it lists this manifest.
    ///
    /// # Errors
    /// When the store cannot be read, or has what is malformed.
    pub fn index_of(&self, reference: &Reference, manifest: &Digest) -> Result<Option<Digest>, ImageError> {
        let name = reference.to_string();
        let Some(digest) = self.store().index_of_reference(&name)? else { return Ok(None) };
        let Some(bytes) = self.store().read_blob(&digest, MANIFEST_LIMIT)? else { return Ok(None) };
        let Document::Index(index) = documents::read_document(&bytes, "", &name)? else { return Ok(None) };
        Ok(index.manifests.iter().any(|descriptor| descriptor.digest == *manifest).then_some(digest))
    }

    pub(super) fn resolve_layout(
        &self,
        location: &LayoutLocation,
        platform: &Platform,
    ) -> Result<Resolved, ImageError> {
        let layout = Layout::open(&location.directory)?;
        let found = layout.find(location)?;
        let directory = &location.directory;
        let source = Source::Layout(std::fs::canonicalize(directory).map_err(ImageError::io("resolve", directory))?);
        let provider = FromLayout { location, layout, source };
        let descriptor = match found.as_slice() {
            [only] => only,
            several => choose::choose(several, platform).ok_or_else(|| no_platform(&provider, several, platform))?,
        };
        let (bytes, media_type) = provider.manifest(descriptor)?;
        self.descend(&provider, bytes, &media_type, platform)
    }

    /// An image of this name that was built or tagged here. One for another platform does not count, nor does
    /// one whose config is gone, nor the one that was `pulled`, which goes by its manifest.
    fn built_here(
        &self,
        reference: &Reference,
        platform: &Platform,
        pulled: Option<&(Digest, Resolved)>,
    ) -> Result<Option<Resolved>, ImageError> {
        let name = reference.to_string();
        let Some(record) = self.store().image(&name)? else {
            return Ok(None);
        };
        let Some(record) = choose::image(&record, platform) else {
            return Ok(None);
        };
        if pulled.is_some_and(|(config, _)| *config == record.id) {
            return Ok(None);
        }
        let Some(config) = self.store().read_blob(&record.id, CONFIG_LIMIT)? else {
            return Ok(None);
        };
        let image = documents::read_config(&config, &name)?;
        Ok(Some(Resolved { reference: name, digest: record.id, image, layers: record.layers }))
    }

    /// What the reference stood for when it was last pulled, if all documents are still here; the digest of the
    /// config first.
    fn pulled_before(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<(Digest, Resolved)>, ImageError> {
        let name = reference.to_string();
        let Some(digest) = self.store().reference(&name, platform)? else {
            return Ok(None);
        };
        let Some(bytes) = self.store().read_blob(&digest, MANIFEST_LIMIT)? else {
            return Ok(None);
        };
        let Document::Manifest(manifest) = documents::read_document(&bytes, "", &name)? else {
            return Ok(None);
        };
        let Some(image) = self.stored_config(&manifest)? else {
            return Ok(None);
        };
        let layers = documents::layers(&manifest, &image, &name)?;
        self.sources.note(&Source::Repository(reference.name()), &manifest, &layers);
        Ok(Some((manifest.config.digest, Resolved { reference: name, digest, image, layers })))
    }

    /// What a registry has under a reference. Where the image was pulled before, the registry is first asked
    /// for the digest alone: that is not counted as a pull, and mostly it is known.
    fn top_document(&self, reference: &Reference, platform: &Platform) -> Result<(Vec<u8>, String), ImageError> {
        let (registries, cancel) = (self.registries(), &self.settings.cancel);
        if self.store().reference(&reference.to_string(), platform)?.is_some() {
            match registries.manifest_digest(reference, cancel) {
                Ok(Some(digest)) => {
                    if let Some(bytes) = self.store().read_blob(&digest, MANIFEST_LIMIT)? {
                        return Ok((bytes, String::new()));
                    }
                }
                Err(ImageError::Cancelled) => return Err(ImageError::Cancelled),
                // Not every registry answers HEAD; what is wrong will show again.
                Ok(None) | Err(_) => {}
            }
        }
        let fetched = registries.manifest(reference, cancel)?;
        Ok((fetched.bytes, fetched.media_type))
    }

    /// Follows indexes down to the manifest for the platform, and fetches its config. All documents on the way
    /// are kept in the store.
    fn descend(
        &self,
        provider: &dyn Provider,
        mut bytes: Vec<u8>,
        media_type: &str,
        platform: &Platform,
    ) -> Result<Resolved, ImageError> {
        let name = provider.name();
        let mut media_type = media_type.to_owned();
        for _ in 0..DEEPEST_INDEX {
            let document = documents::read_document(&bytes, &media_type, &name)?;
            let digest = self.store().put_fetched_blob(&bytes)?;
            match document {
                Document::Manifest(manifest) => return self.finish(provider, &manifest, digest),
                Document::Index(Index { manifests, .. }) => {
                    let chosen = choose::choose(&manifests, platform);
                    let chosen = chosen.ok_or_else(|| no_platform(provider, &manifests, platform))?;
                    (bytes, media_type) = match self.store().read_blob(&chosen.digest, MANIFEST_LIMIT)? {
                        Some(bytes) => (bytes, chosen.media_type.clone()),
                        None => provider.manifest(chosen)?,
                    };
                }
            }
        }
        let reason = format!("indexes are nested more than {DEEPEST_INDEX} deep");
        Err(ImageError::Malformed { what: "index", name, reason })
    }

    fn finish(&self, provider: &dyn Provider, manifest: &Manifest, digest: Digest) -> Result<Resolved, ImageError> {
        let name = provider.name();
        documents::check_manifest(manifest, &name)?;
        let config = match self.store().read_blob(&manifest.config.digest, CONFIG_LIMIT)? {
            Some(bytes) => bytes,
            None => provider.config(&manifest.config)?,
        };
        let image = documents::read_config(&config, &name)?;
        let layers = documents::layers(manifest, &image, &name)?;
        self.store().put_fetched_blob(&config)?;
        self.sources.note(&provider.source(), manifest, &layers);
        self.sources.keep(self.store(), &layers)?;
        Ok(Resolved { reference: name, digest, image, layers })
    }
}

impl Provider for FromRegistry<'_> {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn source(&self) -> Source {
        Source::Repository(self.reference.name())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, String), ImageError> {
        let reference = self.reference.with_digest(descriptor.digest);
        let fetched = self.images.registries().manifest(&reference, &self.images.settings.cancel)?;
        let announced = if is_known(&fetched.media_type) { fetched.media_type } else { descriptor.media_type.clone() };
        Ok((fetched.bytes, announced))
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        self.images.small_blob(self.reference, descriptor, "config", CONFIG_LIMIT)
    }
}

impl Provider for FromLayout<'_> {
    fn name(&self) -> String {
        self.location.to_string()
    }

    fn source(&self) -> Source {
        self.source.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, String), ImageError> {
        let bytes = self.layout.read(descriptor, "manifest", MANIFEST_LIMIT)?;
        Ok((bytes, descriptor.media_type.clone()))
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        self.layout.read(descriptor, "config", CONFIG_LIMIT)
    }
}

fn is_known(kind: &str) -> bool {
    media_type::is_index(kind) || media_type::is_manifest(kind)
}

fn no_platform(provider: &dyn Provider, manifests: &[Descriptor], platform: &Platform) -> ImageError {
    ImageError::Platform {
        name: provider.name(),
        platform: Box::new(platform.clone()),
        available: choose::offered(manifests),
    }
}
