//! The `# syntax=` line: kiln has one frontend, Docker's, built in.

use kiln_image::Reference;
use kiln_parser::Directives;

use crate::findings::{Findings, error_at};

/// The images of Docker's own frontend.
const BUILT_IN: &[&str] = &["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];

/// An error where a frontend other than Docker's is asked for.
pub(crate) fn check(directives: &Directives, findings: &mut Findings) {
    let Some(syntax) = &directives.syntax else { return };
    // Docker takes what stands behind the image for arguments to it.
    let image = syntax.value.split_whitespace().next().unwrap_or_default();
    let is_built_in = Reference::parse(image).is_ok_and(|image| BUILT_IN.contains(&image.name().as_str()));
    if !is_built_in {
        findings.add(
            error_at(syntax, "syntax", format!("the frontend `{}` is not supported", syntax.value))
                .label("another frontend")
                .hint("kiln reads Dockerfiles itself: leave the line out, or write `docker/dockerfile:1`"),
        );
    }
}
