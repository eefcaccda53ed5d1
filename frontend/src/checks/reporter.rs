//! Gathers findings, as far as the policies want them.

use kiln_parser::{Diagnostic, Severity, Span};

use super::Report;
use super::policy::Policies;
use super::rules::rule;

pub(crate) struct Reporter {
    policies: Policies,
    findings: Vec<Diagnostic>,
    /// Where the `FROM` stands that brought the trigger at hand, and what to say there.
    trigger: Option<(Span, String)>,
}

impl Reporter {
    pub(crate) fn new(policies: Policies) -> Self {
        Self { policies, findings: Vec::new(), trigger: None }
    }

    /// A finding of this rule about the instruction of this number.
    pub(crate) fn add(&mut self, name: &'static str, instruction: usize, finding: Diagnostic) {
        let Some(is_error) = rule(name).and_then(|rule| self.policies.verdict(rule, instruction)) else { return };
        let severity = if is_error { Severity::Error } else { Severity::Warning };
        let mut finding = Diagnostic { severity, ..finding.code(name) };
        if let Some((from, label)) = &self.trigger {
            finding.span = Some(*from);
            finding.label = Some(label.clone());
        }
        self.findings.push(finding);
    }

    /// From here on, or until `None`, findings are about this trigger: they are told at the `FROM` that brings it.
    pub(crate) fn set_trigger(&mut self, trigger: Option<(Span, &str)>) {
        self.trigger = trigger.map(|(from, text)| (from, format!("brings `ONBUILD {text}`")));
    }

    pub(crate) fn into_report(mut self) -> Report {
        self.findings.sort_by_key(|finding| finding.span.map(|span| (span.start, span.end)));
        self.findings.dedup();
        Report { findings: self.findings, problems: self.policies.problems }
    }
}
