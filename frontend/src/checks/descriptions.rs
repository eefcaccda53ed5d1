//! Comments that describe stages and arguments: `# name what it is for` on the line above.

use kiln_parser::{Diagnostic, Instruction, Kind, Word, comments_above};

use super::Subject;
use super::file::File;
use super::reporter::Reporter;
use super::rules::INVALID_DEFINITION_DESCRIPTION;

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, reporter: &mut Reporter) {
    for (number, instruction) in file.instructions.iter().enumerate() {
        let (what, names) = names(instruction);
        let Some(first) = names.first() else { continue };
        let Some(comment) = comments(subject.text, instruction).pop() else { continue };
        let word = comment.value.split(' ').next().unwrap_or_default();
        if names.iter().any(|name| name == word) {
            continue;
        }
        let shown = if names.len() > 1 { "<argument>" } else { first };
        let message = format!("a comment above `{what}` describes it and should begin with `{shown}`");
        let finding = Diagnostic::warning(message)
            .at(comment.span)
            .hint(format!("write `# {shown} <description>`, or put an empty line below another comment"));
        reporter.add(INVALID_DEFINITION_DESCRIPTION, number, finding);
    }
}

/// What the comments above an instruction say about something that it names; empty where they do not.
pub(crate) fn description(text: &str, instruction: &Instruction, name: &str) -> String {
    let comments = comments(text, instruction);
    let found = comments.iter().find_map(|comment| comment.value.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_default().to_owned()
}

/// The comments that may describe something: directives do not.
fn comments(text: &str, instruction: &Instruction) -> Vec<Word> {
    let is_directive = |comment: &Word| {
        let name = comment.value.split_once('=').map(|(name, _)| name.trim().to_lowercase());
        name.is_some_and(|name| ["syntax", "escape", "check"].contains(&name.as_str()))
    };
    comments_above(text, instruction).into_iter().filter(|comment| !is_directive(comment)).collect()
}

fn names(instruction: &Instruction) -> (&'static str, Vec<String>) {
    match &instruction.kind {
        Kind::From(from) => ("FROM", from.name.iter().map(|name| name.value.to_lowercase()).collect()),
        Kind::Arg(declarations) => ("ARG", declarations.iter().map(|one| one.name.value.clone()).collect()),
        _ => ("", Vec::new()),
    }
}
