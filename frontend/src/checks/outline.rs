//! What a Dockerfile offers: the stages that can be built, and what a stage takes.

use std::collections::{BTreeMap, BTreeSet};

use kiln_parser::{ArgDeclaration, Instruction, Kind, Run, Span};

use super::Subject;
use super::descriptions::description;
use super::file::{File, Stage};
use super::from::{Plan, mount_option};
use super::scope::expand_word;
use crate::environment::Environment;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStage {
    /// Its name in lower case; empty where it has none.
    pub name: String,
    /// Whether it is built where nothing else is asked for.
    pub is_default: bool,
    /// What the comment above it says.
    pub description: String,
    /// What it begins with, as written.
    pub base: String,
    /// Its `--platform`, as written; empty where it has none.
    pub platform: String,
    /// Its `FROM`.
    pub span: Span,
}

/// What building a stage takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOutline {
    /// The stage's name in lower case; empty where it has none.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// The arguments that the stage and what it needs use, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// The secrets that it mounts.
    pub secrets: Vec<OutlineMount>,
    /// The agents that it mounts.
    pub ssh: Vec<OutlineMount>,
    /// The caches that it mounts.
    pub caches: Vec<OutlineMount>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// The value that it has in this build.
    pub value: String,
    /// Where it is declared.
    pub span: Span,
}

/// Something that a `RUN --mount` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub is_required: bool,
    /// The instruction that mounts it first.
    pub span: Span,
}

/// The stages of a Dockerfile, in order.
pub fn targets(subject: &Subject<'_>) -> Vec<TargetStage> {
    let file = File::new(subject.dockerfile);
    let last = file.stages.len().saturating_sub(1);
    let target = |(number, stage): (usize, &Stage<'_>)| {
        let instruction = file.instructions.get(stage.instruction)?;
        let name = stage.name.clone().unwrap_or_default();
        Some(TargetStage {
            description: described(subject.text, instruction, &name),
            is_default: number == last,
            base: stage.from.image.value.clone(),
            platform: stage.from.platform.as_ref().map(|word| word.value.clone()).unwrap_or_default(),
            span: instruction.span,
            name,
        })
    };
    file.stages.iter().enumerate().filter_map(target).collect()
}

fn described(text: &str, instruction: &Instruction, name: &str) -> String {
    if name.is_empty() { String::new() } else { description(text, instruction, name) }
}

