//! Finding what an index has attested of its images, wherever its documents are.

use kiln_solver::Digest;
use serde::Deserialize;
use serde_json::Value;

use super::{ABOUT, Attestation, IN_TOTO, PREDICATE_TYPE};
use crate::documents::{self, Document};
use crate::spec::{Descriptor, Index, Manifest};
use crate::{ImageError, choose};

/// What is said of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attested {
    /// The digest of the image's manifest.
    pub image: Digest,
    /// All that is said, in order.
    pub attestations: Vec<Attestation>,
}

/// What of a statement is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

/// Reads all attestations of the images of an index. `fetch` gets the bytes of a manifest or a statement, verified; what
/// it has none of is left out. `wanted` says for which predicate types statements are fetched at all.
///
/// # Errors
/// When something cannot be fetched or is malformed.
pub fn read(
    index: &Index,
    wanted: impl Fn(&str) -> bool,
    mut fetch: impl FnMut(&Descriptor) -> Result<Option<Vec<u8>>, ImageError>,
) -> Result<Vec<Attested>, ImageError> {
    let mut all = Vec::new();
    for (image, descriptor) in manifests(index) {
        let Some(bytes) = fetch(descriptor)? else { continue };
        let mut attestations = Vec::new();
        for layer in manifest(&bytes, descriptor)?.layers {
            let kind = layer.annotations.get(PREDICATE_TYPE);
            if layer.media_type != IN_TOTO || kind.is_some_and(|kind| !wanted(kind)) {
                continue;
            }
            let Some(bytes) = fetch(&layer)? else { continue };
            let statement: Statement = serde_json::from_slice(&bytes).map_err(|error| ImageError::Malformed {
                what: "attestation",
                name: layer.digest.to_string(),
                reason: error.to_string(),
            })?;
            if wanted(&statement.predicate_type) {
                let Statement { predicate_type, predicate } = statement;
                attestations.push(Attestation { predicate_type, predicate });
            }
        }
        all.push(Attested { image, attestations });
    }
    Ok(all)
}

/// The manifests of attestations that an index lists, each with the digest of the manifest that it is about.
pub(crate) fn manifests(index: &Index) -> impl Iterator<Item = (Digest, &Descriptor)> {
    let about = |descriptor: &Descriptor| descriptor.annotations.get(ABOUT)?.parse::<Digest>().ok();
    let attestations = index.manifests.iter().filter(|descriptor| choose::is_attestation(descriptor));
    attestations.filter_map(move |descriptor| Some((about(descriptor)?, descriptor)))
}

/// Reads the manifest that a descriptor names.
pub(crate) fn manifest(bytes: &[u8], descriptor: &Descriptor) -> Result<Manifest, ImageError> {
    let name = descriptor.digest.to_string();
    match documents::read_document(bytes, &descriptor.media_type, &name)? {
        Document::Manifest(manifest) => Ok(*manifest),
        Document::Index(_) => {
            let reason = "an index stands where that of attestations should".to_owned();
            Err(ImageError::Malformed { what: "manifest", name, reason })
        }
    }
}
