//! Caches elsewhere: `--cache-from` and `--cache-to`.

mod actions;
mod args;
mod aws;
mod bucket;
mod request;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::UNIX_EPOCH;

use kiln_executor::Executor;
use kiln_image::remote_cache::{self, Cache, CachedRecords, ExportPlace, Gathered, ImportPlace, Mode, Vertices};
use kiln_image::spec::Image;
use kiln_image::{ImageError, Images};
use kiln_solver::{Cancel, Graph, Key, Layer, Output, StepId};

pub(super) use args::CacheArgs;
pub(super) use request::CacheRequest;
use request::CacheTo;

use super::lower::Lowered;
use super::{Builder, Work, glue};
use crate::error::CliError;
use crate::local::image_error;
use crate::progress::Progress;
use crate::session::store_error;
use crate::terminal;

/// Definition keys of the steps of a build.
pub(super) type Keys = std::collections::BTreeMap<StepId, Key>;

/// Caches on their way here, while the build reads its contexts.
#[derive(Default)]
pub(super) struct Imports {
    reading: Mutex<Vec<JoinHandle<Read>>>,
    warnings: Mutex<Vec<String>>,
}

/// What came of reading one.
enum Read {
    Cache(Box<Cache>),
    Warning(String),
    /// The build was stopped.
    Nothing,
}

impl Imports {
    /// Begins to read the caches of the request.
    pub(super) fn begin(request: &CacheRequest, images: &Arc<Images>, progress: &Progress, cancel: &Cancel) -> Self {
        let imports = Self::default();
        request.passed_over.iter().for_each(|flag| {
            imports.warn(format!(
                "`{flag}` does nothing: this is no job of GitHub Actions that has told kiln of its cache"
            ));
        });
        for place in request.from.clone() {
            let (images, progress, cancel) = (images.clone(), progress.clone(), cancel.clone());
            let name = name_of(&place);
            let read = move || read(&images, &place, &progress, &cancel);
            match std::thread::Builder::new().name("cache".to_owned()).spawn(read) {
                Ok(thread) => imports.reading().push(thread),
                Err(error) => imports.warn(format!("cannot read the cache `{name}`: {error}")),
            }
        }
        imports
    }

    /// Waits for all of them.
    fn wait(&self) -> Vec<Cache> {
        let mut caches = Vec::new();
        for thread in std::mem::take(&mut *self.reading()) {
            match thread.join() {
                Ok(Read::Cache(cache)) => caches.push(*cache),
                Ok(Read::Warning(warning)) => self.warn(warning),
                Ok(Read::Nothing) | Err(_) => {}
            }
        }
        caches
    }

