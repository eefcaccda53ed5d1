//! Flags: the `--name=value` words between an instruction's keyword and its arguments.

use nom::character::complete::satisfy;
use nom::combinator::{peek, verify};
use nom::{IResult, Parser};

use crate::keyword::Keyword;
use crate::words::quoted_word;
use crate::{Diagnostic, Span, Word, suggest};

/// The flags' escape character, whatever the `escape` directive says.
const ESCAPE: char = '\\';

/// A flag as written.
#[derive(Debug)]
pub(crate) struct RawFlag<'a> {
    /// All of it.
    pub(crate) text: &'a str,
    /// Its name, quotes removed.
    name: String,
    /// What stands behind `=`: quotes removed, and as written.
    value: Option<(String, &'a str)>,
}

/// How a flag is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// `--name`, `--name=true` or `--name=false`.
    Switch,
    /// `--name=value`, once.
    Value,
    /// `--name=value`, any number of times.
    Values,
}

/// The flags that an instruction has.
fn known(keyword: Keyword) -> &'static [(&'static str, Use)] {
    match keyword {
        Keyword::From => &[("platform", Use::Value)],
        Keyword::Run => {
            &[("mount", Use::Values), ("network", Use::Value), ("security", Use::Value), ("device", Use::Values)]
        }
        Keyword::Copy => &[
            ("from", Use::Value),
            ("chown", Use::Value),
            ("chmod", Use::Value),
            ("link", Use::Switch),
            ("parents", Use::Switch),
            ("exclude", Use::Values),
        ],
        Keyword::Add => &[
            ("chown", Use::Value),
            ("chmod", Use::Value),
            ("link", Use::Switch),
            ("keep-git-dir", Use::Switch),
            ("checksum", Use::Value),
            ("exclude", Use::Values),
            ("unpack", Use::Switch),
        ],
        Keyword::Healthcheck => &[
            ("interval", Use::Value),
            ("timeout", Use::Value),
            ("start-period", Use::Value),
            ("start-interval", Use::Value),
            ("retries", Use::Value),
        ],
        _ => &[],
    }
}

/// Takes the flags off the front of an instruction's text: they and the rest.
pub(crate) fn split(text: &str) -> (Vec<RawFlag<'_>>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim();
    while let Ok((after, word)) = flag_word(rest) {
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(RawFlag::new(word));
    }
    (flags, rest)
}

fn flag_word(input: &str) -> IResult<&str, &str> {
    peek((satisfy(|c| c == '-'), satisfy(|c| c == '-'))).parse(input)?;
    verify(|input| quoted_word(input, ESCAPE), |word: &str| word.starts_with("--")).parse(input)
}

impl<'a> RawFlag<'a> {
    fn new(text: &'a str) -> Self {
        let plain = unquote(text);
        let (name, value) = match plain.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (plain.as_str(), None),
        };
        let written = text.split_once('=').map_or("", |(_, value)| value);
        Self { text, name: name.trim_start_matches("--").to_owned(), value: value.map(|v| (v.to_owned(), written)) }
    }
}

fn unquote(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            _ if character == ESCAPE => plain.extend(characters.next()),
            Some(open) if open == character => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            _ => plain.push(character),
        }
    }
    plain
}

