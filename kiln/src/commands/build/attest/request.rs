//! What the flags about attestations mean, as buildx reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use kiln_frontend::csv_fields;
use kiln_image::attest::provenance::{Mode, Version};

use super::AttestArgs;
use crate::error::CliError;

/// The variable that says what the file of `--metadata-file` has of provenance.
const METADATA: &str = "BUILDX_METADATA_PROVENANCE";
/// The variable that says whether the git checkout around a context is told of.
const GIT_INFO: &str = "BUILDX_GIT_INFO";

/// What is to be attested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttestRequest {
    pub(super) provenance: Option<ProvenanceRequest>,
    pub(in crate::commands::build) sbom: Option<SbomRequest>,
    /// How much of provenance the file of `--metadata-file` has.
    pub(super) metadata: Option<Mode>,
    /// Whether the git checkout around a context is told of.
    pub(super) git_info: bool,
}

/// Provenance that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProvenanceRequest {
    pub(super) mode: Mode,
    pub(super) version: Version,
    pub(super) builder_id: String,
    /// Whether it only goes to a registry or the store.
    pub(super) inline_only: bool,
    pub(super) is_reproducible: bool,
}

/// A list of packages that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SbomRequest {
    /// The scanner image; kiln's own scanner where absent.
    pub(super) generator: Option<String>,
    /// What else the scanner image is told.
    pub(super) parameters: BTreeMap<String, String>,
}

impl AttestRequest {
    /// Reads the flags; `variable` looks up the environment.
    pub(crate) fn new(args: AttestArgs, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, CliError> {
        let metadata = match text_of(variable, METADATA).as_deref() {
            None | Some("" | "min" | "true" | "1") => Some(Mode::Min),
            Some("max") => Some(Mode::Max),
            Some("disabled" | "false" | "0") => None,
            Some(other) => {
                return Err(CliError::usage(format!("`{METADATA}` is `min`, `max` or `disabled`, not `{other}`")));
            }
        };
        let git_info = match text_of(variable, GIT_INFO) {
            Some(text) if !text.is_empty() => boolean(GIT_INFO, &text)?,
            _ => true,
        };
        let mut request = Self { provenance: None, sbom: None, metadata, git_info };
        let mut seen: Vec<&str> = Vec::new();
        let written = args.attestations.into_iter().map(|text| ("--attest", text));
        let provenance = args.provenance.map(|text| ("--provenance", short("provenance", &text)));
        let sbom = args.sbom.map(|text| ("--sbom", short("sbom", &text)));
        for (flag, text) in written.chain(provenance).chain(sbom) {
            let fail = |error: CliError| error.context(format!("`{flag} {text}`"));
            let kind = request.add(&text).map_err(fail)?;
            if seen.contains(&kind) {
                return Err(CliError::usage(format!("an attestation of type `{kind}` is asked for twice")));
            }
            seen.push(kind);
        }
        Ok(request)
    }

    /// Whether any statement is attached to images.
    pub(crate) fn attaches(&self) -> bool {
        self.provenance.is_some() || self.sbom.is_some()
    }

    /// Whether there are statements that also go into archives and directories.
    pub(crate) fn attaches_elsewhere(&self) -> bool {
        self.sbom.is_some() || self.provenance.as_ref().is_some_and(|provenance| !provenance.inline_only)
    }

    /// How much of provenance the file of `--metadata-file` has.
    pub(crate) fn metadata_mode(&self) -> Option<Mode> {
        self.metadata
    }

    fn add(&mut self, text: &str) -> Result<&'static str, CliError> {
        let usage = |problem: String| CliError::usage(problem).hint("write `type=provenance` or `type=sbom` first");
        let fields = csv_fields(text).map_err(usage)?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        let (mut kind, mut is_disabled) = (String::new(), false);
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            match key.trim().to_lowercase().as_str() {
                "type" => value.clone_into(&mut kind),
                "disabled" => is_disabled = boolean("disabled", value)?,
                _ => parameters.push((key.trim().to_owned(), value.to_owned())),
            }
        }
        match kind.as_str() {
            "provenance" => {
                let provenance = ProvenanceRequest::of(parameters)?;
                self.provenance = (!is_disabled).then_some(provenance);
                Ok("provenance")
            }
            "sbom" => {
                let sbom = SbomRequest::of(parameters)?;
                self.sbom = (!is_disabled).then_some(sbom);
                Ok("sbom")
            }
            "" => Err(usage("`type` is missing".to_owned())),
            other => Err(usage(format!("there is no attestation of type `{other}`"))),
        }
    }
}

