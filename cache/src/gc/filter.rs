//! Filters over what is in the store, as `docker buildx prune --filter` and buildkitd.toml have them.
//!
//! ```text
//! filter     selector ("," selector)*
//! selector   key ("=" | "==" | "!=") value  |  key
//! key        type · id · description · inuse · mutable · immutable · shared · private
//! ```
//! Selectors of one key are alternatives; a thing has to fit one selector of each key. One with `!=` always counts by
//! itself.

use super::{Held, Usage, UsageKind};

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
    Description(String),
    InUse(bool),
    Mutable(bool),
    Shared(bool),
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such key.
    #[error(
        "there is no filter `{0}`; there are `type`, `id`, `description`, `inuse`, `mutable`, `immutable`, `shared` and `private`"
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
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When a key, a type or a value does not exist.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let selectors = text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Selector::parse);
        Ok(Self { selectors: selectors.collect::<Result<_, _>>()? })
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

impl Selector {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let end = text.find(['=', '!', '~']).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let (is_negated, value) = match rest.strip_prefix("!=") {
            Some(value) => (true, Some(value)),
            None => (false, rest.strip_prefix("==").or(rest.strip_prefix('='))),
        };
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(value) => Err(FilterError::Value { key: key.to_owned(), value: value.to_owned() }),
        };
        let wanted = match (key, value) {
            ("type", Some(value)) => Wanted::Type(kind(value)?),
            ("id", Some(value)) => Wanted::Id(value.to_owned()),
            ("description", Some(value)) => Wanted::Description(value.to_owned()),
            ("inuse", _) => Wanted::InUse(truth()?),
            ("mutable", _) => Wanted::Mutable(truth()?),
            ("immutable", _) => Wanted::Mutable(!truth()?),
            ("shared", _) => Wanted::Shared(truth()?),
            ("private", _) => Wanted::Shared(!truth()?),
            _ => return Err(FilterError::Key(text.to_owned())),
        };
        Ok(Self { key: key.to_owned(), is_negated, wanted })
    }
}

/// BuildKit's names of the kinds are understood, too.
fn kind(name: &str) -> Result<Option<UsageKind>, FilterError> {
    Ok(Some(match name {
        "layer" | "regular" => UsageKind::Layer,
        "blob" => UsageKind::Blob,
        "cachemount" | "exec.cachemount" => UsageKind::CacheMount,
        "context" | "source.local" => UsageKind::Context,
        "git" | "source.git.checkout" => UsageKind::Git,
        "internal" | "frontend" => return Ok(None),
        other => return Err(FilterError::Type(other.to_owned())),
    }))
}

impl Wanted {
    fn matches(&self, usage: &Usage) -> bool {
        match self {
            Self::Type(kind) => *kind == Some(usage.kind),
            Self::Id(id) => names(usage, id),
            Self::Description(text) => {
                let is_step = |held: &Held| matches!(held, Held::Step(name) if name == text);
                usage.description == *text || usage.held.iter().any(is_step)
            }
            Self::InUse(wanted) => usage.is_reclaimable() != *wanted,
            Self::Mutable(wanted) => matches!(usage.kind, UsageKind::Layer | UsageKind::Blob) != *wanted,
            Self::Shared(wanted) => usage.is_in_image() == *wanted,
        }
    }
}

/// Whether an id, or the beginning of one, means this thing.
fn names(usage: &Usage, id: &str) -> bool {
    usage.id.starts_with(id) || usage.id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(kind: UsageKind, id: &str, held: &[Held]) -> Usage {
        Usage { held: held.to_vec(), ..Usage::of_files(kind, id.to_owned(), 1) }
    }

    #[test]
    fn selectors_of_one_key_are_alternatives_and_keys_have_to_fit_together() {
        let layer = usage(UsageKind::Layer, "sha256:abc", &[Held::Step("RUN make".into())]);
        let image = usage(UsageKind::Layer, "sha256:def", &[Held::Image("app".into())]);
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
            ("id~=a", "`id~=a`"),
            ("shared=maybe", "`maybe`"),
        ] {
            let error = Filter::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
