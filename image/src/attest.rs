//! Attestations: statements about an image, kept beside it in its index.
//!
//! Each is an in-toto statement. Those about one image are the layers of a manifest of their own, which the index lists
//! behind all that can be run, for a platform that nothing has. [`provenance`] says where an image comes from, [`purl`]
//! names images in statements, [`read`] finds statements again.
//!
//! Specifications: in-toto attestation framework, Statement v0.1
//! (<https://github.com/in-toto/attestation/blob/main/spec/v0.1.0/statement.md>), and how BuildKit stores attestations
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).

pub mod provenance;
pub mod purl;
pub mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kiln_solver::Digest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::spec::{Descriptor, DescriptorPlatform, Extra, Manifest, media_type};

/// The predicate type of an SPDX document.
pub const SPDX: &str = "https://spdx.dev/Document";

const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const UNKNOWN: &str = "unknown";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// The annotation with what the statement in a layer says.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The annotation that tells which manifest of the index another one is about.
pub(crate) const ABOUT: &str = "vnd.docker.reference.digest";

/// The largest statement that is read, in bytes.
pub(crate) const STATEMENT_LIMIT: u64 = 64 << 20;

/// What is said of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// What the predicate is: a URI.
    pub predicate_type: String,
    /// What is said.
    pub predicate: Value,
}

/// What the manifest of attestations looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// An image for no platform, which every registry takes.
    #[default]
    Image,
    /// An OCI artifact that names the image's manifest as its subject (`oci-artifact=true`).
    Artifact,
}

/// What people are told a statement is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name: a package URL, or the path of a file.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// The manifest of an image's attestations, and all documents that belong to it, by digest.
pub(crate) struct Attached {
    pub(crate) manifest: Manifest,
    pub(crate) descriptor: Descriptor,
    pub(crate) documents: BTreeMap<Digest, Vec<u8>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    predicate_type: &'a str,
    subject: Vec<WrittenSubject<'a>>,
    predicate: &'a Value,
}

#[derive(Serialize)]
struct WrittenSubject<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, String>,
}

impl<'a> WrittenSubject<'a> {
    fn of(subject: &'a Subject) -> Self {
        Self { name: &subject.name, digest: BTreeMap::from([("sha256", subject.digest.hex())]) }
    }
}

impl Attestation {
    /// The in-toto statement that says it of these.
    pub fn statement(&self, subjects: &[Subject]) -> Vec<u8> {
        bytes(&Statement {
            kind: STATEMENT,
            predicate_type: &self.predicate_type,
            subject: subjects.iter().map(WrittenSubject::of).collect(),
            predicate: &self.predicate,
        })
    }
}

/// Writes statements about an image, the manifest of which is `image`, under these names (package URLs).
pub(crate) fn attach(image: &Descriptor, names: &[String], attestations: &[Attestation], form: Form) -> Attached {
    let subject = |name: &str| Subject { name: name.to_owned(), digest: image.digest };
    // BuildKit names what has no name so.
    let nameless = || vec![subject("_")];
    let subjects =
        if names.is_empty() { nameless() } else { names.iter().map(|name| subject(name)).collect::<Vec<_>>() };
    let mut documents = BTreeMap::new();
    let mut layers = Vec::with_capacity(attestations.len());
    for attestation in attestations {
        let bytes = attestation.statement(&subjects);
        let mut layer = Descriptor::of(IN_TOTO, &bytes);
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), attestation.predicate_type.clone());
        documents.insert(layer.digest, bytes);
        layers.push(layer);
    }
    let (config, extra) = match form {
        Form::Image => (image_config(&layers, &mut documents), Extra::new()),
        Form::Artifact => (empty_config(&mut documents), artifact_fields(image)),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        config,
        layers,
        annotations: BTreeMap::new(),
        extra,
    };
    let written = bytes(&manifest);
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &written);
    documents.insert(descriptor.digest, written);
    descriptor.platform =
        Some(DescriptorPlatform { architecture: UNKNOWN.to_owned(), os: UNKNOWN.to_owned(), ..Default::default() });
    descriptor.annotations.extend([
        (ABOUT.to_owned(), image.digest.to_string()),
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
    ]);
    Attached { manifest, descriptor, documents }
}

/// The config of an image that nothing can run, with the statements as its layers.
fn image_config(layers: &[Descriptor], documents: &mut BTreeMap<Digest, Vec<u8>>) -> Descriptor {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = bytes(&json!({
        "architecture": UNKNOWN,
        "os": UNKNOWN,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }));
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    documents.insert(descriptor.digest, config);
    descriptor
}

/// What an artifact has in the place of a config, its content with it.
fn empty_config(documents: &mut BTreeMap<Digest, Vec<u8>>) -> Descriptor {
    const NOTHING: &[u8] = b"{}";
    let mut descriptor = Descriptor::of(EMPTY, NOTHING);
    descriptor.extra.insert("data".to_owned(), json!("e30="));
    documents.insert(descriptor.digest, NOTHING.to_vec());
    descriptor
}

fn artifact_fields(image: &Descriptor) -> Extra {
    let subject = Descriptor::new(&image.media_type, image.digest, image.size);
    [("artifactType".to_owned(), json!(ARTIFACT)), ("subject".to_owned(), json!(subject))].into_iter().collect()
}

/// Documents of plain maps, lists and texts always have a JSON form.
fn bytes(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}
