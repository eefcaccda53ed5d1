//! Rules about the names of stages.

use std::collections::BTreeMap;

use kiln_parser::{Diagnostic, Span};

use super::Subject;
use super::file::{File, Stage};
use super::reporter::Reporter;
use super::rules::{DUPLICATE_STAGE_NAME, FROM_AS_CASING, RESERVED_STAGE_NAME, STAGE_NAME_CASING};

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, reporter: &mut Reporter) {
    let mut seen = BTreeMap::new();
    for (number, stage) in file.stages.iter().enumerate() {
        let (Some(word), Some(name)) = (&stage.from.name, &stage.name) else { continue };
        if word.value != *name {
            let finding = Diagnostic::warning(format!("the stage name `{}` should be lower-case", word.value))
                .at(word.span)
                .hint(format!("write `AS {name}`; it means the same stage"));
            reporter.add(STAGE_NAME_CASING, stage.instruction, finding);
        }
        as_casing(subject, file, stage, reporter);
        if RESERVED.contains(&name.as_str()) {
            let finding = Diagnostic::warning(format!("the stage name `{name}` is reserved")).at(word.span);
            reporter.add(RESERVED_STAGE_NAME, stage.instruction, finding.hint("give the stage another name"));
        }
        if let Some(first) = seen.insert(name.clone(), number) {
            let finding = Diagnostic::warning(format!("the stage name `{name}` is given twice"))
                .at(word.span)
                .label("means this stage from here on")
                .hint(format!("give one of them another name; the earlier one is also stage number {first}"));
            reporter.add(DUPLICATE_STAGE_NAME, stage.instruction, finding);
        }
    }
}

/// A `FROM` in mixed case is for `ConsistentInstructionCasing`.
fn as_casing(subject: &Subject<'_>, file: &File<'_>, stage: &Stage<'_>, reporter: &mut Reporter) {
    let Some((typed, span)) = as_keyword(subject.text, stage) else { return };
    let Some(from) = file.instructions.get(stage.instruction).map(|from| from.keyword.value.as_str()) else { return };
    let wanted = match from {
        from if from == from.to_lowercase() => typed.to_lowercase(),
        from if from == from.to_uppercase() => typed.to_uppercase(),
        _ => return,
    };
    if wanted != typed {
        let finding = Diagnostic::warning(format!("`{typed}` and `{from}` are written in different cases"))
            .at(span)
            .hint(format!("write `{wanted}`"));
        reporter.add(FROM_AS_CASING, stage.instruction, finding);
    }
}

/// The word between image and name.
fn as_keyword<'t>(text: &'t str, stage: &Stage<'_>) -> Option<(&'t str, Span)> {
    let name = stage.from.name.as_ref()?;
    let from = stage.from.image.span.end;
    let between = text.get(from..name.span.start)?;
    let at = between.char_indices().map(|(at, _)| at).find(|&at| {
        let word = between.get(at..at + 2).is_some_and(|word| word.eq_ignore_ascii_case("as"));
        let is_whole = between.get(at + 2..).is_none_or(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
        word && is_whole
    })?;
    let typed = between.get(at..at + 2)?;
    Some((typed, Span::new(from + at, from + at + 2)))
}
