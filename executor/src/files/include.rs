//! The pattern of `COPY --parents`: which paths below a directory it asks for, and where there may be more of them.

use kiln_parser::ignore::Ignore;
use kiln_parser::pattern::{self, Pattern};

use super::FileError;
use crate::paths;

/// A pattern with the semantics of `moby/patternmatcher`: `**` is any number of directories, and whatever matches a
/// directory matches all below it.
pub(super) struct Include {
    matcher: Ignore,
    components: Vec<Component>,
    /// The path, where the pattern is one.
    literal: Option<Vec<u8>>,
}

enum Component {
    /// One name.
    One(Pattern),
    /// It has `**` in it: any number of names.
    Many,
}

impl Include {
    /// Compiles a pattern; an empty one asks for everything.
    pub(super) fn new(written: &str) -> Result<Self, FileError> {
        let cleaned = paths::clean(written.as_bytes());
        let cleaned = String::from_utf8_lossy(&cleaned).into_owned();
        let component = |text: &str| -> Result<Component, FileError> {
            Ok(if text.contains("**") { Component::Many } else { Component::One(Pattern::new(text)?) })
        };
        let split = cleaned.split('/').filter(|text| !text.is_empty());
        let components = split.map(component).collect::<Result<_, _>>()?;
        // `./` keeps a `!` in front from being understood.
        let pattern = if cleaned.is_empty() { "**".to_owned() } else { format!("./{cleaned}") };
        let is_literal = !cleaned.is_empty() && !pattern::has_wildcards(&cleaned) && !cleaned.contains('\\');
        let literal = is_literal.then(|| cleaned.into_bytes());
        Ok(Self { matcher: Ignore::from_patterns([pattern])?, components, literal })
    }

    /// The path that the pattern is, if it has no wildcards.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.literal.as_deref()
    }

    /// Whether a path is asked for, itself or by a directory above it.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        self.matcher.is_ignored(path)
    }

    /// Whether something below this directory may be asked for.
    pub(super) fn leads_below(&self, directory: &[u8]) -> bool {
        let mut components = self.components.iter();
        for name in names(directory) {
            match components.next() {
                Some(Component::Many) => return true,
                Some(Component::One(pattern)) if pattern.matches(name) => {}
                _ => return false,
            }
        }
        components.next().is_some()
    }

    /// Whether all below this directory has to be looked at.
    pub(super) fn is_open_at(&self, directory: &[u8]) -> bool {
        let depth = names(directory).count();
        self.components.is_empty() || matches!(self.components.get(depth), Some(Component::Many))
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}
