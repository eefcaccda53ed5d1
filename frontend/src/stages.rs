//! A Dockerfile's outline: what stands before the first `FROM`, and the stages.

use std::collections::HashMap;

use kiln_parser::{ArgDeclaration, Diagnostic, Dockerfile, From, Instruction, Kind, Span};

use crate::findings::{Findings, error_at};

/// The arguments before the first `FROM`, and the stages in order.
#[derive(Default)]
pub(crate) struct Outline<'a> {
    pub(crate) arguments: Vec<&'a ArgDeclaration>,
    pub(crate) stages: Vec<Stage<'a>>,
}

/// One stage as written.
pub(crate) struct Stage<'a> {
    /// In lower case, as Docker compares them.
    pub(crate) name: Option<String>,
    pub(crate) from: &'a From,
    /// Where its `FROM` stands.
    pub(crate) span: Span,
    /// What follows its `FROM`.
    pub(crate) instructions: Vec<&'a Instruction>,
}

impl<'a> Outline<'a> {
    pub(crate) fn new(dockerfile: &'a Dockerfile, findings: &mut Findings) -> Self {
        let mut outline = Self::default();
        for instruction in &dockerfile.instructions {
            outline.take(instruction, findings);
        }
        if outline.stages.is_empty() && !findings.has_errors() {
            findings.add(no_stage(dockerfile));
        }
        outline
    }

    /// The stages by name; of several with one name the last.
    pub(crate) fn names(&self) -> HashMap<String, usize> {
        let named = self.stages.iter().enumerate();
        named.filter_map(|(index, stage)| Some((stage.name.clone()?, index))).collect()
    }

    fn take(&mut self, instruction: &'a Instruction, findings: &mut Findings) {
        match (&instruction.kind, self.stages.last_mut()) {
            (Kind::From(from), _) => {
                self.stages.push(Stage {
                    name: from.name.as_ref().map(|name| name.value.to_lowercase()),
                    from,
                    span: instruction.span,
                    instructions: Vec::new(),
                });
            }
            (_, Some(stage)) => stage.instructions.push(instruction),
            (Kind::Arg(declarations), None) => self.arguments.extend(declarations),
            (_, None) => findings.add(outside_stage(instruction)),
        }
    }
}

fn no_stage(dockerfile: &Dockerfile) -> Diagnostic {
    let message = if dockerfile.instructions.is_empty() {
        "the Dockerfile has no instructions"
    } else {
        "the Dockerfile has no stage to build"
    };
    Diagnostic::error(message).hint("begin with `FROM image` or `FROM scratch`").code("no-stage")
}

fn outside_stage(instruction: &Instruction) -> Diagnostic {
    let keyword = instruction.keyword.value.to_uppercase();
    error_at(&instruction.keyword, "outside-stage", format!("`{keyword}` before the first `FROM`"))
        .label("belongs to no stage")
        .hint("only `ARG` may stand before the first `FROM`")
}