/// What the target takes.
pub fn outline(subject: &Subject<'_>) -> StageOutline {
    let file = File::new(subject.dockerfile);
    let plan = Plan::new(subject, &file);
    let mut collector = Collector { subject, file: &file, plan: &plan, args: BTreeMap::new(), mounts: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    let mut pending = vec![plan.target];
    while let Some(number) = pending.pop() {
        if seen.insert(number) {
            pending.extend(plan.dependencies(&file, number));
        }
    }
    collector.globals(&seen);
    seen.iter().for_each(|number| collector.stage(*number));
    let mut result = collector.finish();
    if let Some(stage) = file.stages.get(plan.target) {
        result.name = stage.name.clone().unwrap_or_default();
        let from = file.instructions.get(stage.instruction);
        result.description = from.map(|from| described(subject.text, from, &result.name)).unwrap_or_default();
    }
    result
}

struct Collector<'c, 'a> {
    subject: &'c Subject<'a>,
    file: &'c File<'a>,
    plan: &'c Plan,
    /// By name, with how many there were before.
    args: BTreeMap<String, (usize, OutlineArg)>,
    /// By type and id.
    mounts: BTreeMap<(&'static str, String), OutlineMount>,
}

impl Collector<'_, '_> {
    /// Global arguments that a needed stage uses: in its `FROM`, by declaring it again, or through another one.
    fn globals(&mut self, needed: &BTreeSet<usize>) {
        let mut used = BTreeSet::new();
        for stage in needed.iter().filter_map(|number| self.file.stages.get(*number)) {
            for word in std::iter::once(&stage.from.image).chain(&stage.from.platform) {
                used.extend(self.variables(&word.value, &self.plan.globals));
            }
            for (_, instruction) in self.file.body(stage) {
                let Kind::Arg(declarations) = &instruction.kind else { continue };
                let again = declarations.iter().filter(|declaration| declaration.default.is_none());
                used.extend(again.map(|declaration| declaration.name.value.clone()));
            }
        }
        for (number, declaration) in self.file.globals.iter().rev() {
            let name = &declaration.name.value;
            if !used.contains(name) {
                continue;
            }
            if let Some(default) = &declaration.default {
                used.extend(self.variables(&default.value, &self.plan.globals));
            }
            let value = self.plan.globals.get(name).unwrap_or_default().to_owned();
            self.add_arg(name, value, *number);
        }
    }

    fn variables(&self, word: &str, environment: &Environment) -> BTreeSet<String> {
        let escape = self.subject.dockerfile.directives.escape;
        let used = expand_word(word, escape, environment).unwrap_or_default();
        used.found.into_iter().chain(used.undefined).collect()
    }

    fn add_arg(&mut self, name: &str, value: String, number: usize) {
        let Some(instruction) = self.file.instructions.get(number) else { return };
        let description = description(self.subject.text, instruction, name);
        let arg = OutlineArg { name: name.to_owned(), description, value, span: instruction.span };
        self.args.insert(name.to_owned(), (self.args.len(), arg));
    }

    fn stage(&mut self, number: usize) {
        let (Some(stage), Some(planned)) = (self.file.stages.get(number), self.plan.stages.get(number)) else { return };
        let from = self.file.instructions.get(stage.instruction).map(|from| from.span).unwrap_or_default();
        let mut environment = Environment::default();
        for trigger in &planned.triggers {
            self.instruction(stage.instruction, &trigger.instruction, from, &mut environment);
        }
        for (number, instruction) in self.file.body(stage) {
            self.instruction(number, instruction, instruction.span, &mut environment);
        }
    }

    /// An instruction of this number at this place.
    fn instruction(&mut self, number: usize, instruction: &Instruction, span: Span, environment: &mut Environment) {
        match &instruction.kind {
            Kind::Arg(declarations) => {
                declarations.iter().for_each(|declaration| self.arg(declaration, number, environment));
            }
            Kind::Run(run) => self.run(run, span),
            _ => {}
        }
    }

    fn arg(&mut self, declaration: &ArgDeclaration, number: usize, environment: &mut Environment) {
        let name = &declaration.name.value;
        let given = self.subject.options.build_args.get(name).cloned();
        let own = declaration.default.as_ref().map(|default| {
            let escape = self.subject.dockerfile.directives.escape;
            expand_word(&default.value, escape, environment).unwrap_or_default().value
        });
        let global = self.plan.globals.get(name).map(str::to_owned);
        // Declared again, a global argument is shown where it was declared first.
        if own.is_some() || global.is_none() {
            self.add_arg(name, given.clone().or(own.clone()).unwrap_or_default(), number);
        }
        environment.set(name, &given.or(own).or(global).unwrap_or_default());
    }

    fn run(&mut self, run: &Run, span: Span) {
        for mount in &run.mounts {
            let option = |name: &str| mount_option(&mount.value, name).filter(|value| !value.is_empty());
            let target = || option("target").or_else(|| option("dst")).or_else(|| option("destination"));
            let id = || option("id").or_else(|| option("source")).or_else(|| option("src"));
            let (kind, id) = match option("type").as_deref() {
                Some("secret") => {
                    let of_target = || target().and_then(|path| path.rsplit('/').next().map(str::to_owned));
                    ("secret", id().or_else(of_target))
                }
                Some("ssh") => ("ssh", id().or_else(|| Some("default".to_owned()))),
                Some("cache") => ("cache", option("id").or_else(target)),
                _ => continue,
            };
            let Some(id) = id else { continue };
            let required = mount_option(&mount.value, "required");
            let is_required = required.is_some_and(|value| matches!(value.as_str(), "" | "true" | "1"));
            let entry = OutlineMount { id: id.clone(), is_required, span };
            self.mounts.entry((kind, id)).or_insert(entry);
        }
    }

    fn finish(self) -> StageOutline {
        let mut args: Vec<(usize, OutlineArg)> = self.args.into_values().collect();
        // Those of one instruction in the order in which they are written.
        args.sort_by_key(|(order, arg)| (arg.span.start, *order));
        let args = args.into_iter().map(|(_, arg)| arg).collect();
        let of = |kind: &str| {
            let mut found: Vec<OutlineMount> =
                self.mounts.iter().filter(|((of, _), _)| *of == kind).map(|(_, mount)| mount.clone()).collect();
            found.sort_by_key(|mount| mount.span.start);
            found
        };
        StageOutline { args, secrets: of("secret"), ssh: of("ssh"), caches: of("cache"), ..StageOutline::default() }
    }
}
