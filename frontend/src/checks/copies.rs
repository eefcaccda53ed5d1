//! `CopyIgnoredFile`: sources that `.dockerignore` leaves out.

use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Word};

use super::reporter::Reporter;
use super::rules::COPY_IGNORED_FILE;

/// A source of the main context after expansion, and the word that it came from.
pub(crate) fn check(
    source: &str,
    word: &Word,
    keyword: &str,
    ignore: &Ignore,
    instruction: usize,
    reporter: &mut Reporter,
) {
    let parts: Vec<&str> = source.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    // The context itself is never left out, and `..` is for the copy to deal with.
    if parts.is_empty() || parts.contains(&"..") || is_remote(source) {
        return;
    }
    let path = parts.join("/");
    if !ignore.is_ignored(path.as_bytes()) || may_bring_something(&parts, &path, ignore) {
        return;
    }
    let message = format!("`{keyword}` of `{source}`, which `.dockerignore` leaves out");
    let finding = Diagnostic::warning(message)
        .at(word.span)
        .hint(format!("copy something else, or add `!{path}` behind the pattern in `.dockerignore`"));
    reporter.add(COPY_IGNORED_FILE, instruction, finding);
}

/// Whether an exception in `.dockerignore` may bring back something below a directory, or that a wildcard matches.
fn may_bring_something(parts: &[&str], path: &str, ignore: &Ignore) -> bool {
    let literal: Vec<&str> = parts.iter().copied().take_while(|part| !part.contains(['*', '?', '['])).collect();
    if literal.len() < parts.len() {
        return ignore.may_include_below(literal.join("/").as_bytes());
    }
    ignore.may_include_below(path.as_bytes())
}

pub(crate) fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@")
}