    fn warn(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<Read>>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(place: &ImportPlace) -> String {
    match place {
        ImportPlace::Local { directory, .. } => directory.display().to_string(),
        ImportPlace::Registry(reference) => reference.familiar(),
        ImportPlace::Bucket(shelf) => shelf.to_string(),
        ImportPlace::Actions(actions) => actions.to_string(),
    }
}

fn read(images: &Images, place: &ImportPlace, progress: &Progress, cancel: &Cancel) -> Read {
    let name = name_of(place);
    let read = progress.during(&format!("importing cache manifest from {name}"), |group| {
        let cache = remote_cache::import(images, place, cancel).map_err(|error| image_error(&error))?;
        if cache.is_foreign() {
            progress.note(group, "BuildKit wrote it");
        }
        Ok(cache)
    });
    match read {
        Ok(cache) => Read::Cache(Box::new(cache)),
        Err(_) if cancel.is_requested() => Read::Nothing,
        Err(error) => Read::Warning(format!("cannot read the cache `{name}`: {}", error.message)),
    }
}

impl Builder<'_> {
    /// What is remembered here and in the caches elsewhere of the steps that make these.
    pub(super) fn records(&self, graph: &Graph, targets: &[StepId], executor: &Executor, work: &Work) -> CachedRecords {
        let mut records = CachedRecords::new(work.session.store.clone(), work.caches.wait());
        if records.are_foreign() {
            records.know(&work.images, graph, &self.vertices(graph, targets, executor, work));
        }
        records
    }

    /// The keys that BuildKit would give the steps that make these.
    pub(super) fn vertices(&self, graph: &Graph, targets: &[StepId], executor: &Executor, work: &Work) -> Vertices {
        let inputs = glue::Inputs { executor, images: &work.images, cancel: &work.cancel };
        let since_1970 = self.request.source_date_epoch.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let time = since_1970.and_then(|time| i64::try_from(time.as_nanos()).ok());
        Vertices::of(graph, &graph.needed(targets), &inputs, time)
    }

    /// Whether somebody is told what the steps came to.
    pub(super) fn tells(&self) -> bool {
        !self.request.cache.to.is_empty()
    }

    /// Whether files or bytes of the result are needed here.
    pub(super) fn needs_layers(&self) -> bool {
        let (names, is_listed) = self.request.stored_names();
        let is_written = self.request.outputs.iter().any(|output| !output.is_elsewhere());
        !names.is_empty() || is_listed || is_written || self.request.source_date_epoch.is_some()
    }

    /// Says which caches could not be used.
    pub(super) fn warn_of_caches(&self, work: &Work) {
        let warnings = std::mem::take(&mut *work.caches.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        if !warnings.is_empty() && self.request.style.is_for_people() {
            self.progress.finish();
            warnings.iter().for_each(|warning| terminal::warn(warning, self.environment.colour));
        }
    }

    /// A cache turned out not to have what it said that it has: the build goes on without any.
    pub(super) fn give_up_caches(&self, work: &Work, why: &str) {
        work.session.store.forget_promises();
        work.caches.warn(format!("a cache did not keep its word, and the build went on without: {why}"));
    }

    /// What is told of the build.
    fn gather(&self, mode: Mode, told: &Told<'_>, layers: &[Vec<Layer>], work: &Work) -> Result<Gathered, CliError> {
        remote_cache::gather(&work.images, told.records, told.graph, told.keys, told.vertices, mode, layers)
            .map_err(|error| image_error(&error))
    }

    /// Puts what is known of its steps into each image, where that is asked for.
    pub(super) fn add_inline_cache(
        &self,
        lowered: &Lowered,
        told: &Told<'_>,
        layers: &[Vec<Layer>],
        work: &Work,
    ) -> Result<Vec<Image>, CliError> {
        let mut images: Vec<Image> = lowered.images.iter().map(|lowered| lowered.image.clone()).collect();
        images.iter_mut().for_each(remote_cache::remove_inline);
        if self.request.cache.to.contains(&CacheTo::Inline) {
            let gathered = self.gather(Mode::Min, told, layers, work)?;
            for (image, layers) in images.iter_mut().zip(layers) {
                remote_cache::inline(&work.images, image, &gathered, layers).map_err(|error| image_error(&error))?;
            }
        }
        Ok(images)
    }

    /// Writes the caches, and takes note here of what came from those that were read.
    pub(super) fn export_caches(&self, told: &Told<'_>, layers: &[Vec<Layer>], work: &Work) -> Result<(), CliError> {
        told.records.settle().map_err(|error| store_error(&error))?;
        for to in &self.request.cache.to {
            let CacheTo::Place { place, mode, options, ignore_error } = to else { continue };
            let (title, name) = match place {
                ExportPlace::Local { directory, .. } => {
                    ("exporting cache to client directory", directory.display().to_string())
                }
                ExportPlace::Registry(reference) => ("exporting cache to registry", reference.familiar()),
                ExportPlace::Bucket(shelf, _) => ("exporting cache to Amazon S3", shelf.to_string()),
                ExportPlace::Actions(actions) => ("exporting cache to GitHub Actions Cache", actions.to_string()),
            };
            let exported = self.progress.during(title, |group| {
                let gathered = self.gather(*mode, told, layers, work)?;
                let digest = remote_cache::export(&work.images, &gathered, place, options, &work.cancel);
                let digest = digest.map_err(|error| image_error(&error))?;
                self.progress.note(group, &format!("writing cache manifest {digest} done"));
                Ok(())
            });
            match exported {
                Err(error) if *ignore_error && !work.interrupt.is_set() => {
                    work.caches.warn(format!("cannot write the cache `{name}`: {}", error.message));
                }
                exported => exported.map_err(|error| error.context(format!("cannot write the cache `{name}`")))?,
            }
        }
        Ok(())
    }

    /// Fetches the layers of the result that are elsewhere, if they are needed here.
    pub(super) fn fetch_made(&self, made: &[Vec<Output>], work: &Work, cancel: &Cancel) -> Result<(), ImageError> {
        if !self.needs_layers() {
            return Ok(());
        }
        let layers = made.iter().flatten().filter_map(|output| match output {
            Output::Layers(layers) => Some(layers.as_slice()),
            Output::Local(_) => None,
        });
        let promised = |layer: &Layer| work.session.store.promise(&layer.diff_id).is_some();
        let layers: Vec<Layer> = layers.flatten().copied().filter(promised).collect();
        work.images.ensure_made(&layers, cancel)
    }
}

/// What there is to tell of a build.
pub(super) struct Told<'a> {
    pub(super) graph: &'a Graph,
    pub(super) keys: &'a Keys,
    pub(super) vertices: &'a Vertices,
    pub(super) records: &'a CachedRecords,
}
