//! Gathers findings, as far as the policies want them.

use kiln_parser::{Diagnostic, Severity};

use super::Report;
use super::policy::Policies;
use super::rules::rule;

pub(crate) struct Reporter {
    policies: Policies,
    findings: Vec<Diagnostic>,
}

impl Reporter {
    pub(crate) fn new(policies: Policies) -> Self {
        Self { policies, findings: Vec::new() }
    }

    /// A finding of this rule about the instruction of this number.
    pub(crate) fn add(&mut self, name: &'static str, instruction: usize, finding: Diagnostic) {
        let Some(is_error) = rule(name).and_then(|rule| self.policies.verdict(rule, instruction)) else { return };
        let severity = if is_error { Severity::Error } else { Severity::Warning };
        self.findings.push(Diagnostic { severity, ..finding.code(name) });
    }

    pub(crate) fn into_report(mut self) -> Report {
        self.findings.sort_by_key(|finding| finding.span.map(|span| (span.start, span.end)));
        self.findings.dedup();
        Report { findings: self.findings, problems: self.policies.problems }
    }
}
