//! Filters over what is in the store, as `docker buildx prune --filter` and buildkitd.toml have them.
//!
//! ```text
//! filter     selector ("," selector)*
//! selector   key ("=" | "==" | "!=" | "~=") value  |  key
//! key        type · id · parents · description · inuse · mutable · immutable · shared · private
//! value      text without commas  |  '"' text '"'  |  after "~=" also  "/" text "/"  |  "|" text "|"
//! ```
//! `~=` asks whether a regular expression is found in the value. Selectors of one key are alternatives; a thing has to
//! fit one selector of each key. One with `!=` always counts by itself.

use regex_lite::Regex;

use super::{Usage, UsageKind};

/// What a thing has to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    key: String,
    is_negated: bool,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// A type of BuildKit's that kiln has nothing of is none.
    Type(Option<UsageKind>),
    Id(String),
    Parents(String),
    Description(String),
    Pattern(Field, Pattern),
    InUse(bool),
    Mutable(bool),
    Shared(bool),
}

/// What a pattern is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Id,
    Parents,
    Description,
}

/// A regular expression; two are the same where their texts are.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such key.
    #[error(
        "there is no filter `{0}`; there are `type`, `id`, `parents`, `description`, `inuse`, `mutable`, `immutable`, \
         `shared` and `private`"
    )]
    Key(String),
    /// There is no such type.
    #[error("there is no type `{0}`; there are `layer`, `blob`, `cachemount`, `context` and `git`")]
    Type(String),
    /// It is neither true nor false.
    #[error("`{value}` is no value of `{key}`, which is `true` or `false`")]
    Value {
        /// Of which key.
        key: String,
        /// What was given.
        value: String,
    },
    /// What stands behind `~=` is no regular expression.
    #[error("`{pattern}` is no regular expression: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A quote has no end.
    #[error("the quote that begins with `{0}` has no end")]
    Quote(String),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When a key, a type or a value does not exist, or a pattern or a quote is malformed.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut selectors = Vec::new();
        let mut rest = text.trim_start_matches([',', ' ']);
        while !rest.is_empty() {
            let (selector, after) = Selector::parse(rest)?;
            selectors.push(selector);
            rest = after.trim_start_matches([',', ' ']);
        }
        Ok(Self { selectors })
    }

    /// Both filters at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.selectors.extend(other.selectors);
        self
    }

    /// Whether a thing is like that.
    pub fn matches(&self, usage: &Usage) -> bool {
        let fits = |selector: &Selector| selector.wanted.matches(usage) != selector.is_negated;
        let is_alternative = |a: &Selector, b: &Selector| a.key == b.key && !b.is_negated;
        self.selectors.iter().all(|selector| match selector.is_negated {
            true => fits(selector),
            false => self.selectors.iter().filter(|other| is_alternative(selector, other)).any(fits),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Matches,
}

impl Selector {
    /// The selector at the beginning of a text, and what follows it.
    fn parse(text: &str) -> Result<(Self, &str), FilterError> {
        let end = text.find(['=', '!', '~', ',']).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let key = key.trim_end();
        let operators = [("==", Operator::Is), ("=", Operator::Is), ("!=", Operator::IsNot), ("~=", Operator::Matches)];
        let operator = operators.iter().find_map(|&(sign, operator)| Some((operator, rest.strip_prefix(sign)?)));
        let (operator, value, after) = match operator {
            None => (Operator::Is, None, rest),
            Some((operator, rest)) => {
                let (value, after) = value(rest, operator == Operator::Matches)?;
                (operator, Some(value), after)
            }
        };
        let whole = text.strip_suffix(after).unwrap_or(text).trim_end();
        let wanted = match operator {
            Operator::Matches => pattern(key, value.unwrap_or_default(), whole)?,
            Operator::Is | Operator::IsNot => wanted(key, value, whole)?,
        };
        Ok((Self { key: key.to_owned(), is_negated: operator == Operator::IsNot, wanted }, after))
    }
}

/// The value at the beginning of a text, without its quotes, and what follows it.
fn value(text: &str, is_pattern: bool) -> Result<(String, &str), FilterError> {
    let quotes: &[char] = if is_pattern { &['"', '/', '|'] } else { &['"'] };
    let Some(quote) = text.chars().next().filter(|first| quotes.contains(first)) else {
        let (value, after) = text.split_at(text.find(',').unwrap_or(text.len()));
        return Ok((value.trim_end().to_owned(), after));
    };
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some((_, next)) if next == quote || (next == '\\' && !is_pattern) => value.push(next),
                // What else is escaped is for the regular expression.
                Some((_, next)) => value.extend([letter, next]),
                None => break,
            },
            _ if letter == quote => return Ok((value, &text[at + 1..])),
            _ => value.push(letter),
        }
    }
    Err(FilterError::Quote(text.to_owned()))
}

fn wanted(key: &str, value: Option<String>, whole: &str) -> Result<Wanted, FilterError> {
    let truth = |value: Option<String>| match value.as_deref() {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(FilterError::Value { key: key.to_owned(), value: value.to_owned() }),
    };
    Ok(match (key, value) {
        ("type", Some(value)) => Wanted::Type(kind(&value)?),
        ("id", Some(value)) => Wanted::Id(value),
        ("parents", Some(value)) => Wanted::Parents(value),
        ("description", Some(value)) => Wanted::Description(value),
        ("inuse", value) => Wanted::InUse(truth(value)?),
        ("mutable", value) => Wanted::Mutable(truth(value)?),
        ("immutable", value) => Wanted::Mutable(!truth(value)?),
        ("shared", value) => Wanted::Shared(truth(value)?),
        ("private", value) => Wanted::Shared(!truth(value)?),
        _ => return Err(FilterError::Key(whole.to_owned())),
    })
}

