//! What a Dockerfile wants to be scanned for packages beside its target: other stages and the build context, by the
//! arguments `BUILDKIT_SBOM_SCAN_STAGE` and `BUILDKIT_SBOM_SCAN_CONTEXT`.
//!
//! Behaviour: <https://github.com/moby/buildkit/blob/master/docs/attestations/sbom.md>.

use kiln_solver::{CopyAction, FileAction, FileActionKind, Graph, Input, Operation, Source, Step};

use crate::environment::Environment;
use crate::stage::MAIN_CONTEXT;
use crate::state::StageState;

const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// What one stage says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// That it is scanned itself.
    pub(crate) stage: bool,
    /// That the build context is.
    pub(crate) context: bool,
}

impl Wishes {
    /// Those of the stage of this name. What it declares itself counts more than what stands before the first `FROM`.
    pub(crate) fn of(state: &StageState, name: &str, globals: &Environment) -> Self {
        let value = |argument: &str| {
            let own = state.arguments.iter().rev().find(|(name, _)| name == argument);
            own.map(|(_, value)| value.as_str()).or(globals.get(argument))
        };
        let wishes = |argument: &str| value(argument).is_some_and(|value| names(value, name));
        Self { stage: wishes(STAGE), context: wishes(CONTEXT) }
    }
}

/// Whether a value is true, or a list with this stage in it.
fn names(value: &str, stage: &str) -> bool {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        _ => value.split(',').any(|name| name.trim().eq_ignore_ascii_case(stage)),
    }
}

/// The files of the build context, as layers.
pub(crate) fn context_step(graph: &mut Graph) -> Input {
    let source = Source::Local { name: MAIN_CONTEXT.to_owned() };
    let local = graph.add(Step::new(Operation::Source(source), "[internal] load build context"));
    let copy = CopyAction::everything();
    let action = FileAction { base: None, from: Some(0), output: Some(0), kind: FileActionKind::Copy(copy) };
    let mut step = Step::new(Operation::File(vec![action]), "[internal] copy build context to be scanned");
    step.inputs = vec![Input { step: local, output: 0 }];
    Input { step: graph.add(step), output: 0 }
}
