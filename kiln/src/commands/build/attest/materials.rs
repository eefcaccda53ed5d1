//! What an image was made from: base images, commits and files of web servers, with what they turned out to be.

use std::collections::BTreeMap;

use kiln_executor::sources::{Found, shown};
use kiln_image::attest::provenance::Material;
use kiln_image::attest::purl;
use kiln_image::{Images, Location};
use kiln_solver::{Digest, Git, Graph, Operation, Source, StepId};

use super::super::remote::RemoteContext;

/// What one step brings in; nothing for a directory of this machine, and where nobody knows what was found.
pub(super) fn of_step(graph: &Graph, id: StepId, found: &BTreeMap<StepId, Found>, images: &Images) -> Option<Material> {
    let Operation::Source(source) = &graph.step(id).operation else { return None };
    match source {
        Source::Image { reference, digest } => Some(of_image(reference, digest, images)),
        Source::Local { .. } => None,
        Source::Http(http) => Some(of_found(shown(&http.url), found.get(&id)?)),
        Source::Git(git) => Some(of_found(git_uri(git), found.get(&id)?)),
    }
}

/// What a context from elsewhere turned out to be.
pub(super) fn of_context(context: &RemoteContext, found: &Found) -> Material {
    match context {
        RemoteContext::Git(git) => of_found(git_uri(git), found),
        other => of_found(other.place(), found),
    }
}

fn of_found(uri: String, found: &Found) -> Material {
    match found {
        Found::File(digest) => Material { uri, algorithm: "sha256", digest: digest.hex() },
        Found::Commit(commit) => {
            let algorithm = if commit.len() > 40 { "sha256" } else { "sha1" };
            Material { uri, algorithm, digest: commit.clone() }
        }
    }
}

/// What a base image is known by to others: the digest of its index, or else of its manifest, or of its config where it
/// was built here.
pub(super) fn known_by(reference: &str, digest: &Digest, images: &Images) -> Digest {
    let index = match Location::parse(reference) {
        // What cannot be read of the store has no index to be known by.
        Ok(Location::Reference(reference)) => images.index_of(&reference, digest).ok().flatten(),
        _ => None,
    };
    index.unwrap_or(*digest)
}

fn of_image(reference: &str, digest: &Digest, images: &Images) -> Material {
    let platform = images.platform_of(digest).ok().flatten();
    let uri = match Location::parse(reference) {
        Ok(Location::Reference(reference)) => purl::of_image(&reference, platform.as_ref()),
        // Where it lies on this machine is nobody's business.
        _ => {
            let path = reference.split('@').next().unwrap_or_default();
            let name = path.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap_or_default();
            purl::of_layout(name, digest, platform.as_ref())
        }
    };
    Material { uri, algorithm: "sha256", digest: known_by(reference, digest, images).hex() }
}

/// A repository with what was asked for of it, without passwords.
fn git_uri(git: &Git) -> String {
    let reference = git.reference.as_deref().unwrap_or_default();
    let part = git.subdirectory.as_ref().map(|directory| format!(":{directory}")).unwrap_or_default();
    let fragment = format!("{reference}{part}");
    let fragment = if fragment.is_empty() { fragment } else { format!("#{fragment}") };
    format!("{}{fragment}", shown(&git.remote))
}
