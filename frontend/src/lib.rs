//! From a parsed Dockerfile to a graph of steps and the config of an image, with the meaning that BuildKit's
//! Dockerfile frontend gives it.
//!
//! The way of [`lower`]: global arguments (`args`), stages with their names and bases (`stages`, `nodes`), the
//! stages that the target needs, base images (`resolve`), and then one stage after the other, one instruction
//! after the other (`stage` and a file for each kind of instruction).
//!
//! **Invariant**: no I/O but what the caller's [`Resolver`] does, and nothing is run: the same Dockerfile,
//! options and base images always give the same graph.

mod build;
mod options;
mod resolver;

pub use build::Build;
pub use options::{NamedContext, Options};
pub use resolver::{BaseImage, Resolver};

use kiln_parser::{Diagnostic, Dockerfile};

/// Lowers a Dockerfile.
///
/// # Errors
/// Everything that is found wrong with it, not just the first thing, in the order of the file.
pub fn lower(
    dockerfile: &Dockerfile,
    options: &Options,
    resolver: &dyn Resolver,
) -> Result<Build, Vec<Diagnostic>> {
    let _ = (dockerfile, options, resolver);
    todo!("lowering")
}
