//! The tests of build checks. Each file of `cases/` has a Dockerfile, what is asked for and what is to be found;
//! the folder is the rule that it is about. With `UPDATE_EXPECTED=1` in the environment the expected findings are
//! written instead; read the difference then.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod images;
mod outline;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kiln_frontend::checks::{KnownBases, RULES, Report, Subject, check};
use kiln_frontend::{NamedContext, Options, lower};
use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Severity, parse};

use images::Registry;

const SECTIONS: [&str; 3] = ["--- options\n", "--- Dockerfile\n", "--- expected\n"];

/// A case as written.
struct Case {
    options: Options,
    ignore: Option<Ignore>,
    text: String,
}

impl Case {
    fn parse(options: &str, text: &str) -> Self {
        let mut case =
            Self { options: Options::new("linux/amd64".parse().unwrap()), ignore: None, text: text.to_owned() };
        let mut patterns = Vec::new();
        for line in options.lines() {
            let (name, value) = line.split_once(' ').unwrap();
            match name {
                "build-arg" => {
                    let (name, value) = value.split_once('=').unwrap();
                    case.options.build_args.insert(name.to_owned(), value.to_owned());
                }
                "target" => case.options.target = Some(value.to_owned()),
                "ignore" => patterns.push(value),
                "context" => drop(case.options.contexts.insert(value.to_owned(), NamedContext::Local)),
                other => panic!("what is `{other}`?"),
            }
        }
        if !patterns.is_empty() {
            case.ignore = Some(Ignore::from_patterns(patterns).unwrap());
        }
        case
    }

    fn check(&self) -> Report {
        let parsed = parse(&self.text);
        let bases = KnownBases::new(&Registry);
        // Lowering looks the images up, those of every stage.
        for number in 0..self.text.matches("FROM").count() {
            let options = Options { target: Some(number.to_string()), ..self.options.clone() };
            let _ = lower(&parsed.dockerfile, &options, &bases);
        }
        check(&Subject {
            text: &self.text,
            dockerfile: &parsed.dockerfile,
            options: &self.options,
            bases: &bases,
            ignore: self.ignore.as_ref(),
            all_stages: self.options.target.is_none(),
        })
    }

    /// A line for each finding: where it is, what stands there, and what is said about it.
    fn found(&self) -> String {
        let report = self.check();
        let mut found = String::new();
        for diagnostic in report.problems.iter().chain(&report.findings) {
            found += &self.line(diagnostic);
        }
        found
    }

    fn line(&self, diagnostic: &Diagnostic) -> String {
        let mut line = String::new();
        if let Some(span) = diagnostic.span {
            let before = &self.text[..span.start];
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            write!(line, "{}:{column} {:?} ", before.matches('\n').count() + 1, &self.text[span.range()]).unwrap();
        }
        let severity = if diagnostic.severity == Severity::Error { "error " } else { "" };
        writeln!(line, "{severity}{}: {}", diagnostic.code.unwrap(), diagnostic.message).unwrap();
        if let Some(hint) = &diagnostic.hint {
            writeln!(line, "  hint: {hint}").unwrap();
        }
        line
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checks/cases")
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn cases() {
    let mut wrong = Vec::new();
    for path in listing(&folder()).iter().flat_map(|folder| listing(folder)) {
        let content = std::fs::read_to_string(&path).unwrap();
        let (before, expected) = content.split_once(SECTIONS[2]).unwrap();
        let (options, text) = before.split_once(SECTIONS[1]).unwrap();
        let case = Case::parse(options.strip_prefix(SECTIONS[0]).unwrap(), text);
        let found = case.found();
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, format!("{before}{}{found}", SECTIONS[2])).unwrap();
        } else if expected != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every rule has a case where it fires, one where it does not, and one where it is skipped.
#[test]
fn every_rule_has_its_cases() {
    for rule in RULES {
        let cases = listing(&folder().join(rule.name));
        let named = |start: &str| {
            cases
                .iter()
                .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start))
                .collect::<Vec<_>>()
        };
        let fires = |path: &PathBuf| {
            let content = std::fs::read_to_string(path).unwrap();
            content.split_once(SECTIONS[2]).unwrap().1.contains(&format!("{}: ", rule.name))
        };
        for (start, expected) in [("fires", true), ("quiet", false), ("skipped", false)] {
            assert!(!named(start).is_empty(), "{}: no case `{start}`", rule.name);
            assert!(named(start).iter().all(|path| fires(path) == expected), "{}: {start}", rule.name);
        }
    }
    let folders: BTreeSet<String> =
        listing(&folder()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(folders.len(), RULES.len() + 1, "the rules, and `policy`");
}

/// What does not stand in the text of a finding must not move it out of the text.
#[test]
fn whatever_is_written_is_checked_without_harm() {
    let pieces = [
        "FROM x AS É",
        "ARG a=$b",
        "RUN \\",
        "",
        "# check=skip=all",
        "ENV é ü",
        "COPY $ü <<E /",
        "E",
        "WORKDIR $",
        "EXPOSE :/",
    ];
    for first in pieces {
        for second in pieces {
            for third in pieces {
                let text = format!("{first}\n{second}\r\n{third}\n{first}");
                let case = Case::parse("build-arg BUILDKIT_DOCKERFILE_CHECK=experimental=all\nignore **\n", &text);
                case.found();
            }
        }
    }
}
