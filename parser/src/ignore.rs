//! `.dockerignore`, with the semantics of `moby/patternmatcher`: the last pattern that matches a path or one of
//! the directories above it decides.

/// The patterns of a `.dockerignore` file, or those of `COPY --exclude`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {}

/// Why a `.dockerignore` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A `!` with nothing behind it.
    #[error("line {line}: `!` needs a pattern behind it")]
    NothingToInclude {
        /// The line, counted from 1.
        line: usize,
    },
}

/// What the patterns say of one path; for a directory, pass it on to what lies in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {}

impl Verdict {
    /// Whether the path is ignored.
    pub fn is_ignored(self) -> bool {
        todo!()
    }
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let _ = text;
        todo!()
    }

    /// From patterns already apart, as of `COPY --exclude`. Lines in errors are their positions, counted from 1.
    pub fn from_patterns<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, IgnoreError> {
        let _ = patterns.into_iter();
        todo!()
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether `path` (relative, with slashes, no trailing one) is ignored, itself or by a directory above it.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let _ = path;
        todo!()
    }

    /// For a walk from the top down: what the patterns say of `path`, given what they say of its directory
    /// (`Verdict::default()` for what lies at the top). Agrees with [`Ignore::is_ignored`] and costs less.
    pub fn verdict(&self, path: &[u8], directory: Verdict) -> Verdict {
        let _ = (path, directory);
        todo!()
    }

    /// Whether something below the ignored directory `directory` might still be included by a `!` pattern. A walk
    /// need not enter it if not.
    pub fn may_include_below(&self, directory: &[u8]) -> bool {
        let _ = directory;
        todo!()
    }
}
