//! The flags of `kiln build` about attestations, as typed.

/// `--attest` and what is short for it.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Attestations")]
pub(crate) struct AttestArgs {
    /// Attach an attestation to the image: `type=provenance` or `type=sbom`, with parameters; may be repeated
    ///
    /// Of provenance: `mode=min|max`, `version=v0.2|v1`, `builder-id=URL`, `inline-only`, `reproducible`. Of SBOMs:
    /// `generator=IMAGE` for a scanner image in the place of kiln's own. Without this flag none is attached.
    #[arg(long = "attest", value_name = "SPEC")]
    pub(super) attestations: Vec<String>,

    /// Attach SLSA provenance: `true`, or its parameters; short for `--attest=type=provenance`
    #[arg(long, value_name = "SPEC")]
    pub(super) provenance: Option<String>,

    /// Attach a list of packages (SPDX): `true`, or its parameters; short for `--attest=type=sbom`
    #[arg(long, value_name = "SPEC")]
    pub(super) sbom: Option<String>,
}
