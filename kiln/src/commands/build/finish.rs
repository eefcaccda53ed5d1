//! The end of a build: its images are put together and written out, and its files tell of them.

use std::collections::BTreeMap;

use kiln_executor::sources::Found;
use kiln_solver::{Digest, StepId};

use super::attest::Facts;
use super::cache::Told;
use super::carry_out::Solved;
use super::export::{Exporter, Made};
use super::lower::Lowered;
use super::{Builder, Work};
use crate::diagnostics::SourceFile;
use crate::error::{self, CliError};
use crate::local::image_error;
use crate::terminal;

impl Builder<'_> {
    /// So that nobody takes the ID of an earlier image for that of this build, should it fail.
    pub(super) fn remove_stale_id(&self) -> Result<(), CliError> {
        let Some(path) = &self.request.iidfile else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error::io("replace", path, &error)),
            _ => Ok(()),
        }
    }

    /// Puts the images together and writes them out; yields what the result is known by.
    pub(super) fn finish(
        &self,
        file: &SourceFile,
        lowered: &Lowered,
        solved: &Solved,
        found: &BTreeMap<StepId, Found>,
        work: &Work,
    ) -> Result<Digest, CliError> {
        let request = self.request;
        let fetched = work.fetched.borrow();
        let facts = Facts {
            request,
            environment: self.environment,
            images: &work.images,
            file,
            graph: &lowered.graph,
            found,
            fetched: &fetched,
            started: self.started,
            id: self.progress.build_id(),
        };
        let told =
            Told { graph: &lowered.graph, keys: &solved.keys, vertices: &solved.vertices, records: &solved.records };
        let images = self.add_inline_cache(lowered, &told, &solved.layers, work)?;
        let mut made = Vec::with_capacity(images.len());
        for (position, config) in images.into_iter().enumerate() {
            let layers = solved.layers.get(position).cloned().unwrap_or_default();
            let image = kiln_image::assemble(&work.session.store, &config, &layers, request.source_date_epoch)
                .map_err(|error| image_error(&error))?
                .record;
            let lowered = lowered.images.get(position).zip(solved.scanned.get(position));
            let (lowered, scanned) = lowered.ok_or_else(|| CliError::bug("an image that nobody asked for"))?;
            let statements = self.statements(&facts, lowered.target, (&layers, scanned), &image, work)?;
            made.push(Made { image, layers, statements });
        }
        let exporter = Exporter {
            images: &work.images,
            progress: self.progress,
            cancel: &work.cancel,
            request,
            made: &made,
            engine: self.engine.as_ref(),
        };
        let exported = exporter.run()?;
        self.export_caches(&told, &solved.layers, work)?;
        let id = exported.id();
        if let Some(path) = &request.iidfile {
            std::fs::write(path, id.to_string()).map_err(|error| error::io("write", path, &error))?;
        }
        if let Some(path) = &request.metadata_file {
            let mut metadata = exported.metadata(&request.tags, self.progress.build_id());
            metadata.extend(exporter.provenance());
            let metadata = serde_json::Value::Object(metadata);
            std::fs::write(path, format!("{metadata:#}\n")).map_err(|error| error::io("write", path, &error))?;
        }
        if request.print_id {
            terminal::print(&format!("{id}\n"))?;
        }
        Ok(id)
    }
}
