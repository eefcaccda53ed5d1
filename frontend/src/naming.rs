//! The names of steps, as BuildKit shows them: `[build 2/4] RUN make`, and `[linux/amd64->arm64 build 2/4] RUN make`
//! where there are several platforms and the stage knows for which of them it works.

use kiln_parser::{Kind, expand};
use kiln_solver::Platform;

use crate::Targeting;
use crate::environment::Environment;
use crate::nodes::{Item, Node, Plan, Root};

/// Counts the steps of one stage.
pub(crate) struct Naming {
    shows_platform: bool,
    label: String,
    done: usize,
    total: usize,
}

impl Naming {
    /// The only stage of a Dockerfile goes without a name, if it copies from nothing else either.
    pub(crate) fn new(plan: &Plan<'_>, node: &Node<'_>, targeting: Targeting) -> Self {
        let label = if plan.nodes.len() == 1 { String::new() } else { node.label.clone() };
        let from = usize::from(matches!(node.root, Root::Image(_) | Root::Local(_)));
        Self {
            shows_platform: targeting == Targeting::OneOfSeveral,
            label,
            done: 0,
            total: from + node.items.iter().filter(|item| makes_step(item)).count(),
        }
    }

    /// The name of the next step, which does `what` on this platform, in this environment.
    pub(crate) fn next(
        &mut self,
        what: &str,
        is_trigger: bool,
        platform: &Platform,
        environment: &Environment,
    ) -> String {
        self.done += 1;
        let platform = self.shows_platform.then(|| format!("{} ", direction(platform, environment)));
        let label = if self.label.is_empty() { String::new() } else { format!("{} ", self.label) };
        let width = self.total.max(1).ilog10() as usize + 1;
        let trigger = if is_trigger { "ONBUILD " } else { "" };
        format!("[{}{label}{:>width$}/{}] {trigger}{what}", platform.unwrap_or_default(), self.done, self.total)
    }

    /// Counts an instruction that turned out to need no step.
    pub(crate) fn skip(&mut self) {
        self.done += 1;
    }
}

fn makes_step(item: &Item<'_>) -> bool {
    matches!(item.instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// What a stage runs on, and what it works for if its variables tell of something else: `linux/amd64->arm64`.
fn direction(platform: &Platform, environment: &Environment) -> String {
    let target = target(platform, environment).filter(|target| target != platform);
    match target {
        None => platform.to_string(),
        Some(target) if target.os != platform.os => format!("{platform}->{target}"),
        Some(target) => {
            let variant = target.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
            format!("{platform}->{}{variant}", target.architecture)
        }
    }
}

/// What the variables `TARGET…` tell of, as far as there are any; the rest is the stage's own.
fn target(platform: &Platform, environment: &Environment) -> Option<Platform> {
    if let Some(target) = environment.get("TARGETPLATFORM").and_then(|value| value.parse().ok()) {
        return Some(target);
    }
    let part = |name| environment.get(name).filter(|value| !value.is_empty());
    let (os, architecture, variant) = (part("TARGETOS"), part("TARGETARCH"), part("TARGETVARIANT"));
    (os.is_some() || architecture.is_some() || variant.is_some()).then_some(())?;
    // The variant of one architecture says nothing about another.
    let variant = variant.or(platform.variant.as_deref().filter(|_| architecture.is_none()));
    Some(Platform::new(os.unwrap_or(&platform.os), architecture.unwrap_or(&platform.architecture), variant))
}

/// An instruction's text with its variables replaced and its quotes removed; as it is where that is not possible.
pub(crate) fn displayed(text: &str, environment: &Environment, escape: char) -> String {
    let expanded = expand::expand(text, escape, &|name| environment.get(name).map(str::to_owned));
    with_upper_keyword(&expanded.map_or_else(|_| text.to_owned(), |expanded| expanded.value))
}

/// The same for a command: quotes stay, and so do variables that only the shell knows.
pub(crate) fn displayed_command(text: &str, environment: &Environment, escape: char) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_single_quoted = false;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        if character == '\'' {
            is_single_quoted = !is_single_quoted;
        } else if character == escape && !is_single_quoted {
            length += rest.chars().nth(1).map_or(0, char::len_utf8);
        } else if character == '$'
            && !is_single_quoted
            && let Some((name, used)) = variable(rest)
            && let Some(value) = environment.get(name)
        {
            shown.push_str(value);
            rest = rest.get(used..).unwrap_or_default();
            continue;
        }
        shown.push_str(rest.get(..length).unwrap_or_default());
        rest = rest.get(length..).unwrap_or_default();
    }
    with_upper_keyword(&shown)
}

/// The name in `$name` or `${name}` at the start of the text, and how long all of it is.
fn variable(text: &str) -> Option<(&str, usize)> {
    let behind = text.strip_prefix('$')?;
    let (is_braced, behind) = match behind.strip_prefix('{') {
        Some(behind) => (true, behind),
        None => (false, behind),
    };
    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
    let name = behind.get(..end).filter(|name| !name.is_empty())?;
    match is_braced {
        false => Some((name, 1 + end)),
        true if behind.get(end..)?.starts_with('}') => Some((name, 3 + end)),
        true => None,
    }
}

fn with_upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_shown_with_what_they_work_for() {
        let shown = |variables: &[&str]| {
            let variables: Vec<String> = variables.iter().map(|&variable| variable.to_owned()).collect();
            direction(&Platform::new("linux", "amd64", None), &Environment::of(&variables))
        };
        let cases = [
            (&[][..], "linux/amd64"),
            (&["TARGETPLATFORM=linux/amd64"], "linux/amd64"),
            (&["TARGETPLATFORM=linux/arm64"], "linux/amd64->arm64"),
            (&["TARGETPLATFORM=windows/amd64"], "linux/amd64->windows/amd64"),
            (&["TARGETARCH=arm", "TARGETVARIANT=v6"], "linux/amd64->arm/v6"),
            (&["TARGETOS=linux"], "linux/amd64"),
            (&["TARGETVARIANT="], "linux/amd64"),
        ];
        for (variables, expected) in cases {
            assert_eq!(shown(variables), expected);
        }
    }

    #[test]
    fn commands_are_shown_with_what_is_known() {
        let environment = Environment::of(&["A=1".into(), "B=x y".into()]);
        let cases = [
            ("run echo $A ${B} $C ${C} ${A:-2}", "RUN echo 1 x y $C ${C} ${A:-2}"),
            ("RUN echo '$A' \"$A\" \\$A $", "RUN echo '$A' \"1\" \\$A $"),
            ("RUN echo é$A$", "RUN echo é1$"),
            ("RUN x \\", "RUN x \\"),
            ("run", "RUN"),
        ];
        for (text, expected) in cases {
            assert_eq!(displayed_command(text, &environment, '\\'), expected);
        }
    }
}
