//! Docker's shell word expansion: `$name`, `${name:-word}`, quotes and the escape character, as the reference of
//! the Dockerfile describes it under "Environment replacement".

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result, quotes removed.
    pub value: String,
    /// The variables that were read and not defined, in order, each once.
    pub undefined: Vec<String>,
}

/// Several words after expansion and splitting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words, quotes removed.
    pub words: Vec<String>,
    /// The variables that were read and not defined, in order, each once.
    pub undefined: Vec<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote that does not end.
    #[error("the quote `{0}` is not closed")]
    UnclosedQuote(char),
}

/// Expands one word: quotes are removed, nothing is split. `escape` is the Dockerfile's escape character.
pub fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let _ = (word, escape, lookup);
    todo!()
}

/// Expands for a place where Docker splits into words (as `EXPOSE $PORTS`): unquoted white space, also such that
/// a variable brings, separates words.
pub fn expand_words(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<ExpandedWords, ExpandError> {
    let _ = (word, escape, lookup);
    todo!()
}

/// Expands variables and keeps quotes and escapes as they are (Docker does so in heredocs: [`crate::Heredoc`]).
pub fn expand_raw(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let _ = (text, escape, lookup);
    todo!()
}
