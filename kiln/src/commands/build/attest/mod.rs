//! What is said of images beside them: `--attest`, `--provenance`, `--sbom`.
//!
//! | file | |
//! |---|---|
//! | `args.rs` | the flags as typed |
//! | `request.rs` | what they mean |
//! | `facts.rs` | what is known of a build, for its provenance |
//! | `parameters.rs` | what was asked for, in BuildKit's words |
//! | `materials.rs` | what an image was made from |
//! | `llb.rs` | its steps in the words of BuildKit's LLB |
//! | `vcs.rs` | the git checkout around a context |
//! | `scanner.rs` | scanner images, as steps of the graph |
//! | `sbom.rs` | lists of packages, kiln's own or a scanner's |
//! | `files.rs` | the same as files, where there is no image |

mod args;
mod facts;
mod files;
mod llb;
mod materials;
mod parameters;
mod request;
mod sbom;
mod scanner;
mod vcs;

use kiln_cache::ImageRecord;
use kiln_image::attest::Attestation;
use kiln_image::attest::provenance::{Mode, Provenance, Version};
use kiln_image::spec::Descriptor;
use kiln_solver::{Input, Layer};
use serde_json::Value;

use super::carry_out::Scanned;
use super::{Builder, Work};
use crate::error::CliError;
pub(super) use args::AttestArgs;
pub(super) use facts::Facts;
pub(super) use request::AttestRequest;
use request::ProvenanceRequest;
pub(super) use scanner::Scanner;

/// All that is said of the image for one platform.
#[derive(Clone, Debug, Default)]
pub(super) struct Statements {
    /// Lists of packages, with the names of their files.
    sboms: Vec<(String, Attestation)>,
    /// Where it comes from, as far as that is wanted for anything.
    provenance: Option<Provenance>,
    /// How that is attached.
    request: Option<ProvenanceRequest>,
}

impl Builder<'_> {
    /// What is said of an image that was made.
    pub(super) fn statements(
        &self,
        facts: &Facts<'_>,
        target: Option<Input>,
        (layers, scanned): (&[Layer], &Scanned),
        image: &ImageRecord,
        work: &Work,
    ) -> Result<Statements, CliError> {
        let asked = &self.request.attest;
        let is_told = self.request.metadata_file.is_some() && asked.metadata.is_some();
        let provenance = (asked.provenance.is_some() || is_told).then(|| facts.provenance(target));
        let sboms = self.sboms(layers, scanned, image, work)?;
        Ok(Statements { sboms, provenance, request: asked.provenance.clone() })
    }
}

impl Statements {
    /// What is attached to the image, the layers of which these are, where it goes to a registry or the store
    /// (`is_inline`), or into an archive.
    pub(super) fn attestations(&self, layers: &[Descriptor], is_inline: bool) -> Vec<Attestation> {
        let request = self.request.as_ref().filter(|request| is_inline || !request.inline_only);
        let provenance = request.zip(self.provenance.as_ref()).map(|(request, provenance)| {
            let provenance = Provenance { layers: layers.to_vec(), ..provenance.clone() };
            provenance.attest(request.version, request.mode)
        });
        self.sboms.iter().map(|(_, attestation)| attestation.clone()).chain(provenance).collect()
    }

    /// Provenance as the file of `--metadata-file` has it, which stays with who built it: always of version 0.2, and with
    /// `mode=min` without what happened and which steps there were.
    pub(super) fn metadata(&self, mode: Option<Mode>) -> Option<Value> {
        let (provenance, mode) = (self.provenance.as_ref()?, mode?);
        let mut predicate = provenance.attest(Version::V02, Mode::Max).predicate;
        if let (Mode::Min, Value::Object(parts)) = (mode, &mut predicate) {
            parts.remove("buildConfig");
            parts.remove("metadata");
        }
        Some(predicate)
    }
}
