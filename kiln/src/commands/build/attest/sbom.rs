//! Lists of packages of what was built.

use std::io::Read as _;

use kiln_cache::{Found, ImageRecord, View};
use kiln_image::attest::{Attestation, SPDX};
use kiln_image::{ImageError, inspect};
use kiln_solver::{Digest, Layer};
use serde_json::Value;

use super::super::carry_out::Scanned;
use super::super::{Builder, Work};
use crate::error::{CliError, Kind};
use crate::local::image_error;
use crate::session::store_error;
use crate::{packages, terminal};

/// What the names of reports end with.
const SUFFIX: &str = ".spdx.json";
/// The list of the image itself.
const CORE: &str = "sbom";
/// The largest report that is taken, in bytes.
const LIMIT: u64 = 64 << 20;

impl Builder<'_> {
    /// The lists of an image, by the names of their files: those that a scanner has made, or else kiln's own.
    pub(super) fn sboms(
        &self,
        layers: &[Layer],
        scanned: &Scanned,
        image: &ImageRecord,
        work: &Work,
    ) -> Result<Vec<(String, Attestation)>, CliError> {
        if self.request.attest.sbom.is_none() {
            return Ok(Vec::new());
        }
        if let Some(reports) = &scanned.reports {
            return read_reports(reports, work);
        }
        self.progress.during("[internal] list packages", |_| {
            let extras = scanned.scans.iter().map(|(name, layers)| (format!("{CORE}-{name}"), layers.as_slice()));
            let all = [(CORE.to_owned(), layers)].into_iter().chain(extras);
            all.map(|(name, layers)| {
                let list = self.list(&name, layers, image, work)?;
                Ok((format!("{name}{SUFFIX}"), list))
            })
            .collect()
        })
    }

    /// kiln's own list of a tree.
    fn list(&self, name: &str, layers: &[Layer], image: &ImageRecord, work: &Work) -> Result<Attestation, CliError> {
        let inventory = packages::inventory(&work.images, layers, &work.cancel)?;
        if self.request.style.is_for_people() {
            for problem in &inventory.problems {
                terminal::warn(&format!("{problem}; its packages are not listed"), self.environment.colour);
            }
        }
        let config = inspect::config(work.images.store(), image).map_err(|error| image_error(&error))?;
        let document = |namespace: &str| packages::document(&inventory, name, namespace, config.created.as_deref());
        // By what it says: the image itself gets its digest only when its files are as old as they are to be.
        let text = serde_json::to_vec(&document("")).unwrap_or_default();
        let document = document(&format!("urn:kiln:sbom:{}", Digest::of(&text)));
        let predicate =
            serde_json::to_value(&document).map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))?;
        Ok(spdx(predicate))
    }
}

fn spdx(predicate: Value) -> Attestation {
    Attestation { predicate_type: SPDX.to_owned(), predicate }
}

/// The reports that a scanner has left, by name.
fn read_reports(layers: &[Layer], work: &Work) -> Result<Vec<(String, Attestation)>, CliError> {
    let stored = |layer: &Layer| {
        let stored = work.session.store.layer(&layer.diff_id).map_err(|error| store_error(&error))?;
        stored.ok_or_else(|| image_error(&ImageError::LostLayer(layer.diff_id)))
    };
    let view = View::new(layers.iter().map(stored).collect::<Result<_, CliError>>()?);
    let found = view.walk(b"").map_err(|error| CliError::from_error(Kind::Environment, &error))?;
    let is_report = |found: &&Found<'_>| {
        found.entry.is_file() && !found.entry.path.contains(&b'/') && found.entry.path.ends_with(SUFFIX.as_bytes())
    };
    let mut reports = Vec::new();
    for found in found.iter().filter(is_report) {
        let name = String::from_utf8_lossy(found.entry.path).into_owned();
        let report = read_report(found)
            .map_err(|reason| CliError::user(format!("the report `{name}` of the scanner cannot be used: {reason}")))?;
        reports.push((name, report));
    }
    if reports.is_empty() {
        return Err(CliError::user(format!("the scanner has left no report `NAME{SUFFIX}` in its destination"))
            .hint("a scanner image has to follow BuildKit's SBOM protocol"));
    }
    // The image comes before the trees that it was made from.
    reports.sort_by_key(|(name, _)| *name != format!("{CORE}{SUFFIX}"));
    Ok(reports)
}

/// A report is an SPDX document, or a statement with one.
fn read_report(found: &Found<'_>) -> Result<Attestation, String> {
    if found.entry.size > LIMIT {
        return Err(format!("it is larger than {} MiB", LIMIT >> 20));
    }
    let file = found.layer.open(&found.entry).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let mut report: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    match report.get("predicateType").map(|kind| kind.as_str() == Some(SPDX)) {
        Some(true) => Ok(spdx(report["predicate"].take())),
        Some(false) => Err("it says something else than SPDX documents do".to_owned()),
        None if report.get("spdxVersion").is_some() => Ok(spdx(report)),
        None => Err("it is no SPDX document".to_owned()),
    }
}
