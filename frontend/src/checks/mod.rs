//! Build checks: what is legal in a Dockerfile and still not a good idea.
//!
//! They are a pass of their own over the parsed Dockerfile ([`check`]), apart from lowering: `names`, `casing`,
//! `descriptions` look at what is written, `from` and `walk` follow the variables too, with what lowering was told
//! of the base images ([`KnownBases`]). [`RULES`] says what each rule is about; `policy` which of them count.
//!
//! [`outline()`] and [`targets()`] describe a Dockerfile by the same means.

mod apt;
mod bases;
mod cache_order;
mod casing;
mod commands;
mod copies;
mod descriptions;
mod expose;
mod file;
mod from;
mod names;
mod outline;
mod policy;
mod reporter;
mod rules;
mod scope;
mod secrets;
mod user;
mod walk;

use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Dockerfile, Severity};

use crate::Options;
use file::File;
use policy::Policies;
use reporter::Reporter;

pub use bases::KnownBases;
pub use outline::{OutlineArg, OutlineMount, StageOutline, TargetStage, outline, targets};
pub use rules::{RULES, Rule, rule};

/// The build argument that takes the place of the `check` directive.
pub const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What is checked, and what is known about it.
pub struct Subject<'a> {
    /// The text that was parsed.
    pub text: &'a str,
    /// What the parser understood of it.
    pub dockerfile: &'a Dockerfile,
    /// How it is to be built.
    pub options: &'a Options,
    /// The base images that were looked up. Where one is missing, what depends on it is not checked.
    pub bases: &'a KnownBases<'a>,
    /// What is left out of the main context, where that is known.
    pub ignore: Option<&'a Ignore>,
    /// Whether stages that the target does not need are looked into as well.
    pub all_stages: bool,
}

/// What the checks found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What goes against a rule, in the order of the file, with the rule's name as the code. Errors where
    /// `error=true` is asked for, warnings otherwise.
    pub findings: Vec<Diagnostic>,
    /// What is wrong with the directives that choose the rules.
    pub problems: Vec<Diagnostic>,
}

impl Report {
    /// Whether a finding ends the build, because `error=true` is asked for.
    pub fn is_fatal(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Checks a Dockerfile.
pub fn check(subject: &Subject<'_>) -> Report {
    let given = subject.options.build_args.get(CHECK_ARGUMENT).map(String::as_str);
    let policies = Policies::read(subject.text, subject.dockerfile, given);
    let mut reporter = Reporter::new(policies);
    let file = File::new(subject.dockerfile);
    names::check(subject, &file, &mut reporter);
    casing::check(subject, &file, &mut reporter);
    descriptions::check(subject, &file, &mut reporter);
    let plan = from::Plan::new(subject, &file);
    from::check(subject, &file, &plan, &mut reporter);
    walk::check(subject, &file, &plan, &mut reporter);
    reporter.into_report()
}
