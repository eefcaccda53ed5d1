//! Whether the outputs that are asked for can be written, and go together with the rest.

use kiln_image::Reference;
use kiln_image::export::{Annotations, Format};
use kiln_solver::Platform;

use super::super::attest::AttestRequest;
use super::super::output::{ImageAttributes, Output, Push};
use super::super::run::MIRROR;
use crate::error::CliError;

/// What `--push` means beside these outputs: images among them are pushed, or else the result is.
pub(super) fn push(outputs: &mut Vec<Output>) {
    let mut found = false;
    for output in outputs.iter_mut() {
        if let Output::Store { push, .. } = output {
            push.get_or_insert_default();
            found = true;
        }
    }
    if !found {
        let (image, push) = (ImageAttributes::default(), Some(Push::default()));
        outputs.push(Output::Store { image, is_kept: false, push });
    }
}

pub(super) fn check_names(outputs: &[Output], tags: &[Reference]) -> Result<(), CliError> {
    let nameless =
        |output: &Output| matches!(output, Output::Store { image, push: Some(_), .. } if image.names.is_empty());
    if tags.is_empty() && outputs.iter().any(nameless) {
        return Err(CliError::usage("an image that is pushed needs a name")
            .hint("give it one with `--tag`, or with `name=` of `--output`"));
    }
    Ok(())
}

/// Whether what is to be written has a place for what is to be said of it.
pub(super) fn check_attestations(outputs: &[Output], attest: &AttestRequest) -> Result<(), CliError> {
    if attest.attaches_elsewhere() && outputs.iter().any(is_docker_archive) {
        return Err(CliError::usage("an archive of `type=docker` has no index that attestations could be in")
            .hint("write `type=oci`, or leave `--attest`, `--provenance` and `--sbom` away"));
    }
    Ok(())
}

/// Whether it is an archive that only knows one image; what an engine takes is known when that is found.
fn is_docker_archive(output: &Output) -> bool {
    matches!(output, Output::Image { format: Format::Docker, .. }) && output.engine().is_none()
}

/// Whether what is to be loaded into an engine without indexes needs none.
pub(super) fn check_without_index(engine: &str, platforms: usize, attest: &AttestRequest) -> Result<(), CliError> {
    if platforms > 1 {
        return Err(CliError::user(format!("{engine} takes an image for one platform, and not for {platforms}"))
            .hint("give one `--platform`; Docker takes several if containerd keeps its images"));
    }
    if attest.attaches_elsewhere() {
        return Err(CliError::user(format!("{engine} has no index that attestations could be in"))
            .hint("leave `--attest`, `--provenance` and `--sbom` away, or push the image"));
    }
    Ok(())
}

/// Whether what is to be written fits to one platform or to several.
pub(super) fn check_platforms(
    outputs: &[Output],
    annotations: &Annotations,
    platforms: &[Platform],
    is_attested: bool,
) -> Result<(), CliError> {
    if platforms.len() > 1 {
        return match outputs.iter().any(is_docker_archive) {
            true => Err(CliError::usage("an archive of `type=docker` holds an image for one platform")
                .hint("write `type=oci`, which holds them all, or give one `--platform`")),
            false => Ok(()),
        };
    }
    let own = outputs.iter().filter_map(Output::image).map(|image| &image.annotations);
    if !is_attested && own.chain([annotations]).any(Annotations::need_index) {
        return Err(CliError::usage("an image for one platform has no index that annotations could be in")
            .hint("leave `index:` and `index-descriptor:` away, or give several platforms or `--provenance=true`"));
    }
    Ok(())
}

/// Whether all that is to be written can be.
pub(super) fn check_outputs(outputs: &[Output], allows_mirrors: bool) -> Result<(), CliError> {
    let current = std::env::current_dir().unwrap_or_default();
    let is_risky =
        |output: &&Output| matches!(output, Output::Files(files) if files.is_mirror && !files.is_below(&current));
    match outputs.iter().find(is_risky) {
        Some(Output::Files(files)) if !allows_mirrors => Err(CliError::user(format!(
            "`mode=delete` would remove everything else in `{}`, which is not below the current directory",
            files.directory.display()
        ))
        .hint(format!("add `--allow {MIRROR}` if that is meant"))),
        _ => Ok(()),
    }
}
