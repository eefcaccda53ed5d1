//! The answers of `--call` as JSON, in the words of BuildKit's `lint`, `outline` and `targets` requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_frontend::checks::{OutlineMount, StageOutline, TargetStage, rule};
use kiln_parser::{Diagnostic, Span};
use serde::Serialize;

use super::call::Checked;
use crate::diagnostics::{Lines, SourceFile};
use crate::error::CliError;

#[derive(Serialize)]
struct Lint<'a> {
    warnings: Vec<Warning<'a>>,
    sources: [Source<'a>; 1],
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Source<'a> {
    filename: &'a str,
    language: &'a str,
    data: String,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

#[derive(Default, Serialize)]
struct Location {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

/// Lines count from 1, characters from 0.
#[derive(Serialize)]
struct Position {
    line: usize,
    #[serde(skip_serializing_if = "is_zero")]
    character: usize,
}

#[derive(Serialize)]
struct Outline<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<Cache<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct Arg<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Mount<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct Cache<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Targets<'a> {
    targets: Vec<Target<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct Target<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    default: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    base: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    platform: &'a str,
    location: Location,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What the checks found.
pub(super) fn check(checked: &Checked, file: &SourceFile) -> Result<String, CliError> {
    let findings = &checked.report.findings;
    let places = Places::of(file);
    let error = match (checked.errors.first(), checked.report.is_fatal()) {
        (Some(error), _) => Some(BuildError { message: error.message.clone(), location: places.location(error.span) }),
        (None, true) => Some(BuildError { message: violated(findings), location: Location::default() }),
        (None, false) => None,
    };
    print(&Lint {
        warnings: findings.iter().map(|finding| warning(finding, &places)).collect(),
        sources: [Source { filename: &file.name, language: "Dockerfile", data: STANDARD.encode(&file.text) }],
        error,
    })
}

fn warning<'a>(finding: &'a Diagnostic, places: &Places<'_>) -> Warning<'a> {
    let name = finding.code.unwrap_or_default();
    let rule = rule(name);
    Warning {
        rule_name: name,
        description: rule.map_or("", |rule| rule.description),
        url: rule.map_or("", |rule| rule.url),
        detail: &finding.message,
        location: places.location(finding.span),
    }
}

fn violated(findings: &[Diagnostic]) -> String {
    let mut rules: Vec<&str> = findings.iter().filter_map(|finding| finding.code).collect();
    rules.sort_unstable();
    rules.dedup();
    format!("the Dockerfile goes against its checks: {}", rules.join(", "))
}

/// What a stage takes.
pub(super) fn outline(outline: &StageOutline, file: &SourceFile) -> Result<String, CliError> {
    let places = Places::of(file);
    let mount = |mount| -> Mount<'_> {
        let mount: &OutlineMount = mount;
        Mount { name: &mount.id, required: mount.is_required, location: places.location(Some(mount.span)) }
    };
    let args = outline.args.iter().map(|arg| Arg {
        name: &arg.name,
        description: &arg.description,
        value: &arg.value,
        location: places.location(Some(arg.span)),
    });
    let caches = outline.caches.iter();
    print(&Outline {
        name: &outline.name,
        description: &outline.description,
        args: args.collect(),
        secrets: outline.secrets.iter().map(mount).collect(),
        ssh: outline.ssh.iter().map(mount).collect(),
        cache: caches.map(|cache| Cache { id: &cache.id, location: places.location(Some(cache.span)) }).collect(),
        sources: [STANDARD.encode(&file.text)],
    })
}

/// Which stages can be built.
pub(super) fn targets(targets: &[TargetStage], file: &SourceFile) -> Result<String, CliError> {
    let places = Places::of(file);
    let target = |target| -> Target<'_> {
        let target: &TargetStage = target;
        Target {
            name: &target.name,
            default: target.is_default,
            description: &target.description,
            base: &target.base,
            platform: &target.platform,
            location: places.location(Some(target.span)),
        }
    };
    print(&Targets { targets: targets.iter().map(target).collect(), sources: [STANDARD.encode(&file.text)] })
}

/// The file with what it takes to find places in it.
struct Places<'a> {
    text: &'a str,
    lines: Lines,
}

impl<'a> Places<'a> {
    fn of(file: &'a SourceFile) -> Self {
        Self { text: &file.text, lines: Lines::of(&file.text) }
    }

    fn location(&self, span: Option<Span>) -> Location {
        let range = |span: Span| Range { start: self.position(span.start), end: self.position(span.end) };
        Location { ranges: span.map(range).into_iter().collect() }
    }

    fn position(&self, at: usize) -> Position {
        let before = self.text.get(self.lines.start(at)..at).unwrap_or_default();
        Position { line: self.lines.number(at), character: before.chars().count() }
    }
}

fn print(answer: &impl Serialize) -> Result<String, CliError> {
    let mut text = serde_json::to_string_pretty(answer)
        .map_err(|error| CliError::bug(format!("the answer cannot be written as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::build::call::tests::{TEXT, answers};

    /// The names of fields are BuildKit's: other programs read them.
    #[test]
    fn answers_keep_their_form() {
        let (checked, outline, targets) = answers();
        let file = SourceFile { name: "Dockerfile".to_owned(), text: TEXT.to_owned() };
        insta::assert_snapshot!(check(&checked, &file).unwrap());
        insta::assert_snapshot!(super::outline(&outline, &file).unwrap());
        insta::assert_snapshot!(super::targets(&targets, &file).unwrap());
    }

    #[test]
    fn violations_are_an_error_where_that_is_asked_for() {
        let (mut checked, ..) = answers();
        for finding in &mut checked.report.findings {
            finding.severity = kiln_parser::Severity::Error;
        }
        let file = SourceFile { name: "Dockerfile".to_owned(), text: TEXT.to_owned() };
        let answer: serde_json::Value = serde_json::from_str(&check(&checked, &file).unwrap()).unwrap();
        let message = "the Dockerfile goes against its checks: JSONArgsRecommended, LatestTag, SecretsUsedInArgOrEnv";
        assert_eq!(answer["buildError"]["message"], message);
    }
}
