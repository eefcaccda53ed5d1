//! `--call` and `--check`: what is told about a build instead of building. The answer goes to stdout.

use std::collections::BTreeSet;

use kiln_frontend::checks::{self, KnownBases, Report, Subject, TargetStage};
use kiln_frontend::{BaseImage, Options, Resolver};
use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Parsed, Severity};
use kiln_solver::Platform;

use super::lower::add_new;
use super::{Builder, call_json, call_text};
use crate::diagnostics::{self, SourceFile};
use crate::error::CliError;
use crate::terminal;

/// What is asked for, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) is_json: bool,
    /// Whether warnings leave the exit code alone.
    pub(super) ignore_status: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// The build itself.
    Build,
    /// What the checks find.
    Check,
    /// What the target takes.
    Outline,
    /// Which targets there are.
    Targets,
}

impl Call {
    /// Reads `METHOD[,format=json|text][,ignorestatus=BOOL]`.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let mut call = Self { method: Method::Build, is_json: false, ignore_status: false };
        for option in text.split(',').map(str::trim) {
            match option.split_once('=') {
                None => call.method = method(option)?,
                Some(("format", "json")) => call.is_json = true,
                Some(("format", "text")) => call.is_json = false,
                Some(("ignorestatus", value @ ("true" | "false"))) => call.ignore_status = value == "true",
                Some(_) => {
                    return Err(CliError::usage(format!("`--call {text}`: unknown option `{option}`"))
                        .hint("there are `format=json`, `format=text` and `ignorestatus=true`"));
                }
            }
        }
        Ok(call)
    }
}

fn method(name: &str) -> Result<Method, CliError> {
    match name {
        "" | "build" => Ok(Method::Build),
        "check" | "lint" => Ok(Method::Check),
        "outline" => Ok(Method::Outline),
        "targets" => Ok(Method::Targets),
        other => Err(CliError::usage(format!("`--call {other}`: there is no such method"))
            .hint("there are `build`, `check`, `outline` and `targets`")),
    }
}

/// No image is looked up for what is written alone.
struct NoImages;

impl Resolver for NoImages {
    fn resolve(&self, reference: &str, _: &Platform) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("`{reference}` was not looked up").into())
    }
}

/// What a check comes to.
pub(super) struct Checked {
    /// What keeps the Dockerfile from being built.
    pub(super) errors: Vec<Diagnostic>,
    /// What the rules found.
    pub(super) report: Report,
}

impl Builder<'_> {
    /// Answers instead of building.
    pub(super) fn call(&self, call: Call, file: &SourceFile, parsed: &Parsed) -> Result<(), CliError> {
        if call.method == Method::Check {
            return self.check(call, file, parsed);
        }
        self.refuse(&parsed.diagnostics, file)?;
        let (bases, options) = (KnownBases::new(&NoImages), self.options());
        let subject = subject(file, parsed, &options, &bases, None);
        let answer = match (call.method, call.is_json) {
            (Method::Outline, false) => call_text::outline(&checks::outline(&subject)),
            (Method::Outline, true) => call_json::outline(&checks::outline(&subject), file)?,
            (_, false) => call_text::targets(&checks::targets(&subject)),
            (_, true) => call_json::targets(&checks::targets(&subject), file)?,
        };
        self.check_target(&options, &checks::targets(&subject))?;
        terminal::print(&answer)
    }

    fn check_target(&self, options: &Options, targets: &[TargetStage]) -> Result<(), CliError> {
        let Some(wanted) = &options.target else { return Ok(()) };
        let is_number = wanted.parse::<usize>().is_ok_and(|number| number < targets.len());
        if is_number || targets.iter().any(|target| target.name == wanted.to_lowercase()) {
            return Ok(());
        }
        Err(CliError::user(format!("target stage `{wanted}` does not exist"))
            .hint("`--call=targets` lists the stages that there are"))
    }

    fn check(&self, call: Call, file: &SourceFile, parsed: &Parsed) -> Result<(), CliError> {
        let checked = self.checked(file, parsed)?;
        self.progress.finish();
        if !checked.errors.is_empty() {
            terminal::say(&diagnostics::render(&checked.errors, file, self.environment.colour));
        }
        let answer = if call.is_json { call_json::check(&checked, file)? } else { call_text::check(&checked, file) };
        terminal::print(&answer)?;
        let has_findings = !checked.report.findings.is_empty() && !call.ignore_status;
        if has_findings || !checked.errors.is_empty() {
            Err(CliError::reported("the Dockerfile could be better"))
        } else {
            Ok(())
        }
    }

    fn checked(&self, file: &SourceFile, parsed: &Parsed) -> Result<Checked, CliError> {
        let ignore = self.request.ignore()?;
        let mut others = parsed.diagnostics.clone();
        let mut report = Report::default();
        if parsed.has_errors() {
            let bases = KnownBases::new(&NoImages);
            report = checks::check(&subject(file, parsed, &self.options(), &bases, Some(&ignore)));
        } else {
            let work = self.begin()?;
            let resolver = self.base_images(&work);
            let bases = KnownBases::new(&resolver);
            for platform in &self.request.platforms {
                let options = self.options_for(platform);
                let subject = subject(file, parsed, &options, &bases, Some(&ignore));
                add_new(&mut others, lower_all(&subject));
                if work.interrupt.is_set() {
                    return Err(CliError::interrupted());
                }
                let found = checks::check(&subject);
                add_new(&mut report.problems, found.problems);
                add_new(&mut report.findings, found.findings);
            }
        }
        others.extend(report.problems.iter().cloned());
        let (errors, warnings): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|found| found.severity == Severity::Error);
        self.list_warnings(&warnings, file);
        Ok(Checked { errors, report })
    }

    /// The checks of a build for one platform: warnings, or errors if the Dockerfile says so.
    pub(super) fn check_build(
        &self,
        file: &SourceFile,
        parsed: &Parsed,
        options: &Options,
        bases: &KnownBases<'_>,
        ignore: Option<&Ignore>,
    ) -> Result<Vec<Diagnostic>, CliError> {
        let mut subject = subject(file, parsed, options, bases, ignore);
        subject.all_stages = false;
        let report = checks::check(&subject);
        self.refuse(&report.problems, file)?;
        if report.is_fatal() {
            self.progress.finish();
            terminal::say(&diagnostics::render(&report.findings, file, self.environment.colour));
            return Err(CliError::user("the Dockerfile goes against its checks, and `error=true` makes that an error")
                .hint("`skip=RULE` in the `check` directive leaves a rule out"));
        }
        Ok(report.problems.into_iter().chain(report.findings).collect())
    }
}

