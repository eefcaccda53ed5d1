//! The Dockerfile language: from text to instructions with spans, and the small languages around it.
//!
//! * [`parse`] turns a Dockerfile into an [ast] and a list of [`Diagnostic`]s; it never fails and never stops at the first error.
//! * [`expand`] is Docker's shell word expansion (`$name`, `${name:-word}`, quotes).
//! * [`ignore`] is `.dockerignore`, [`pattern`] the wildcards of `COPY` and `ADD`.
//!
//! Nothing here does any I/O.

mod annotations;
pub mod ast;
mod diagnostic;
mod directives;
mod document;
pub mod expand;
mod flags;
mod glob;
mod heredoc;
pub mod ignore;
mod instructions;
mod json;
mod keyword;
mod layout;
mod lines;
pub mod pattern;
mod span;
mod statement;
mod suggest;
mod words;

pub use ast::*;
pub use diagnostic::{Diagnostic, Severity};
pub use layout::{comments_above, empty_continuation_lines};
pub use span::{Span, Spanned, Word};

/// Parses a whole Dockerfile. What could not be understood is left out of the instructions and told in the
/// diagnostics; spans are byte offsets into `text`.
pub fn parse(text: &str) -> Parsed {
    document::parse(text)
}
