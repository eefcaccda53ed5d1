//! One index of what several names stand for, as `docker buildx imagetools create` makes it.

use std::collections::{HashMap, HashSet};

use kiln_solver::{Cancel, Digest, Platform};

use super::{Document, Found, Gathering};
use crate::attest::ABOUT;
use crate::export::{AnnotationPlace, Annotations};
use crate::push::{self, Parcel};
use crate::spec::{Descriptor, DescriptorPlatform, Index, media_type};
use crate::{ImageError, Images, Reference, choose};

/// What is to get a name, and where its parts are.
#[derive(Clone, Debug)]
pub struct Combined {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Itself, where it is one of the sources unchanged.
    original: Option<Found>,
    /// What it lists, each with the repository that has it.
    parts: Vec<(Descriptor, Reference)>,
}

/// Makes one index of the manifests of `sources`, those of their indexes among them; each is listed once, with all that
/// is said of it anywhere. Where platforms are named, only images for those are. One index alone stays as it is, and so does one manifest unless it is to get an index.
///
/// # Errors
/// When a platform has to be looked up and cannot be.
pub fn combine(
    images: &Images,
    sources: &[Found],
    annotations: &Annotations,
    prefer_index: bool,
    platforms: &[Platform],
) -> Result<Combined, ImageError> {
    if let [only] = sources
        && annotations.is_empty()
        && (!prefer_index || matches!(only.document, Document::Index(_)))
        && is_wanted(images, only, platforms)?
    {
        let (descriptor, bytes) = (only.descriptor.clone(), only.bytes.clone());
        return Ok(Combined { descriptor, bytes, original: Some(only.clone()), parts: Vec::new() });
    }
    let mut parts = Parts::default();
    for source in sources {
        match &source.document {
            Document::Index(index) => {
                index.manifests.iter().for_each(|descriptor| parts.add(descriptor, &source.reference));
            }
            Document::Manifest(_) => {
                let mut descriptor = source.descriptor.clone();
                if descriptor.platform.is_none() {
                    descriptor.platform = source.platform(images)?.as_ref().map(DescriptorPlatform::from);
                }
                parts.add(&descriptor, &source.reference);
            }
        }
    }
    parts.keep(platforms, sources)?;
    Ok(parts.finish(annotations))
}

/// Whether all that a source stands for is for one of these platforms, or there is nothing said of platforms.
fn is_wanted(images: &Images, source: &Found, platforms: &[Platform]) -> Result<bool, ImageError> {
    let is_wanted = |platform: Option<Platform>| platform.is_some_and(|platform| platforms.contains(&platform));
    let of = |descriptor: &Descriptor| descriptor.platform.as_ref().map(DescriptorPlatform::normalised);
    Ok(platforms.is_empty()
        || match &source.document {
            Document::Index(index) => {
                let mut all = index.manifests.iter().filter(|descriptor| !choose::is_attestation(descriptor));
                all.all(|descriptor| is_wanted(of(descriptor)))
            }
            Document::Manifest(_) => is_wanted(source.platform(images)?),
        })
}

#[derive(Default)]
struct Parts {
    listed: Vec<(Descriptor, Reference)>,
    places: HashMap<Digest, usize>,
}

impl Parts {
    fn add(&mut self, descriptor: &Descriptor, reference: &Reference) {
        let known = self.places.get(&descriptor.digest).and_then(|place| self.listed.get_mut(*place));
        let Some((known, _)) = known else {
            self.places.insert(descriptor.digest, self.listed.len());
            self.listed.push((descriptor.clone(), reference.clone()));
            return;
        };
        if known.media_type.is_empty() {
            known.media_type.clone_from(&descriptor.media_type);
        }
        if descriptor.platform.is_some() {
            known.platform.clone_from(&descriptor.platform);
        }
        known.annotations.extend(descriptor.annotations.clone());
    }

    /// Drops what is for none of these platforms, if any are named; what is attested goes with its image.
    fn keep(&mut self, platforms: &[Platform], sources: &[Found]) -> Result<(), ImageError> {
        let Some(first) = platforms.first() else { return Ok(()) };
        let listed: Vec<Descriptor> = self.listed.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        let is_kept = |descriptor: &Descriptor| {
            let platform = descriptor.platform.as_ref().map(DescriptorPlatform::normalised);
            !choose::is_attestation(descriptor) && platform.is_some_and(|platform| platforms.contains(&platform))
        };
        let kept: HashSet<String> =
            listed.iter().filter(|descriptor| is_kept(descriptor)).map(|kept| kept.digest.to_string()).collect();
        if kept.is_empty() {
            return Err(ImageError::Platform {
                name: sources.iter().map(|source| source.reference.to_string()).collect::<Vec<_>>().join(", "),
                platform: Box::new(first.clone()),
                available: choose::offered(&listed),
            });
        }
        let about = |descriptor: &Descriptor| descriptor.annotations.get(ABOUT).cloned();
        self.listed.retain(|(descriptor, _)| {
            is_kept(descriptor)
                || choose::is_attestation(descriptor) && about(descriptor).is_some_and(|image| kept.contains(&image))
        });
        Ok(())
    }

    fn finish(mut self, annotations: &Annotations) -> Combined {
        for (descriptor, _) in &mut self.listed {
            let platform = descriptor.platform.as_ref().map(DescriptorPlatform::normalised);
            descriptor.annotations.extend(annotations.at(AnnotationPlace::ManifestDescriptor, platform.as_ref()));
        }
        let of_docker = |(descriptor, _): &(Descriptor, Reference)| {
            descriptor.media_type.starts_with("application/vnd.docker.") && descriptor.annotations.is_empty()
        };
        let own = annotations.at(AnnotationPlace::Index, None);
        // Docker's lists have no place for annotations.
        let is_list = own.is_empty() && !self.listed.is_empty() && self.listed.iter().all(of_docker);
        let kind = if is_list { media_type::DOCKER_LIST } else { media_type::OCI_INDEX };
        let index = Index {
            media_type: kind.to_owned(),
            annotations: own,
            ..Index::of(self.listed.iter().map(|(descriptor, _)| descriptor.clone()).collect())
        };
        // Documents of plain maps, lists and texts always have a JSON form.
        let bytes = serde_json::to_vec_pretty(&index).unwrap_or_default();
        Combined { descriptor: Descriptor::of(kind, &bytes), bytes, original: None, parts: self.listed }
    }
}

impl Combined {
    /// It and all that belongs to it, to be pushed.
    ///
    /// # Errors
    /// When a document of it cannot be fetched.
    pub fn parcel(&self, images: &Images, cancel: &Cancel) -> Result<Parcel, ImageError> {
        let mut gathering = Gathering::new(images, cancel);
        if let Some(original) = &self.original {
            gathering.add_found(original, 0)?;
            return Ok(gathering.parcel);
        }
        for (descriptor, reference) in &self.parts {
            gathering.add(reference, descriptor, 1)?;
        }
        let media_type = self.descriptor.media_type.clone();
        gathering.parcel.documents.push(push::Document { media_type, bytes: self.bytes.clone() });
        Ok(gathering.parcel)
    }
}
