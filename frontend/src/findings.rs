//! What there is to say about a Dockerfile, gathered while it is lowered.

use std::collections::HashSet;

use kiln_parser::{Diagnostic, Severity, Span, Word};

/// Errors and warnings so far.
#[derive(Default)]
pub(crate) struct Findings {
    all: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        self.all.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.all.extend(diagnostics);
    }

    /// Takes the value, or keeps the error.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.add(diagnostic)).ok()
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.all.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The places of the errors so far.
    pub(crate) fn error_spans(&self) -> HashSet<Span> {
        let errors = self.all.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        errors.filter_map(|diagnostic| diagnostic.span).collect()
    }

    /// In the order of the file, what concerns all of it first, each thing once.
    pub(crate) fn sorted(mut self) -> Vec<Diagnostic> {
        self.all.sort_by_key(|diagnostic| diagnostic.span.map(|span| (span.start, span.end)));
        self.all.dedup();
        self.all
    }
}

/// An error at a word, which the label repeats in few words.
pub(crate) fn error_at(word: &Word, code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(message).at(word.span).code(code)
}

/// A valid feature of the language that this version does not have.
pub(crate) fn unsupported(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(format!("{what} is not supported by this version of kiln"))
        .at(span)
        .label("not supported")
        .code("unsupported")
}

/// An error with everything that caused it, each cause once.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// The candidate that was probably meant.
pub(crate) fn similar<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are quadratic in the length, and whoever makes thousands of names makes thousands of mistakes.
    const LONGEST: usize = 64;
    const MOST: usize = 250;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(MOST)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
