//! The keys of what is laid over a tree (`MergeOp`), which is how BuildKit copies with `--link`.

use kiln_solver::{Digest, FileAction, Input};
use serde::Serialize;

use super::dialect::{Dialect, Dialects};
use super::json;
use super::llb::{MergeInput, MergeOp};
use super::operation::{Dependency, Operation, Taken};

/// What BuildKit hashes.
#[derive(Serialize)]
struct Hashed {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Merge")]
    merge: MergeOp,
}

/// What an operation makes in an empty tree, over what a step gives.
pub(super) fn operation(base: Input, upper: Operation) -> Option<Operation> {
    let digest = |dialect: Dialect| {
        let inputs = [0, 1].map(|number| MergeInput { input: dialect.number(number) });
        let hashed = Hashed { kind: "buildkit.merge.v0", merge: MergeOp { inputs } };
        (dialect, Digest::of(&json::to_vec(&hashed)))
    };
    let whole = |from| Dependency { from, selectors: vec![(Dialects::all(), None)], contents: Vec::new() };
    Some(Operation {
        digests: Dialects::group(Dialect::ALL.map(digest)),
        dependencies: vec![whole(Taken::Step(base)), whole(Taken::Operation(Box::new(upper)))],
    })
}

/// Actions on the first input as they are in an empty tree, without that input; none where they read from it, too.
pub(super) fn apart(actions: &[FileAction]) -> Option<Vec<FileAction>> {
    let apart = |action: &FileAction| {
        let base = action.base.and_then(|base| base.checked_sub(1));
        let from = match action.from {
            Some(from) => Some(from.checked_sub(1)?),
            None => None,
        };
        Some(FileAction { base, from, ..action.clone() })
    };
    actions.iter().map(apart).collect()
}