fn subject<'a>(
    file: &'a SourceFile,
    parsed: &'a Parsed,
    options: &'a Options,
    bases: &'a KnownBases<'a>,
    ignore: Option<&'a Ignore>,
) -> Subject<'a> {
    let all_stages = options.target.is_none();
    Subject { text: &file.text, dockerfile: &parsed.dockerfile, options, bases, ignore, all_stages }
}

/// Lowers every stage, or the target alone where one is asked for: what is wrong with them, each thing once.
fn lower_all(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut covered = BTreeSet::new();
    let stages = checks::targets(subject);
    let count = if subject.all_stages { stages.len().max(1) } else { 1 };
    for back in 0..count {
        let number = count - 1 - back;
        let name = stages.get(number).map(|stage| stage.name.clone()).unwrap_or_default();
        let label = if name.is_empty() { format!("stage-{number}") } else { name.clone() };
        if covered.contains(&label) {
            continue;
        }
        let mut options = subject.options.clone();
        if subject.all_stages && back > 0 {
            options.target = Some(if name.is_empty() { number.to_string() } else { name });
        }
        let diagnostics = match kiln_frontend::lower(subject.dockerfile, &options, subject.bases) {
            Ok(build) => {
                covered.extend(build.stages);
                build.warnings
            }
            Err(errors) => errors,
        };
        for diagnostic in diagnostics {
            if !found.contains(&diagnostic) {
                found.push(diagnostic);
            }
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kiln_frontend::checks::StageOutline;

    pub(in super::super) const TEXT: &str = "\
# check=experimental=LatestTag

# VERSION of the compiler
ARG VERSION=1

# build compiles it
FROM --platform=$BUILDPLATFORM golang AS build
ARG VERSION
ARG API_TOKEN=\"a b\"
RUN --mount=type=secret,id=key,required --mount=type=ssh --mount=type=cache,target=/c \\
    make

FROM scratch
COPY --from=build /x /x
CMD serve
";

    /// What is told about this text.
    pub(in super::super) fn answers() -> (Checked, StageOutline, Vec<TargetStage>) {
        let parsed = kiln_parser::parse(TEXT);
        let file = SourceFile { name: "Dockerfile".to_owned(), text: TEXT.to_owned() };
        let (bases, options) = (KnownBases::new(&NoImages), Options::new("linux/amd64".parse().unwrap()));
        let subject = subject(&file, &parsed, &options, &bases, None);
        let checked = Checked { errors: Vec::new(), report: checks::check(&subject) };
        (checked, checks::outline(&subject), checks::targets(&subject))
    }

    #[test]
    fn calls_are_read_as_buildx_does() {
        let parse = |text| Call::parse(text).unwrap();
        assert_eq!(parse("check"), Call { method: Method::Check, is_json: false, ignore_status: false });
        assert_eq!(
            parse("lint,format=json,ignorestatus=true"),
            Call { method: Method::Check, is_json: true, ignore_status: true }
        );
        assert_eq!(parse("build").method, Method::Build);
        for text in ["chekc", "check,format=yaml", "check,colour=red"] {
            assert_eq!(Call::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
