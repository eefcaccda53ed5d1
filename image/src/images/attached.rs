//! Attestations that come with an image.

use kiln_cache::{ImageIndex, PlatformImage};
use kiln_solver::{Cancel, Digest};

use super::Images;
use crate::attest::read::{self, Attested};
use crate::attest::{STATEMENT_LIMIT, read::manifest};
use crate::documents::{self, Document};
use crate::registry::MANIFEST_LIMIT;
use crate::spec::{Descriptor, Index};
use crate::{ImageError, Reference, choose};

/// How many bytes the attestations of all images of an index may have: what is beyond is no attestation.
const ALL_LIMIT: u64 = 256 << 20;

impl Images {
    /// All attestations of the images that a reference stands for at its registry; none where it stands for one image
    /// alone. `wanted` says for which predicate types statements are fetched at all.
    ///
    /// # Errors
    /// When the registry cannot be reached, or sends what is malformed.
    pub fn attestations(
        &self,
        reference: &Reference,
        wanted: impl Fn(&str) -> bool,
        cancel: &Cancel,
    ) -> Result<Vec<Attested>, ImageError> {
        let fetched = self.registries().manifest(reference, cancel)?;
        match documents::read_document(&fetched.bytes, &fetched.media_type, &reference.to_string())? {
            Document::Index(index) => read::read(&index, wanted, |part| self.fetch_part(reference, part).map(Some)),
            Document::Manifest(_) => Ok(Vec::new()),
        }
    }

    /// All attestations that the store has of the images of an index, the digest of which this is.
    ///
    /// # Errors
    /// When the store cannot be read, or has what is malformed.
    pub fn stored_attestations(
        &self,
        index: &Digest,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Attested>, ImageError> {
        match self.stored_index(index)? {
            Some(index) => {
                read::read(&index, wanted, |part| Ok(self.store().read_blob(&part.digest, STATEMENT_LIMIT)?))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The index of an image that was pulled, if anything is attested of it there: what is about it is fetched into the
    /// store. The images for other platforms stay away.
    pub(super) fn index_with_attestations(
        &self,
        reference: &Reference,
        digest: &Digest,
        image: PlatformImage,
    ) -> Result<Option<ImageIndex>, ImageError> {
        let Some(index) = self.stored_index(digest)? else { return Ok(None) };
        let mut runnable = index.manifests.iter().filter(|descriptor| !choose::is_attestation(descriptor));
        let is_alone = runnable.all(|descriptor| descriptor.digest == image.manifest);
        let own: Vec<&Descriptor> = match is_alone {
            true => attestations(&index).collect(),
            false => {
                read::manifests(&index).filter(|(about, _)| *about == image.manifest).map(|(_, own)| own).collect()
            }
        };
        if own.is_empty() {
            return Ok(None);
        }
        let attached = self.fetch_attached(reference, own)?;
        Ok(Some(ImageIndex { digest: *digest, images: vec![image], attached }))
    }

    /// Fetches attestations that an index lists into the store; yields the digests of all their documents.
    pub(super) fn fetch_attached<'d>(
        &self,
        reference: &Reference,
        attestations: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Result<Vec<Digest>, ImageError> {
        let mut left = ALL_LIMIT;
        let mut fetch = |part: &Descriptor, limit: u64| -> Result<Vec<u8>, ImageError> {
            let too_large = || ImageError::TooLarge { what: "attestation", name: reference.to_string(), limit };
            left = left.checked_sub(part.size).ok_or_else(too_large)?;
            if let Some(bytes) = self.store().read_blob(&part.digest, limit)? {
                return Ok(bytes);
            }
            let bytes = self.fetch_part(reference, part)?;
            self.store().put_fetched_blob(&bytes)?;
            Ok(bytes)
        };
        let mut digests = Vec::new();
        for descriptor in attestations {
            let bytes = fetch(descriptor, MANIFEST_LIMIT)?;
            digests.push(descriptor.digest);
            let manifest = manifest(&bytes, descriptor)?;
            for part in manifest.layers.iter().chain([&manifest.config]) {
                fetch(part, STATEMENT_LIMIT)?;
                digests.push(part.digest);
            }
        }
        Ok(digests)
    }

    /// A manifest or a blob of a repository.
    fn fetch_part(&self, reference: &Reference, part: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if crate::spec::media_type::is_manifest(&part.media_type) {
            let manifest = reference.with_digest(part.digest);
            return Ok(self.registries().manifest(&manifest, &self.settings.cancel)?.bytes);
        }
        self.small_blob(reference, part, "attestation", STATEMENT_LIMIT)
    }

    fn stored_index(&self, digest: &Digest) -> Result<Option<Index>, ImageError> {
        let Some(bytes) = self.store().read_blob(digest, MANIFEST_LIMIT)? else { return Ok(None) };
        match documents::read_document(&bytes, "", &digest.to_string())? {
            Document::Index(index) => Ok(Some(index)),
            Document::Manifest(_) => Ok(None),
        }
    }
}

/// The manifests of attestations that an index lists.
pub(super) fn attestations(index: &Index) -> impl Iterator<Item = &Descriptor> {
    index.manifests.iter().filter(|descriptor| choose::is_attestation(descriptor))
}