impl ProvenanceRequest {
    fn of(parameters: Vec<(String, String)>) -> Result<Self, CliError> {
        let mut request = Self::default();
        for (key, value) in parameters {
            match (key.to_lowercase().as_str(), value.as_str()) {
                ("mode", "min") => request.mode = Mode::Min,
                ("mode", "max") => request.mode = Mode::Max,
                ("mode", other) => return Err(CliError::usage(format!("`mode` is `min` or `max`, not `{other}`"))),
                ("version", "v0.2") => request.version = Version::V02,
                ("version", "v1") => request.version = Version::V1,
                ("version", other) => {
                    return Err(CliError::usage(format!("`version` is `v0.2` or `v1`, not `{other}`")));
                }
                ("builder-id", _) => request.builder_id = value,
                ("inline-only", _) => request.inline_only = boolean("inline-only", &value)?,
                ("reproducible", _) => request.is_reproducible = boolean("reproducible", &value)?,
                (other, _) => return Err(CliError::usage(format!("provenance has no parameter `{other}`"))),
            }
        }
        Ok(request)
    }
}

impl SbomRequest {
    fn of(parameters: Vec<(String, String)>) -> Result<Self, CliError> {
        let mut request = Self::default();
        for (key, value) in parameters {
            if key.eq_ignore_ascii_case("generator") {
                request.generator = Some(value).filter(|image| !image.is_empty());
            } else {
                request.parameters.insert(key, value);
            }
        }
        match request.parameters.keys().next() {
            Some(key) if request.generator.is_none() => {
                Err(CliError::usage(format!("kiln's own scanner has no parameter `{key}`"))
                    .hint("parameters are for the scanner image that `generator=IMAGE` names"))
            }
            _ => Ok(request),
        }
    }
}

/// What a short flag stands for.
fn short(kind: &str, text: &str) -> String {
    match boolean("", text) {
        Ok(is_wanted) => format!("type={kind},disabled={}", !is_wanted),
        Err(_) => format!("type={kind},{text}"),
    }
}

fn text_of(variable: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// As Go reads them.
fn boolean(key: &str, value: &str) -> Result<bool, CliError> {
    match value {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(CliError::usage(format!("`{key}` is `true` or `false`, not `{value}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attestations: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Result<AttestRequest, CliError> {
        let text = |text: &str| text.to_owned();
        let args = AttestArgs {
            attestations: attestations.iter().map(|attestation| text(attestation)).collect(),
            provenance: provenance.map(text),
            sbom: sbom.map(text),
        };
        AttestRequest::new(args, &|_| None)
    }

    fn message(attestations: &[&str], provenance: Option<&str>) -> String {
        request(attestations, provenance, None).unwrap_err().message
    }

    #[test]
    fn nothing_is_attached_unasked() {
        let request = request(&[], None, None).unwrap();
        assert!(!request.attaches());
        assert_eq!(request.metadata, Some(Mode::Min));
    }

    #[test]
    fn both_ways_of_asking_mean_the_same() {
        let spec = "type=provenance,mode=max,version=v1,builder-id=https://ci/1,inline-only=true,reproducible=1";
        let long = request(&[spec, "type=sbom"], None, None).unwrap();
        let rest = spec.strip_prefix("type=provenance,").unwrap();
        assert_eq!(long, request(&[], Some(rest), Some("true")).unwrap());
        let provenance = long.provenance.unwrap();
        assert_eq!((provenance.mode, provenance.version), (Mode::Max, Version::V1));
        assert_eq!(provenance.builder_id, "https://ci/1");
        assert!(provenance.inline_only && provenance.is_reproducible);
        assert_eq!(request(&[], Some("true"), None).unwrap().provenance, Some(ProvenanceRequest::default()));
        assert_eq!(request(&["type=sbom,disabled=true"], Some("false"), None).unwrap().sbom, None);
    }

    #[test]
    fn scanner_images_have_parameters() {
        let sbom = request(&[], None, Some("generator=r.example/scan:1,DEEP=yes")).unwrap().sbom.unwrap();
        assert_eq!(sbom.generator.as_deref(), Some("r.example/scan:1"));
        assert_eq!(sbom.parameters["DEEP"], "yes");
        assert!(request(&[], None, Some("DEEP=yes")).unwrap_err().message.contains("no parameter `DEEP`"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(message(&["mode=max"], None).contains("`type` is missing"));
        assert!(message(&["type=poem"], None).contains("no attestation of type `poem`"));
        assert!(message(&["type=provenance"], Some("true")).contains("twice"));
        assert!(message(&[], Some("mode=most")).contains("not `most`"));
        assert!(message(&[], Some("version=v3")).contains("not `v3`"));
        assert!(message(&[], Some("colour=red")).contains("no parameter `colour`"));
    }
}
