//! Expansion that also says which variables it used.

use std::cell::RefCell;
use std::collections::BTreeSet;

use kiln_parser::{Span, Word, expand};

use crate::environment::Environment;
use crate::findings::similar;

/// What expanding a word told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Use {
    pub(crate) value: String,
    /// Variables that were there.
    pub(crate) found: BTreeSet<String>,
    /// Variables that were not, and nothing was said for that case.
    pub(crate) undefined: Vec<String>,
}

/// Expands; `None` where that is an error, which lowering tells.
pub(crate) fn expand_word(word: &str, escape: char, environment: &Environment) -> Option<Use> {
    let found = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        let value = environment.get(name)?.to_owned();
        found.borrow_mut().insert(name.to_owned());
        Some(value)
    };
    let expanded = expand::expand(word, escape, &lookup).ok()?;
    Some(Use { value: expanded.value, undefined: expanded.undefined, found: found.into_inner() })
}

/// Where in a word a variable is used; the whole word where that cannot be said.
pub(crate) fn variable_span(text: &str, word: &Word, name: &str) -> Span {
    let written = text.get(word.span.range()).unwrap_or_default();
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    for (prefix, suffix) in [("${", "}"), ("$", "")] {
        let wanted = format!("{prefix}{name}");
        for (at, _) in written.match_indices(&wanted) {
            let rest = written.get(at + wanted.len()..).unwrap_or_default();
            if is_end(rest) {
                let start = word.span.start + at;
                let closing = if rest.starts_with(suffix) { suffix.len() } else { 0 };
                return Span::new(start, start + wanted.len() + closing);
            }
        }
    }
    word.span
}

/// The one of these variables that was probably meant. Very short names are all alike.
pub(crate) fn near<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const SHORTEST: usize = 3;
    if name.len() < SHORTEST { None } else { similar(name, known) }
}