/// The flags of one instruction, checked.
#[derive(Debug)]
pub(crate) struct Flags {
    found: Vec<(&'static str, Option<Word>)>,
}

impl Flags {
    /// Checks the flags against those that the instruction has; what is wrong is told and left out.
    pub(crate) fn check(
        keyword: Keyword,
        raw: &[RawFlag<'_>],
        span: impl Fn(&str) -> Span,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut found: Vec<(&'static str, Option<Word>)> = Vec::new();
        let mut once = Vec::new();
        for flag in raw {
            let Some(&(name, usage)) = known(keyword).iter().find(|(name, _)| *name == flag.name) else {
                diagnostics.push(unknown(keyword, flag).at(span(flag.text)));
                continue;
            };
            let problem = if once.contains(&name) {
                Some(Diagnostic::error(format!("`--{name}` is given twice")).code("duplicate-flag"))
            } else {
                wrong_value(name, usage, flag)
            };
            if usage != Use::Values && !once.contains(&name) {
                once.push(name);
            }
            match problem {
                Some(problem) => diagnostics.push(problem.at(span(flag.text))),
                None => {
                    let value = flag.value.as_ref().map(|(value, written)| Word::new(value.clone(), span(written)));
                    found.push((name, value));
                }
            }
        }
        Self { found }
    }

    /// The value of a flag that is given at most once.
    pub(crate) fn value(&mut self, name: &str) -> Option<Word> {
        let at = self.found.iter().position(|(other, _)| *other == name)?;
        self.found.remove(at).1
    }

    /// The values of a flag that may be given often, in order.
    pub(crate) fn values(&mut self, name: &str) -> Vec<Word> {
        self.found.iter_mut().filter(|(other, _)| *other == name).filter_map(|(_, value)| value.take()).collect()
    }

    /// Whether a switch is on, if it is given at all.
    pub(crate) fn switch(&mut self, name: &str) -> Option<bool> {
        let at = self.found.iter().position(|(other, _)| *other == name)?;
        let value = self.found.remove(at).1;
        Some(value.is_none_or(|value| !value.value.eq_ignore_ascii_case("false")))
    }
}

fn wrong_value(name: &str, usage: Use, flag: &RawFlag<'_>) -> Option<Diagnostic> {
    let value = flag.value.as_ref().map(|(value, _)| value.as_str());
    let boolean = |value: &str| value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
    match (usage, value) {
        (Use::Switch, None) => None,
        (Use::Switch, Some(value)) if boolean(value) => None,
        (Use::Switch, Some(value)) => Some(
            Diagnostic::error(format!("`--{name}` is on or off, not `{value}`"))
                .label("expected `true` or `false`")
                .code("invalid-flag"),
        ),
        (_, Some(_)) => None,
        (_, None) => Some(
            Diagnostic::error(format!("`--{name}` needs a value"))
                .hint(format!("the value follows an equals sign: `--{name}=…`"))
                .code("invalid-flag"),
        ),
    }
}

fn unknown(keyword: Keyword, flag: &RawFlag<'_>) -> Diagnostic {
    let name = &flag.name;
    let problem = Diagnostic::error(format!("`{}` has no flag `--{name}`", keyword.name())).code("unknown-flag");
    if matches!(keyword, Keyword::Cmd | Keyword::Entrypoint) {
        let hint = format!("the JSON form takes it as an argument: `{} [\"{}\"]`", keyword.name(), flag.text);
        return problem.label("unknown flag").hint(hint);
    }
    let own = known(keyword).iter().map(|(name, _)| *name);
    if let Some(near) = suggest::nearest(name, own) {
        return problem.label("unknown flag").hint(format!("did you mean `--{near}`?"));
    }
    let other = Keyword::ALL.iter().find(|other| known(**other).iter().any(|(flag, _)| flag == name));
    let problem = problem.label("unknown flag");
    match other {
        Some(other) => problem.hint(format!("`--{name}` is a flag of `{}`", other.name())),
        None if known(keyword).is_empty() => problem.hint(format!("`{}` has no flags", keyword.name())),
        None => {
            let all: Vec<String> = known(keyword).iter().map(|(name, _)| format!("`--{name}`")).collect();
            problem.hint(format!("`{}` has {}", keyword.name(), all.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_stops_at_the_first_other_word() {
        let (flags, rest) = split(r#"--mount=type=bind,"src=a b" --network=none echo --not-a-flag"#);
        assert_eq!(flags.len(), 2);
        assert_eq!(flags[0].name, "mount");
        assert_eq!(flags[0].value, Some(("type=bind,src=a b".to_owned(), "type=bind,\"src=a b\"")));
        assert_eq!(rest, "echo --not-a-flag");
        let (flags, rest) = split("--link -- --odd /x");
        assert_eq!((flags.len(), rest), (1, "--odd /x"));
        assert_eq!(split("- x").1, "- x");
    }

    fn problems(keyword: Keyword, text: &str) -> Vec<(String, Option<String>)> {
        let mut diagnostics = Vec::new();
        Flags::check(keyword, &split(text).0, |_| Span::default(), &mut diagnostics);
        diagnostics.into_iter().map(|d| (d.message, d.hint)).collect()
    }

    #[test]
    fn wrong_flags_are_told() {
        let hint = |keyword, text| problems(keyword, text)[0].1.clone().unwrap_or_default();
        assert_eq!(hint(Keyword::Copy, "--form=x"), "did you mean `--from`?");
        assert_eq!(hint(Keyword::Add, "--parents"), "`--parents` is a flag of `COPY`");
        assert_eq!(hint(Keyword::User, "--whatever"), "`USER` has no flags");
        assert_eq!(hint(Keyword::From, "--platform linux"), "the value follows an equals sign: `--platform=…`");
        assert_eq!(problems(Keyword::Copy, "--link=maybe")[0].0, "`--link` is on or off, not `maybe`");
        assert_eq!(problems(Keyword::Copy, "--link --link")[0].0, "`--link` is given twice");
        assert_eq!(problems(Keyword::Copy, "--exclude=a --exclude=b --link=TRUE"), []);
    }
}
