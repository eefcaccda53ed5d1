//! `kiln history export`: what Docker Desktop imports as a build, `docker buildx history export`'s `.dockerbuild`.
//!
//! An OCI image layout in a tar archive, compressed by gzip. Of each build there is a manifest, with the [`record`] as
//! its config; its layers are the trace ([`stubs`]) and what the steps printed ([`status`]). Several builds stand in an
//! index (docker/buildx, `util/desktop/bundle`).

mod record;
mod status;
mod stubs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_cache::Store;
use kiln_cache::history::{BuildRecord, BuildStatus};
use kiln_image::export;
use kiln_image::spec::{Descriptor, Extra, Index, Manifest, media_type};
use kiln_solver::{Cancel, Digest};
use serde::Serialize;

use super::find_ended;
use super::spans::Trace;
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::output::Output;
use crate::session::{Session, store_error};

/// Write builds into an archive that Docker Desktop imports
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The builds, by the beginnings of their IDs or as `^N`, the build N before the last [default: the last one]
    #[arg(value_name = "BUILD")]
    builds: Vec<String>,

    /// All that have come to an end
    #[arg(long, conflicts_with = "builds")]
    all: bool,

    /// Write to this file, such as `build.dockerbuild` [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// For scripts of others: records are always final here
    #[arg(long, hide = true)]
    finalize: bool,
}

/// The media types of what is in there.
const RECORD: &str = "application/vnd.buildkit.historyrecord.v0";
const TRACE: &str = "application/vnd.buildkit.otlp.json.v0";
const STATUS: &str = "application/vnd.buildkit.status.v0";
/// Says in an index which build a manifest is of.
const REFERENCE: &str = "vnd.buildkit.history.reference";

/// Writes it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let mut output = Output::new(args.output.as_deref(), "an archive")?;
    let store = Session::open(environment)?.store;
    let builds = chosen(args, &store)?;
    let mut bundle = Bundle::default();
    let mut manifests = Vec::new();
    for build in &builds {
        let mut manifest = bundle.add_build(&store, build)?;
        if builds.len() > 1 {
            manifest.annotations.insert(REFERENCE.to_owned(), build.id.clone());
        }
        manifests.push(manifest);
    }
    let root = match <[Descriptor; 1]>::try_from(manifests) {
        Ok([only]) => only,
        Err(manifests) => bundle.add_json(media_type::OCI_INDEX, &Index::of(manifests))?,
    };
    export::documents(root, &bundle.documents, output.destination(), &Cancel::new())
        .map_err(|error| image_error(&error))
}

fn chosen(args: &Args, store: &Store) -> Result<Vec<BuildRecord>, CliError> {
    if args.all {
        let builds = store.builds().map_err(|error| store_error(&error))?;
        let ended: Vec<BuildRecord> = builds.into_iter().filter(|build| build.status != BuildStatus::Running).collect();
        return if ended.is_empty() { Err(super::no_builds()) } else { Ok(ended) };
    }
    match &args.builds[..] {
        [] => Ok(vec![find_ended(store, None)?]),
        builds => builds.iter().map(|build| find_ended(store, Some(build))).collect(),
    }
}

/// The documents of an archive.
#[derive(Default)]
struct Bundle {
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl Bundle {
    /// Gives the descriptor of its manifest.
    fn add_build(&mut self, store: &Store, build: &BuildRecord) -> Result<Descriptor, CliError> {
        let trace = self.add(TRACE, stubs::json(&Trace::read(store, build)?));
        let logs = self.add(STATUS, status::encode(store, build)?);
        let config = self.add_json(RECORD, &record::Record::new(build, &trace, &logs))?;
        let layers = vec![trace, logs];
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config,
            layers,
            annotations: BTreeMap::new(),
            extra: Extra::default(),
        };
        self.add_json(media_type::OCI_MANIFEST, &manifest)
    }

    fn add_json(&mut self, media_type: &str, document: &impl Serialize) -> Result<Descriptor, CliError> {
        let bytes = serde_json::to_vec_pretty(document)
            .map_err(|error| CliError::bug(format!("a build has no JSON form: {error}")))?;
        Ok(self.add(media_type, bytes))
    }

    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.documents.insert(digest, bytes);
        descriptor
    }
}
