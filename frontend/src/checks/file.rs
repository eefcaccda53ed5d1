//! A Dockerfile by stages, with the numbers of its instructions.

use std::collections::BTreeMap;
use std::ops::Range;

use kiln_parser::{ArgDeclaration, Dockerfile, From, Instruction, Kind};

/// The stages of a Dockerfile and what stands before them.
pub(crate) struct File<'a> {
    pub(crate) instructions: &'a [Instruction],
    /// The arguments before the first stage, each with the number of its instruction.
    pub(crate) globals: Vec<(usize, &'a ArgDeclaration)>,
    pub(crate) stages: Vec<Stage<'a>>,
    /// The stages of each name, in order.
    by_name: BTreeMap<String, Vec<usize>>,
}

/// A stage.
pub(crate) struct Stage<'a> {
    /// The number of its `FROM` among the instructions.
    pub(crate) instruction: usize,
    pub(crate) from: &'a From,
    /// Its name in lower case, as Docker compares names.
    pub(crate) name: Option<String>,
    /// The numbers of its instructions, without the `FROM`.
    pub(crate) body: Range<usize>,
}

impl<'a> File<'a> {
    pub(crate) fn new(dockerfile: &'a Dockerfile) -> Self {
        let mut file = Self {
            instructions: &dockerfile.instructions,
            globals: Vec::new(),
            stages: Vec::new(),
            by_name: BTreeMap::new(),
        };
        for (number, instruction) in dockerfile.instructions.iter().enumerate() {
            match (&instruction.kind, file.stages.last_mut()) {
                (Kind::From(from), _) => {
                    let name = from.name.as_ref().map(|name| name.value.to_lowercase());
                    if let Some(name) = &name {
                        file.by_name.entry(name.clone()).or_default().push(file.stages.len());
                    }
                    file.stages.push(Stage { instruction: number, from, name, body: number + 1..number + 1 });
                }
                (_, Some(stage)) => stage.body.end = number + 1,
                (Kind::Arg(declarations), None) => {
                    file.globals.extend(declarations.iter().map(|declaration| (number, declaration)));
                }
                (_, None) => {}
            }
        }
        file
    }

    /// The instructions of a stage with their numbers.
    pub(crate) fn body(&self, stage: &Stage<'_>) -> impl Iterator<Item = (usize, &'a Instruction)> + use<'a> {
        let instructions = self.instructions.get(stage.body.clone()).unwrap_or_default();
        stage.body.clone().zip(instructions)
    }

    /// The last stage before `end` of this name.
    pub(crate) fn stage(&self, name: &str, end: usize) -> Option<usize> {
        let all = self.by_name.get(&name.to_lowercase())?;
        let before = all.partition_point(|number| *number < end);
        all.get(before.checked_sub(1)?).copied()
    }

    /// The stage that a `--from` or `--target` names.
    pub(crate) fn source(&self, name: &str) -> Option<usize> {
        let by_number = || name.parse::<usize>().ok().filter(|number| *number < self.stages.len());
        self.stage(name, self.stages.len()).or_else(by_number)
    }
}
