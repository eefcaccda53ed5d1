//! Which rules count: the text behind `# check=`, `skip=A,B;error=true;experimental=C`.

use kiln_parser::{Diagnostic, Dockerfile, Instruction, Word, comments_above};

use super::rules::{RULES, Rule};
use crate::findings::{error_at, similar};

/// What one such text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    skip: Choice,
    experimental: Choice,
    /// Whether findings are errors.
    pub(crate) is_error: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    all: bool,
    names: Vec<String>,
}

impl Choice {
    fn parse(text: &str) -> Self {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        match text.trim() {
            "all" => Self { all: true, names: Vec::new() },
            _ => Self { all: false, names: names.map(str::to_owned).collect() },
        }
    }

    fn names(&self, rule: &Rule) -> bool {
        self.names.iter().any(|name| name == rule.name)
    }
}

impl Policy {
    /// Parses such a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        if text.trim().is_empty() {
            return Ok(policy);
        }
        for option in text.split(';') {
            let (name, value) =
                option.split_once('=').ok_or_else(|| format!("`{}` is not of the form `name=value`", option.trim()))?;
            match name.trim() {
                "skip" => policy.skip = Choice::parse(value),
                "experimental" => policy.experimental = Choice::parse(value),
                "error" => policy.is_error = parse_bool(value.trim())?,
                other => return Err(format!("`{other}` is no option of checks")),
            }
        }
        Ok(policy)
    }

    /// Whether a rule counts where this is said for the whole file, and `own` for the instruction.
    pub(crate) fn allows(&self, rule: &Rule, own: Option<&Self>) -> bool {
        let skipped_here = own.is_some_and(|own| own.skip.all || own.skip.names(rule));
        let asked_for = |policy: &Self| policy.experimental.all || policy.experimental.names(rule);
        let is_on = if rule.is_experimental { asked_for(self) || own.is_some_and(asked_for) } else { !self.skip.all };
        is_on && !skipped_here && !self.skip.names(rule)
    }

    /// A warning for the name of a rule that was probably mistyped. Others may be rules that Docker has by now.
    fn mistyped(&self) -> Vec<(String, &'static str)> {
        let names = self.skip.names.iter().chain(&self.experimental.names);
        let unknown = names.filter(|name| !RULES.iter().any(|rule| rule.name == name.as_str()));
        let near = |name: &String| Some((name.clone(), similar(name, RULES.iter().map(|rule| rule.name))?));
        unknown.filter_map(near).collect()
    }
}

/// As Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("`{other}` is not `true` or `false`")),
    }
}

/// The policies of a whole Dockerfile.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    file: Policy,
    /// By instruction, for those that have one.
    own: Vec<Option<Policy>>,
    /// What is wrong with them.
    pub(crate) problems: Vec<Diagnostic>,
}

impl Policies {
    /// Reads them; `override_with` takes the place of the directive at the top.
    pub(crate) fn read(text: &str, dockerfile: &Dockerfile, override_with: Option<&str>) -> Self {
        let mut policies = Self::default();
        policies.file = match (override_with, &dockerfile.directives.check) {
            (Some(given), _) => policies.given(given),
            (None, Some(directive)) => policies.written(directive),
            (None, None) => Policy::default(),
        };
        for instruction in &dockerfile.instructions {
            let own = comment_of(text, dockerfile, instruction).map(|comment| policies.written(&comment));
            policies.own.push(own);
        }
        policies
    }

    /// Whether a rule counts for the instruction of this number, and if so, whether what it finds is an error.
    pub(crate) fn verdict(&self, rule: &Rule, instruction: usize) -> Option<bool> {
        let own = self.own.get(instruction).and_then(Option::as_ref);
        let is_error = self.file.is_error || own.is_some_and(|own| own.is_error);
        self.file.allows(rule, own).then_some(is_error)
    }

    fn given(&mut self, text: &str) -> Policy {
        Policy::parse(text).unwrap_or_else(|problem| {
            let message = format!("the build argument `BUILDKIT_DOCKERFILE_CHECK` is not valid: {problem}");
            self.problems.push(Diagnostic::error(message).hint(HINT).code("check-directive"));
            Policy::default()
        })
    }

    fn written(&mut self, word: &Word) -> Policy {
        let policy = Policy::parse(&word.value).unwrap_or_else(|problem| {
            let message = format!("the `check` directive is not valid: {problem}");
            self.problems.push(error_at(word, "check-directive", message).label("not valid").hint(HINT));
            Policy::default()
        });
        for (name, near) in policy.mistyped() {
            let warning = Diagnostic::warning(format!("there is no check `{name}`")).at(word.span);
            self.problems.push(warning.hint(format!("did you mean `{near}`?")).code("unknown-check"));
        }
        policy
    }
}

const HINT: &str = "write `skip=RULE,RULE`, `skip=all`, `error=true` or `experimental=RULE`, with `;` between them";

/// What a comment `# check=…` above an instruction says. The directive at the top of the file is not one.
fn comment_of(text: &str, dockerfile: &Dockerfile, instruction: &Instruction) -> Option<Word> {
    comments_above(text, instruction).into_iter().rev().find_map(|comment| {
        let (name, value) = comment.value.split_once('=')?;
        let value = Word::new(value.trim().to_owned(), comment.span);
        let directive = dockerfile.directives.check.as_ref();
        let is_directive = directive.is_some_and(|directive| directive.span.end == comment.span.end);
        (name.trim().eq_ignore_ascii_case("check") && !is_directive).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::rules::rule;

    fn allows(text: &str, own: Option<&str>, name: &str) -> bool {
        let own = own.map(|own| Policy::parse(own).unwrap());
        Policy::parse(text).unwrap().allows(rule(name).unwrap(), own.as_ref())
    }

    #[test]
    fn rules_are_skipped_and_asked_for() {
        assert!(allows("", None, "UndefinedVar"));
        assert!(!allows("skip=StageNameCasing, UndefinedVar", None, "UndefinedVar"));
        assert!(!allows("skip=all", None, "UndefinedVar"));
        assert!(!allows("", None, "LatestTag"));
        assert!(allows("skip=all;experimental=LatestTag", None, "LatestTag"));
        assert!(allows("experimental=all", None, "RootUser"));
        assert!(!allows("experimental=all;skip=RootUser", None, "RootUser"));
        assert!(!allows("experimental=all", Some("skip=all"), "RootUser"));
        assert!(!allows("", Some("skip=UndefinedVar"), "UndefinedVar"));
        assert!(allows("", Some("experimental=LatestTag"), "LatestTag"));
    }

    #[test]
    fn wrong_options_are_told() {
        for text in ["skip", "error=maybe", "skipp=all", "skip=a;;"] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
        assert!(Policy::parse(" skip = all ; error = 1 ").unwrap().is_error);
    }
}
