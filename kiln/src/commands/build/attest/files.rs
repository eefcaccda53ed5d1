//! Statements as files, for exports of files: they are a layer on top of all others.

use kiln_cache::{StoredLayer, View};
use kiln_image::attest::{Attestation, Subject};
use kiln_image::{ImageError, Images};
use kiln_solver::{Cancel, Layer, Origin};

use super::Statements;
use crate::error::{self, CliError, Kind};
use crate::local::image_error;
use crate::session::store_error;

/// The file that provenance goes into.
const PROVENANCE: &str = "provenance.json";

impl Statements {
    /// A layer with files that say all this of the files of these layers; none where there is nothing to say. Their
    /// names begin with a prefix, and what they are of (a platform) stands before their ending.
    pub(in crate::commands::build) fn layer(
        &self,
        images: &Images,
        layers: &[Layer],
        (prefix, infix): (&str, Option<&str>),
        cancel: &Cancel,
    ) -> Result<Option<Layer>, CliError> {
        let files = self.files();
        if files.is_empty() {
            return Ok(None);
        }
        let subjects = subjects(images, layers, cancel)?;
        let draft = images.store().begin_layer().map_err(|error| store_error(&error))?;
        for (name, attestation) in files {
            let path = draft.files().join(file_name(&name, prefix, infix));
            write(&path, &attestation.statement(&subjects)).map_err(|error| error::io("write", &path, &error))?;
        }
        let stored = draft.commit(std::time::SystemTime::now()).map_err(|error| store_error(&error))?;
        Ok(Some(Layer { diff_id: *stored.diff_id(), origin: Origin::Built }))
    }

    /// What is said, by the names that BuildKit has for the files.
    fn files(&self) -> Vec<(String, Attestation)> {
        let request = self.request.as_ref().filter(|request| !request.inline_only);
        let provenance = request
            .zip(self.provenance.as_ref())
            .map(|(request, provenance)| (PROVENANCE.to_owned(), provenance.attest(request.version, request.mode)));
        self.sboms.iter().cloned().chain(provenance).collect()
    }
}

fn write(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// `PREFIXprovenance.INFIX.json`
fn file_name(name: &str, prefix: &str, infix: Option<&str>) -> String {
    match (infix, name.rsplit_once('.')) {
        (Some(infix), Some((stem, ending))) => format!("{prefix}{stem}.{infix}.{ending}"),
        _ => format!("{prefix}{name}"),
    }
}

/// All regular files of the tree of these layers.
fn subjects(images: &Images, layers: &[Layer], cancel: &Cancel) -> Result<Vec<Subject>, CliError> {
    images.ensure(layers, cancel).map_err(|error| image_error(&error))?;
    let stored = |layer: &Layer| -> Result<StoredLayer, CliError> {
        let stored = images.store().layer(&layer.diff_id).map_err(|error| store_error(&error))?;
        stored.ok_or_else(|| image_error(&ImageError::LostLayer(layer.diff_id)))
    };
    let view = View::new(layers.iter().map(stored).collect::<Result<_, _>>()?);
    let found = view.walk(b"").map_err(|error| CliError::from_error(Kind::Environment, &error))?;
    let subject = |found: &kiln_cache::Found<'_>| {
        let name = String::from_utf8_lossy(found.entry.path).into_owned();
        Some(Subject { name, digest: found.entry.content? })
    };
    Ok(found.iter().filter_map(subject).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_buildkit() {
        assert_eq!(file_name(PROVENANCE, "", None), "provenance.json");
        assert_eq!(file_name("sbom.spdx.json", "x-", None), "x-sbom.spdx.json");
        assert_eq!(file_name("sbom.spdx.json", "", Some("linux_arm_v7")), "sbom.spdx.linux_arm_v7.json");
    }
}
