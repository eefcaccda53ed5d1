//! `RootUser`: an image whose programs run as root.

use kiln_parser::{Diagnostic, Kind};

use super::file::{File, Stage};
use super::reporter::Reporter;
use super::rules::ROOT_USER;
use super::walk::Scope;

/// Checks the user that the target ends with.
pub(crate) fn check(file: &File<'_>, stage: &Stage<'_>, scope: &Scope, reporter: &mut Reporter) {
    let name = scope.user.split(':').next().unwrap_or_default();
    if !["", "0", "root"].contains(&name) {
        return;
    }
    let last = file.body(stage).filter(|(_, one)| matches!(one.kind, Kind::User(_))).last();
    let (number, span) = match last {
        Some((number, user)) => (number, user.span),
        None => (stage.instruction, stage.from.image.span),
    };
    let finding = Diagnostic::warning("the image runs its programs as root")
        .at(span)
        .hint("end the stage with `USER 10001:10001`, and give that user what it writes: `COPY --chown=10001:10001 …`");
    reporter.add(ROOT_USER, number, finding);
}
