//! The `# syntax=` line: kiln has one frontend, Docker's, built in.

use kiln_image::Reference;
use kiln_parser::{Diagnostic, Directives};

use crate::Options;
use crate::findings::error_at;

/// The images of Docker's own frontend.
const BUILT_IN: &[&str] = &["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];
/// The build argument that names a frontend, whatever the Dockerfile says.
const ARGUMENT: &str = "BUILDKIT_SYNTAX";
const HINT: &str = "kiln reads Dockerfiles itself";

/// An error where a frontend other than Docker's is asked for. A Dockerfile for another one cannot be expected to
/// be one for Docker's, so this error is worth being told before all others.
///
/// # Errors
/// What asks for it.
pub fn check_syntax(directives: &Directives, options: &Options) -> Result<(), Diagnostic> {
    if let Some(wanted) = options.build_args.get(ARGUMENT).filter(|wanted| !wanted.is_empty()) {
        if is_built_in(wanted) {
            return Ok(());
        }
        let message = format!("the frontend `{wanted}` of the build argument `{ARGUMENT}` is not supported");
        let hint = format!("{HINT}: leave the argument out, or give it `docker/dockerfile:1`");
        return Err(Diagnostic::error(message).hint(hint).code("syntax"));
    }
    let Some(syntax) = directives.syntax.as_ref().filter(|syntax| !is_built_in(&syntax.value)) else { return Ok(()) };
    Err(error_at(syntax, "syntax", format!("the frontend `{}` is not supported", syntax.value))
        .label("another frontend")
        .hint(format!("{HINT}: leave the line out, or write `docker/dockerfile:1`")))
}

/// Docker takes what stands behind the image for arguments to it.
fn is_built_in(text: &str) -> bool {
    let image = text.split_whitespace().next().unwrap_or_default();
    Reference::parse(image).is_ok_and(|image| BUILT_IN.contains(&image.name().as_str()))
}
