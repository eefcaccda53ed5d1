//! The record of a build as BuildKit keeps it (moby/buildkit, `BuildHistoryRecord` of the control API, as Go writes it in
//! JSON), with what buildx adds.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::history::{BuildEnd, BuildRecord, BuildStatus};
use kiln_image::spec::Descriptor;
use kiln_solver::{Digest, Platform};
use serde::Serialize;

use super::super::counts;

/// gRPC's codes of errors.
const CANCELLED: u32 = 1;
const UNKNOWN: u32 = 2;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Record<'a> {
    #[serde(rename = "Ref")]
    id: &'a str,
    frontend: &'static str,
    frontend_attrs: BTreeMap<String, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exporters: Option<[Exporter; 1]>,
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    error: Option<Failure<'a>>,
    created_at: Timestamp,
    completed_at: Timestamp,
    #[serde(rename = "logs")]
    logs: Reference<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exporter_response: BTreeMap<&'static str, String>,
    generation: u32,
    #[serde(rename = "trace")]
    trace: Reference<'a>,
    #[serde(rename = "numCachedSteps")]
    cached_steps: usize,
    #[serde(rename = "numTotalSteps")]
    total_steps: usize,
    #[serde(rename = "numCompletedSteps")]
    completed_steps: usize,
    default_platform: String,
    #[serde(rename = "localState")]
    local_state: LocalState<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exporter {
    #[serde(rename = "Type")]
    kind: &'static str,
    attrs: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: u32,
    message: &'a str,
}

#[derive(Serialize)]
struct Timestamp {
    seconds: u64,
    nanos: u32,
}

#[derive(Serialize)]
struct Reference<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LocalState<'a> {
    target: &'a str,
    local_path: &'a str,
    dockerfile_path: &'a str,
}

impl<'a> Record<'a> {
    /// Of a build whose trace and log lie there.
    pub(super) fn new(build: &'a BuildRecord, trace: &'a Descriptor, logs: &'a Descriptor) -> Self {
        let command = &build.command;
        let (total_steps, completed_steps, cached_steps) = counts(build);
        let (error, image) = match &build.status {
            BuildStatus::Ended(BuildEnd::Completed { image }) => (None, *image),
            BuildStatus::Ended(BuildEnd::Failed { error, .. }) => {
                (Some(Failure { code: UNKNOWN, message: error }), None)
            }
            BuildStatus::Ended(BuildEnd::Cancelled) => (Some(Failure { code: CANCELLED, message: "canceled" }), None),
            BuildStatus::Interrupted | BuildStatus::Running => {
                (Some(Failure { code: UNKNOWN, message: "interrupted" }), None)
            }
        };
        let exporter = || Exporter { kind: "image", attrs: [("name", command.tags.join(","))].into() };
        Self {
            id: &build.id,
            frontend: "dockerfile.v0",
            frontend_attrs: attributes(build),
            exporters: (!command.tags.is_empty()).then(|| [exporter()]),
            error,
            created_at: timestamp(build.began),
            completed_at: timestamp(build.began.checked_add(build.duration).unwrap_or(build.began)),
            logs: reference(logs),
            exporter_response: image
                .map(|image| ("containerimage.config.digest", image.to_string()))
                .into_iter()
                .collect(),
            generation: 1,
            trace: reference(trace),
            cached_steps,
            total_steps,
            completed_steps,
            default_platform: Platform::host().to_string(),
            local_state: LocalState {
                target: command.target.as_deref().unwrap_or("default"),
                local_path: &command.context,
                dockerfile_path: &command.dockerfile,
            },
        }
    }
}

/// What the frontend was asked for.
fn attributes(build: &BuildRecord) -> BTreeMap<String, &str> {
    let command = &build.command;
    let file = command.dockerfile.rsplit('/').next().unwrap_or(&command.dockerfile);
    let mut attributes = BTreeMap::from([("filename".to_owned(), file)]);
    if !command.platform.is_empty() {
        attributes.insert("platform".to_owned(), &command.platform);
    }
    attributes.extend(command.target.as_deref().map(|target| ("target".to_owned(), target)));
    attributes.extend(command.build_args.iter().map(|(name, value)| (format!("build-arg:{name}"), value.as_str())));
    attributes
}

fn reference(descriptor: &Descriptor) -> Reference<'_> {
    Reference { media_type: &descriptor.media_type, digest: descriptor.digest, size: descriptor.size }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp { seconds: since.as_secs(), nanos: since.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn a_record_is_as_buildkit_writes_it() {
        let blob = |media_type: &str| Descriptor::new(media_type, Digest::of(media_type.as_bytes()), 7);
        let (build, trace, logs) = (sample(), blob("trace"), blob("logs"));
        let record = Record { default_platform: "linux/amd64".to_owned(), ..Record::new(&build, &trace, &logs) };
        insta::assert_snapshot!(serde_json::to_string_pretty(&record).unwrap());
    }
}
