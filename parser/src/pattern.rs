//! The wildcards of `COPY` and `ADD`: Go's `filepath.Match`, whose `*` and `?` never cross a slash.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any number of characters other than `/` |
//! | `?` | one character other than `/` |
//! | `[a-z]`, `[^a-z]` | one character in, or not in, the set |
//! | `\c` | the character `c` |

use std::iter::Peekable;
use std::str::Chars;

use crate::glob::{Class, Glob, Token};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    glob: Glob,
}

impl Pattern {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Ok(Self { glob: Glob::new(compile(pattern, &mut |_| Token::Star)?) })
    }

    /// Whether all of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.glob.matches(name)
    }
}

/// Whether all of `name` matches `pattern`. For many names compile a [`Pattern`] once.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, PatternError> {
    Ok(Pattern::new(pattern)?.matches(name))
}

/// Whether `pattern` has a wildcard, so may match several paths (BuildKit's `containsWildcards`): a backslash takes
/// the character behind it out of account.
pub fn has_wildcards(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The directory above the first component with a wildcard, without a trailing slash; all of `pattern` if it has
/// none. What matches lies below. `a/b/*.c` gives `a/b`, `*.c` the empty string.
pub fn literal_prefix(pattern: &str) -> &str {
    let mut end = 0;
    for component in pattern.split_inclusive('/') {
        if has_wildcards(component) {
            return pattern[..end].strip_suffix('/').unwrap_or(&pattern[..end]);
        }
        end += component.len();
    }
    pattern
}

/// Compiles `pattern` to tokens. `star` decides what a `*` is; it may take characters behind it.
pub(crate) fn compile(
    pattern: &str,
    star: &mut dyn FnMut(&mut Peekable<Chars<'_>>) -> Token,
) -> Result<Vec<Token>, PatternError> {
    let wrong = |why| PatternError { pattern: pattern.to_owned(), why };
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => star(&mut characters),
            '?' => Token::Any,
            '[' => Token::Class(class(&mut characters).map_err(wrong)?),
            '\\' => Token::Literal(characters.next().ok_or_else(|| wrong("nothing follows the last `\\`"))?),
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

fn class(characters: &mut Peekable<Chars<'_>>) -> Result<Class, &'static str> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || characters.next_if_eq(&']').is_none() {
        let low = member(characters)?;
        let high = if characters.next_if_eq(&'-').is_some() { member(characters)? } else { low };
        ranges.push((low, high));
    }
    Ok(Class { negated, ranges })
}

fn member(characters: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match characters.next() {
        Some('\\') => characters.next().ok_or("a `[` is not closed"),
        Some(']') => Err("a set has a `]` where a character should be; write `\\]`"),
        Some('-') => Err("a set has a `-` where a character should be; write `\\-`"),
        Some(other) => Ok(other),
        None => Err("a `[` is not closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of Go's own documentation of `Match`, and more of the same kind.
    #[test]
    fn go_match() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("[z-a]", "m", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name.as_bytes()), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_are_errors_even_where_the_name_differs_before() {
        for pattern in ["[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "a[", "\\", "[a\\", "xyz["] {
            assert!(matches(pattern, b"none").is_err(), "{pattern}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_count_as_one_character_each() {
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches("a?b", b"a\xff\xfeb"), Ok(false));
        assert_eq!(matches("*", b"\xff\xfe"), Ok(true));
    }

    #[test]
    fn prefixes() {
        let cases = [
            ("a/b/*.c", "a/b"),
            ("*.c", ""),
            ("/x/?", "/x"),
            ("/*", ""),
            ("a/b", "a/b"),
            ("a\\*/b", "a\\*/b"),
            ("a/b/", "a/b/"),
            ("a/[b]/c", "a"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(literal_prefix(pattern), expected, "{pattern}");
        }
        assert!(!has_wildcards("a\\[b") && has_wildcards("a[b"));
    }

    #[test]
    fn a_pattern_of_many_stars_stays_fast() {
        let pattern = Pattern::new(&"a*".repeat(500)).unwrap();
        assert!(!pattern.matches(&[&b"a".repeat(2000)[..], b"/"].concat()));
    }
}
