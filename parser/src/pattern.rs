//! The wildcards of `COPY` and `ADD`: Go's `filepath.Match`, which never crosses a slash.

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern: {why}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub struct Pattern {}

impl Pattern {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let _ = pattern;
        todo!()
    }

    /// Whether all of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        let _ = name;
        todo!()
    }
}

/// Whether all of `name` matches `pattern`. For many names compile a [`Pattern`] once.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, PatternError> {
    Ok(Pattern::new(pattern)?.matches(name))
}

/// Whether `pattern` has a wildcard, so may match several paths (BuildKit's `containsWildcards`): a backslash takes
/// the character behind it out of account.
pub fn has_wildcards(pattern: &str) -> bool {
    let _ = pattern;
    todo!()
}

/// The directory above the first component with a wildcard, without a trailing slash; all of `pattern` if it has
/// none. What matches lies below. `a/b/*.c` gives `a/b`, `*.c` the empty string.
pub fn literal_prefix(pattern: &str) -> &str {
    let _ = pattern;
    todo!()
}
