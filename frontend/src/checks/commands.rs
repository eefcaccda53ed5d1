//! Rules about `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.

use kiln_parser::{Command, Diagnostic, Instruction, Kind, Span, Word};

use super::reporter::Reporter;
use super::rules::{JSON_ARGS_RECOMMENDED, MULTIPLE_INSTRUCTIONS_DISALLOWED};
use super::walk::Scope;

/// Where a stage has them already: number and span.
#[derive(Default)]
pub(crate) struct Used {
    cmd: Option<(usize, Span)>,
    entrypoint: Option<(usize, Span)>,
    healthcheck: Option<(usize, Span)>,
}

pub(crate) fn check(instruction: &Instruction, number: usize, scope: &Scope, used: &mut Used, reporter: &mut Reporter) {
    let (name, slot, command) = match &instruction.kind {
        Kind::Cmd(command) => ("CMD", &mut used.cmd, Some(command)),
        Kind::Entrypoint(command) => ("ENTRYPOINT", &mut used.entrypoint, Some(command)),
        Kind::Healthcheck(_) => ("HEALTHCHECK", &mut used.healthcheck, None),
        _ => return,
    };
    // The earlier one is what has no effect.
    if let Some((earlier, span)) = slot.replace((number, instruction.span)) {
        let finding = Diagnostic::warning(format!("this `{name}` has no effect: a later one of the stage replaces it"))
            .at(span)
            .hint("remove it, or give it a stage of its own");
        reporter.add(MULTIPLE_INSTRUCTIONS_DISALLOWED, earlier, finding);
    }
    if let Some(Command::Shell(line)) = command
        && !scope.has_shell
    {
        let finding = Diagnostic::warning(format!("`{name}` runs below a shell, which does not pass signals on"))
            .at(line.span)
            .hint(format!("write {}", as_json(name, line)));
        reporter.add(JSON_ARGS_RECOMMENDED, number, finding);
    }
}

/// The JSON form of a line, where the shell has nothing to do but to split it.
fn as_json(name: &str, line: &Word) -> String {
    const FOR_THE_SHELL: &[char] = &[
        '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', ']', '{', '}', '~', '#', '=', '!',
    ];
    let words: Vec<String> = line.value.split_whitespace().map(|word| format!("\"{word}\"")).collect();
    if line.value.contains(FOR_THE_SHELL) || words.is_empty() {
        format!("`{name} [\"program\", \"argument\"]`, or say with a `SHELL` instruction that a shell is meant")
    } else {
        format!("`{name} [{}]`", words.join(", "))
    }
}
