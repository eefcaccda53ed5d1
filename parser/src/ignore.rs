//! `.dockerignore`, with the semantics of `moby/patternmatcher`: the last pattern that matches a path or one of
//! the directories above it decides.
//!
//! * A line is a pattern; lines that begin with `#` are comments.
//! * White space around a pattern, slashes before and behind it, `.` and `..` in it are cleaned away.
//! * Wildcards are those of [`crate::pattern`]; `**` is any number of directories, so `**/x` is an `x` anywhere, and
//!   `x/**` everything below `x`.
//! * `!` before a pattern includes again what earlier patterns ignored.
//!
//! The original translates patterns to regular expressions and lets some of their characters through (`|`, `{`,
//! `\d`). Here such characters stand for themselves.

use crate::glob::{Glob, Token};
use crate::pattern::{self, PatternError};

/// The patterns of a `.dockerignore` file, or those of `COPY --exclude`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    includes: bool,
}

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
    /// A pattern that is none.
    #[error("line {line}: {source}")]
    BadPattern {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: PatternError,
    },
}

/// What the patterns say of one path; for a directory, pass it on to what lies in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many rules there are up to the last that matches the path or a directory above it; 0 if none does.
    rules: usize,
    ignored: bool,
}

impl Verdict {
    /// Whether the path is ignored.
    pub fn is_ignored(self) -> bool {
        self.ignored
    }
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::collect(lines.map(|(index, line)| (index + 1, line)))
    }

    /// From patterns already apart, as of `COPY --exclude`. Lines in errors are their positions, counted from 1.
    pub fn from_patterns<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, IgnoreError> {
        let patterns: Vec<S> = patterns.into_iter().collect();
        Self::collect(patterns.iter().enumerate().map(|(index, pattern)| (index + 1, pattern.as_ref())))
    }

    fn collect<'p>(patterns: impl Iterator<Item = (usize, &'p str)>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, pattern) in patterns {
            rules.extend(rule(line, pattern)?);
        }
        Ok(Self { rules })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` (relative, with slashes, no trailing one) is ignored, itself or by a directory above it.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        self.resolve(path).is_ignored()
    }

    /// For a walk from the top down: what the patterns say of `path`, given what they say of its directory
    /// (`Verdict::default()` for what lies at the top). Agrees with [`Ignore::is_ignored`] and costs less.
    pub fn verdict(&self, path: &[u8], directory: Verdict) -> Verdict {
        // What matches the directory matches everything in it, and the last match decides.
        let own = self.rules.iter().enumerate().skip(directory.rules).rev().find(|(_, rule)| rule.glob.matches(path));
        match own {
            Some((index, rule)) => Verdict { rules: index + 1, ignored: !rule.includes },
            None => directory,
        }
    }

    /// Whether something below the ignored directory `directory` might still be included by a `!` pattern. A walk
    /// need not enter it if not.
    pub fn may_include_below(&self, directory: &[u8]) -> bool {
        self.may_include_below_verdict(directory, self.resolve(directory))
    }

    /// The same where the verdict of `directory` is known already.
    pub fn may_include_below_verdict(&self, directory: &[u8], verdict: Verdict) -> bool {
        let mut later = self.rules.iter().skip(verdict.rules);
        later.any(|rule| rule.includes && rule.glob.may_match_below(directory))
    }

    fn resolve(&self, path: &[u8]) -> Verdict {
        let mut verdict = Verdict::default();
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' && at > 0 {
                verdict = self.verdict(&path[..at], verdict);
            }
        }
        self.verdict(path, verdict)
    }
}

fn rule(line: usize, written: &str) -> Result<Option<Rule>, IgnoreError> {
    let trimmed = written.trim();
    let (includes, pattern) = match trimmed.strip_prefix('!') {
        Some(pattern) => (true, pattern.trim()),
        None => (false, trimmed),
    };
    if pattern.is_empty() {
        return if includes { Err(IgnoreError::NothingToInclude { line }) } else { Ok(None) };
    }
    let glob = compile(&clean(pattern)).map_err(|source| IgnoreError::BadPattern { line, source })?;
    Ok(Some(Rule { glob, includes }))
}

/// Go's `filepath.Clean` and the leading slash dropped; empty for the root itself, which matches nothing.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut components: Vec<&str> = Vec::new();
    for component in pattern.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => {
                components.pop();
            }
            ".." if rooted => {}
            other => components.push(other),
        }
    }
    components.join("/")
}

fn compile(pattern: &str) -> Result<Glob, PatternError> {
    let tokens = pattern::compile(pattern, &mut |rest| {
        if rest.next_if_eq(&'*').is_none() {
            return Token::Star;
        }
        // The slash behind `**` belongs to it: it may stand for no directory at all.
        rest.next_if_eq(&'/');
        if rest.peek().is_none() { Token::Everything } else { Token::Maybe }
    })?;
    // `**x` with no other wildcard is everything that ends in `x`, not just names that are `x`: the original has it so.
    let suffix = pattern.starts_with("**")
        && !pattern.starts_with("**/")
        && tokens.iter().skip(1).all(|token| matches!(token, Token::Literal(_)));
    Ok(Glob::new(tokens.into_iter().flat_map(|token| directories(token, suffix)).collect()))
}

/// A lone [`Token::Maybe`] with the two tokens that it is about.
fn directories(token: Token, suffix: bool) -> Vec<Token> {
    match token {
        Token::Maybe if suffix => vec![Token::Everything],
        Token::Maybe => vec![Token::Maybe, Token::Everything, Token::Literal('/')],
        other => vec![other],
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
