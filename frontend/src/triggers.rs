//! `ONBUILD` triggers: instructions that a base brings along for whoever builds on it.

use kiln_parser::{Diagnostic, Instruction, Kind, Severity, Span};

use crate::stages::Stage;

/// The triggers that a stage leaves for the stages that begin with it.
pub(crate) fn of_stage<'a>(stage: &Stage<'a>) -> Vec<&'a str> {
    stage.instructions.iter().filter_map(|instruction| text(instruction)).collect()
}

/// What an `ONBUILD` leaves.
pub(crate) fn text(instruction: &Instruction) -> Option<&str> {
    match &instruction.kind {
        Kind::Onbuild(onbuild) => Some(&onbuild.text.value),
        _ => None,
    }
}

/// The instruction of a trigger. Errors are told at the `FROM` that brings it, and so are those of the
/// instruction later on: its own spans are of another text.
pub(crate) fn parse(text: &str, from: Span) -> Result<Instruction, Diagnostic> {
    let error =
        |message: String| Diagnostic::error(message).at(from).label(format!("brings `ONBUILD {text}`")).code("trigger");
    let parsed = kiln_parser::parse(text);
    if let Some(found) = parsed.diagnostics.iter().find(|found| found.severity == Severity::Error) {
        return Err(error(format!("the base's trigger is not valid: {}", found.message)));
    }
    let mut instructions = parsed.dockerfile.instructions;
    match (instructions.pop(), instructions.is_empty()) {
        (Some(instruction), true) => match instruction.kind {
            Kind::From(_) | Kind::Maintainer(_) | Kind::Onbuild(_) => {
                let keyword = instruction.keyword.value.to_uppercase();
                Err(error(format!("`{keyword}` cannot be a trigger")))
            }
            _ => Ok(instruction),
        },
        _ => Err(error("the base's trigger is not a single instruction".to_owned())),
    }
}
