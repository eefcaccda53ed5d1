//! Rules about how instructions are written: their case, empty lines in them, the older forms.

use kiln_parser::{Diagnostic, Instruction, Kind, Span, Word, empty_continuation_lines};

use super::Subject;
use super::file::File;
use super::reporter::Reporter;
use super::rules::{
    CONSISTENT_INSTRUCTION_CASING, LEGACY_KEY_VALUE_FORMAT, MAINTAINER_DEPRECATED, NO_EMPTY_CONTINUATION,
};

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, reporter: &mut Reporter) {
    consistent(file, reporter);
    let escape = subject.dockerfile.directives.escape;
    for (number, instruction) in file.instructions.iter().enumerate() {
        if let Some(&line) = empty_continuation_lines(subject.text, instruction, escape).first() {
            let finding = Diagnostic::warning("empty line in a continued instruction")
                .at(line)
                .hint("remove the empty line, or the continuation mark before it");
            reporter.add(NO_EMPTY_CONTINUATION, number, finding);
        }
        older_forms(subject.text, number, instruction, reporter);
    }
}

/// All in the case that most are in. Arguments before the first stage do not count, as they do not for BuildKit.
fn consistent(file: &File<'_>, reporter: &mut Reporter) {
    let first = file.stages.first().map_or(file.instructions.len(), |stage| stage.instruction);
    let in_stages = || file.instructions.iter().enumerate().skip(first);
    let is_lower = |word: &str| word.to_lowercase() == word;
    let is_upper = |word: &str| word.to_uppercase() == word;
    let count = |is: &dyn Fn(&str) -> bool| in_stages().filter(|(_, one)| is(&one.keyword.value)).count();
    let mostly_lower = count(&is_lower) > count(&is_upper);
    for (number, instruction) in in_stages() {
        let typed = &instruction.keyword;
        let wanted = if mostly_lower { typed.value.to_lowercase() } else { typed.value.to_uppercase() };
        if wanted != typed.value {
            let case = if mostly_lower { "lower" } else { "upper" };
            let message = format!("`{}` should be {case}-case, as most instructions of this file are", typed.value);
            let finding = Diagnostic::warning(message).at(typed.span).hint(format!("write `{wanted}`"));
            reporter.add(CONSISTENT_INSTRUCTION_CASING, number, finding);
        }
    }
}

fn older_forms(text: &str, number: usize, instruction: &Instruction, reporter: &mut Reporter) {
    match &instruction.kind {
        Kind::Maintainer(name) => {
            let finding = Diagnostic::warning("`MAINTAINER` is deprecated")
                .at(instruction.keyword.span)
                .hint(format!("write `LABEL org.opencontainers.image.authors={}`", quoted(&name.value)));
            reporter.add(MAINTAINER_DEPRECATED, number, finding);
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            if let [(name, value)] = pairs.as_slice()
                && !has_equals_sign(text, name, value)
            {
                let keyword = instruction.keyword.value.to_uppercase();
                let span = Span::new(name.span.start, value.span.end);
                let finding = Diagnostic::warning(format!("`{keyword}` with a blank between name and value"))
                    .at(span)
                    .hint(format!("write `{keyword} {}={}`", name.value, quoted(&value.value)));
                reporter.add(LEGACY_KEY_VALUE_FORMAT, number, finding);
            }
        }
        _ => {}
    }
}

fn has_equals_sign(text: &str, name: &Word, value: &Word) -> bool {
    text.get(name.span.end..value.span.start).is_none_or(|between| between.starts_with('=')) || name.value.contains('=')
}

/// As one value of `ENV` or `LABEL`.
fn quoted(value: &str) -> String {
    let value = value.trim();
    if value.contains(char::is_whitespace) && !value.starts_with(['"', '\'']) {
        format!("\"{}\"", value.replace('"', "\\\""))
    } else {
        value.to_owned()
    }
}
