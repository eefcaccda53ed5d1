//! One index of what several names stand for, as `docker buildx imagetools create` makes it.

use std::collections::HashMap;

use kiln_solver::{Cancel, Digest};

use super::{Document, Found, Gathering};
use crate::export::{AnnotationPlace, Annotations};
use crate::push::{self, Parcel};
use crate::spec::{Descriptor, DescriptorPlatform, Index, media_type};
use crate::{ImageError, Images, Reference};

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
/// is said of it anywhere. One index alone stays as it is, and so does one manifest unless it is to get an index.
///
/// # Errors
/// When a platform has to be looked up and cannot be.
pub fn combine(
    images: &Images,
    sources: &[Found],
    annotations: &Annotations,
    prefer_index: bool,
) -> Result<Combined, ImageError> {
    if let [only] = sources
        && annotations.is_empty()
        && (!prefer_index || matches!(only.document, Document::Index(_)))
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
    Ok(parts.finish(annotations))
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
