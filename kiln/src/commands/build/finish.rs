//! The end of a build: its images are put together and written out, and its files tell of them.

use kiln_image::spec::Image;
use kiln_solver::{Digest, Layer};

use super::cache::Told;
use super::carry_out::Solved;
use super::export::{Exporter, Made};
use super::lower::Lowered;
use super::{Builder, Work};
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
    pub(super) fn finish(&self, lowered: &Lowered, solved: &Solved, work: &Work) -> Result<Digest, CliError> {
        let request = self.request;
        let fixed = request.source_date_epoch;
        let make = |(image, layers): (Image, &Vec<Layer>)| {
            let image = kiln_image::assemble(&work.session.store, &image, layers, fixed)
                .map_err(|error| image_error(&error))?
                .record;
            Ok(Made { image, layers: layers.clone() })
        };
        let told = Told { graph: &lowered.graph, keys: &solved.keys, records: &solved.records };
        let images = self.add_inline_cache(lowered, &told, &solved.layers, work)?;
        let made = images.into_iter().zip(&solved.layers).map(make).collect::<Result<Vec<_>, CliError>>()?;
        let exporter =
            Exporter { images: &work.images, progress: self.progress, cancel: &work.cancel, request, made: &made };
        let exported = exporter.run()?;
        self.export_caches(&told, &solved.layers, work)?;
        let id = exported.id();
        if let Some(path) = &request.iidfile {
            std::fs::write(path, id.to_string()).map_err(|error| error::io("write", path, &error))?;
        }
        if let Some(path) = &request.metadata_file {
            let metadata = exported.metadata(&request.tags, self.progress.build_id());
            std::fs::write(path, format!("{metadata:#}\n")).map_err(|error| error::io("write", path, &error))?;
        }
        if request.print_id {
            terminal::print(&format!("{id}\n"))?;
        }
        Ok(id)
    }
}