fn pattern(key: &str, pattern: String, whole: &str) -> Result<Wanted, FilterError> {
    let field = match key {
        "type" => Field::Type,
        "id" => Field::Id,
        "parents" => Field::Parents,
        "description" => Field::Description,
        _ => return Err(FilterError::Key(whole.to_owned())),
    };
    match Regex::new(&pattern) {
        Ok(regex) => Ok(Wanted::Pattern(field, Pattern(regex))),
        Err(error) => Err(FilterError::Pattern { pattern, reason: error.to_string() }),
    }
}

/// BuildKit's names of the kinds are understood, too.
fn kind(name: &str) -> Result<Option<UsageKind>, FilterError> {
    let is_it = |kind: &&UsageKind| kind.name() == name || kind.buildkit_name() == Some(name);
    match (UsageKind::FILTERED.iter().find(is_it), name) {
        (Some(kind), _) => Ok(Some(*kind)),
        (None, "internal" | "frontend") => Ok(None),
        (None, other) => Err(FilterError::Type(other.to_owned())),
    }
}

impl Wanted {
    fn matches(&self, usage: &Usage) -> bool {
        match self {
            Self::Type(kind) => *kind == Some(usage.kind),
            Self::Id(id) => names(&usage.id, id),
            Self::Parents(id) => usage.parents.iter().any(|parent| names(&parent.to_string(), id)),
            Self::Description(text) => descriptions(usage).any(|description| description == text),
            Self::Pattern(field, Pattern(regex)) => match field {
                Field::Type => {
                    regex.is_match(usage.kind.name())
                        || usage.kind.buildkit_name().is_some_and(|name| regex.is_match(name))
                }
                Field::Id => is_found(regex, &usage.id),
                Field::Parents => usage.parents.iter().any(|parent| is_found(regex, &parent.to_string())),
                Field::Description => descriptions(usage).any(|description| regex.is_match(description)),
            },
            Self::InUse(wanted) => usage.is_reclaimable() != *wanted,
            Self::Mutable(wanted) => usage.is_mutable() == *wanted,
            Self::Shared(wanted) => usage.is_in_image() == *wanted,
        }
    }
}

/// What a thing is called, and the steps that need it.
fn descriptions(usage: &Usage) -> impl Iterator<Item = &str> {
    let own = Some(usage.description.as_str()).filter(|own| !own.is_empty());
    own.into_iter().chain(usage.steps())
}

/// Whether an id, or the beginning of one, means this thing.
fn names(whole: &str, id: &str) -> bool {
    whole.starts_with(id) || whole.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(id))
}

/// Whether a pattern is found in an id, with or without its algorithm.
fn is_found(regex: &Regex, id: &str) -> bool {
    regex.is_match(id) || id.strip_prefix("sha256:").is_some_and(|hex| regex.is_match(hex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Held;

    fn usage(kind: UsageKind, id: &str, held: &[Held]) -> Usage {
        Usage { held: held.to_vec(), ..Usage::of_files(kind, id.to_owned(), 1) }
    }

    #[test]
    fn selectors_of_one_key_are_alternatives_and_keys_have_to_fit_together() {
        let layer = usage(UsageKind::Layer, "sha256:abc", &[Held::Step("RUN make".into())]);
        let mut image = usage(UsageKind::Layer, "sha256:def", &[Held::Image("app".into())]);
        image.parents = vec![format!("sha256:abc{}", "0".repeat(61)).parse().unwrap()];
        let mount = usage(UsageKind::CacheMount, "mounts/1/0", &[]);
        let git = usage(UsageKind::Git, "contexts/git/1.git", &[]);
        let all = [&layer, &image, &mount, &git];
        let fits = |text: &str| {
            let filter = Filter::parse(text).unwrap();
            all.map(|usage| filter.matches(usage))
        };
        let cases = [
            ("", [true, true, true, true]),
            ("type==source.local,type==exec.cachemount,type==source.git.checkout", [false, false, true, true]),
            ("type!=layer", [false, false, true, true]),
            ("type!=layer,type!=git", [false, false, true, false]),
            ("type=frontend", [false; 4]),
            ("type=layer,id=abc,id=sha256:0", [true, false, false, false]),
            ("description=RUN make", [true, false, false, false]),
            ("shared", [false, true, false, false]),
            ("private=true, mutable=false", [true, false, false, false]),
            ("inuse=false,immutable", [true, false, false, false]),
            ("id~=^(abc|mounts)", [true, false, true, false]),
            ("type~=source,type~=^cache", [false, false, true, true]),
            ("description~=/^RUN (make|x,y)$/, shared=false", [true, false, false, false]),
            (r#"description="RUN make""#, [true, false, false, false]),
            ("parents=abc", [false, true, false, false]),
            ("parents!=sha256:abc,immutable", [true, false, false, false]),
            ("parents~=^ab", [false, true, false, false]),
        ];
        for (text, expected) in cases {
            assert_eq!(fits(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_named() {
        for (text, named) in [
            ("type=parents", "`parents`"),
            ("weather=fine", "`weather=fine`"),
            ("type", "`type`"),
            ("shared~=true", "`shared~=true`"),
            ("shared=maybe", "`maybe`"),
            ("id~=(", "`(` is no regular expression"),
            ("id~=|a", "`|a`"),
        ] {
            let error = Filter::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
