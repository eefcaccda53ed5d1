//! Docker's shell word expansion, as the Dockerfile reference describes it under "Environment replacement".
//!
//! | written | gives |
//! |---|---|
//! | `$name`, `${name}` | the value, or nothing |
//! | `${name:-word}`, `${name-word}` | the value; `word` if it is unset (with `:` also if it is empty) |
//! | `${name:+word}`, `${name+word}` | `word` if it is set (with `:` also not empty), else nothing |
//! | `${name:?word}`, `${name?word}` | the value; an error that says `word` if it is unset (or empty) |
//! | `${name#pattern}`, `${name##pattern}` | the value without the shortest, longest, match at its start |
//! | `${name%pattern}`, `${name%%pattern}` | the same at its end |
//! | `${name/pattern/word}`, `${name//pattern/word}` | the value with the first match, every match, replaced |
//! | `'…'`, `"…"`, `\c` | quotes and the escape character work as in a shell |

mod machine;
mod shell_pattern;

use machine::{Machine, Mode};

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result, quotes removed.
    pub value: String,
    /// The variables that were read and not defined, in order, each once. Those of `-`, `+` and `?` forms, which
    /// say themselves what to do then, do not count.
    pub undefined: Vec<String>,
}

/// Several words after expansion and splitting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words, quotes removed.
    pub words: Vec<String>,
    /// The variables that were read and not defined, as in [`Expanded`].
    pub undefined: Vec<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote that does not end.
    #[error("the quote `{0}` is not closed")]
    UnclosedQuote(char),
    /// A `${` that does not end.
    #[error("`${{{0}` is not closed: `}}` is missing")]
    UnclosedBrace(String),
    /// A `${name/pattern` without the slash behind the pattern.
    #[error("`${{{0}/…}}` needs a second `/` before the replacement")]
    MissingReplacement(String),
    /// `${}` and the like: no name.
    #[error("`${{` needs the name of a variable behind it")]
    MissingName,
    /// A form that Docker does not have.
    #[error("`{modifier}` in `${{{name}{modifier}…}}` is not supported")]
    UnsupportedModifier {
        /// The variable.
        name: String,
        /// What stands behind its name.
        modifier: String,
    },
    /// A pattern with a backslash before a character that needs none.
    #[error("the pattern `{pattern}` of `{name}` is not valid: {why}")]
    BadPattern {
        /// The variable.
        name: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The result would be too long.
    #[error("the result is longer than {limit} bytes")]
    TooLong {
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// `${name?message}` of a variable that is unset or empty.
    #[error("`{name}`: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it.
        message: String,
    },
}

/// Expands one word: quotes are removed, nothing is split. `escape` is the Dockerfile's escape character.
pub fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    if !word.contains(['$', '\'', '"', escape]) {
        return Ok(Expanded { value: word.to_owned(), undefined: Vec::new() });
    }
    let result = Machine::new(word, escape, Mode::Quotes, lookup).run()?;
    Ok(Expanded { value: result.value, undefined: result.undefined })
}

/// Expands for a place where Docker splits into words (as `EXPOSE $PORTS`): unquoted white space, also such that
/// a variable brings, separates words. Empty words vanish.
pub fn expand_words(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<ExpandedWords, ExpandError> {
    let result = Machine::new(word, escape, Mode::Quotes, lookup).run()?;
    Ok(ExpandedWords { words: result.words, undefined: result.undefined })
}

/// Expands where quotes are characters like any other: in the heredocs of `COPY` and `ADD` ([`crate::Heredoc`]).
/// Their escape character is always the backslash.
pub fn expand_heredoc(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let result = Machine::new(text, '\\', Mode::NoQuotes, lookup).run()?;
    Ok(Expanded { value: result.value, undefined: result.undefined })
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
