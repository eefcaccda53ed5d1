//! Lowering one stage: its instructions in order, each changing the state of the stage.

use kiln_parser::{Diagnostic, Instruction, Kind, Span, Word};
use kiln_solver::{Graph, IgnoreCache, Input, Metadata, Operation, Source, SourceSpan, Step};

use crate::environment::Environment;
use crate::findings::{Findings, error_at};
use crate::naming::Naming;
use crate::nodes::{Item, Planner};
use crate::state::{StageState, Tree};

/// A stage while it is lowered.
pub(crate) struct StageLowering<'l, 'a> {
    pub(crate) planner: &'l Planner<'a>,
    pub(crate) graph: &'l mut Graph,
    pub(crate) state: StageState,
    pub(crate) naming: Naming,
    /// The stage's name or number, for the metadata of its steps.
    pub(crate) stage: Option<String>,
    /// The instruction at hand as it was written, for the metadata of its steps.
    pub(crate) written: String,
    /// Whether all steps of the stage run even where a cache entry fits.
    pub(crate) is_uncached: bool,
    /// Why those of the instruction at hand do, if they do.
    pub(crate) ignore_cache: Option<IgnoreCache>,
    /// Whether the stage has a `CMD` of its own, which its `ENTRYPOINT` leaves alone.
    pub(crate) has_command: bool,
}

/// The instruction at hand.
pub(crate) struct Current<'i> {
    pub(crate) instruction: &'i Instruction,
    /// Where it stands, or the `FROM` that brought it.
    pub(crate) span: Span,
    pub(crate) is_trigger: bool,
    /// What it takes files from, as in [`Item::sources`].
    pub(crate) sources: &'i [Option<&'i Tree>],
}

impl<'i> Current<'i> {
    /// What a `COPY` copies from, if it says so.
    pub(crate) fn source(&self) -> Option<&'i Tree> {
        self.sources.first().copied().flatten()
    }
}

impl StageLowering<'_, '_> {
    /// Lowers one instruction. Where it is wrong, the stage goes on without it.
    pub(crate) fn item(&mut self, item: &Item<'_>, sources: &[Option<&Tree>], findings: &mut Findings) {
        self.written.clone_from(&item.instruction.text);
        self.ignore_cache = if self.is_uncached {
            Some(IgnoreCache::Asked)
        } else {
            item.instruction.annotations.always.then_some(IgnoreCache::Always)
        };
        let current = Current {
            instruction: &item.instruction,
            span: item.trigger_of.unwrap_or(item.instruction.span),
            is_trigger: item.trigger_of.is_some(),
            sources,
        };
        let errors = match &item.instruction.kind {
            Kind::Run(run) => self.run(run, &current).err().unwrap_or_default(),
            _ => self.instruction(&current).err().into_iter().collect(),
        };
        for error in errors {
            self.tell(item, error, findings);
        }
    }

    /// An error of a trigger is told where the trigger came from. Where the base could not be found, nothing is
    /// known about its variables.
    fn tell(&self, item: &Item<'_>, mut error: Diagnostic, findings: &mut Findings) {
        if self.state.is_base_unknown && error.code == Some("expansion") {
            return;
        }
        if let Some(from) = item.trigger_of {
            error.span = Some(from);
            error.label = Some(format!("brings `ONBUILD {}`", item.instruction.text));
        }
        findings.add(error);
    }

    fn instruction(&mut self, current: &Current<'_>) -> Result<(), Diagnostic> {
        match &current.instruction.kind {
            // A `FROM` begins a stage and never is in one; a `RUN` may be wrong in many ways at once.
            Kind::From(_) | Kind::Run(_) => Ok(()),
            Kind::Copy(copy) => self.copy(copy, false, current),
            Kind::Add(copy) => self.copy(copy, true, current),
            Kind::Workdir(path) => self.workdir(path, current),
            Kind::Env(pairs) => self.env(pairs),
            Kind::Arg(declarations) => self.arg(declarations),
            Kind::Label(pairs) => self.label(pairs),
            Kind::User(user) => self.user(user),
            Kind::Expose(ports) => self.expose(ports),
            Kind::Volume(paths) => self.volume(paths),
            Kind::Stopsignal(signal) => self.stop_signal(signal),
            Kind::Maintainer(name) => self.maintainer(name),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Shell(shell) => self.shell(shell, current.span),
            Kind::Healthcheck(check) => self.healthcheck(check),
            Kind::Onbuild(onbuild) => {
                self.state.image.config.on_build.push(onbuild.text.value.clone());
                Ok(())
            }
        }
    }

    /// A word with the stage's variables replaced and its quotes removed.
    pub(crate) fn expand(&self, word: &Word) -> Result<String, Diagnostic> {
        let expanded = self.state.environment.expand(&word.value, self.planner.escape);
        expanded.map_err(|error| error_at(word, "expansion", error.to_string()))
    }

    /// What the next step is called, which does `what`.
    pub(crate) fn next_name(&mut self, what: &str, is_trigger: bool) -> String {
        self.naming.next(what, is_trigger, &self.state.platform, &self.state.environment)
    }

    pub(crate) fn globals(&self) -> &Environment {
        &self.planner.globals
    }

    /// Adds a step of this stage that makes its files anew.
    pub(crate) fn add_step(&mut self, operation: Operation, inputs: Vec<Input>, name: String, span: Span) -> Input {
        let platform = matches!(operation, Operation::Exec(_)).then(|| self.state.platform.clone());
        let ignore_cache = self.ignore_cache.filter(|_| !operation.is_source());
        let span = Some(SourceSpan { start: span.start, end: span.end });
        let written = self.written.clone();
        let metadata = Metadata { name, written, span, stage: self.stage.clone(), ignore_cache };
        let step = self.graph.add(Step { operation, inputs, platform, metadata });
        Input { step, output: 0 }
    }

    /// The step that brings in a directory of this machine.
    pub(crate) fn add_local(&mut self, context: &str) -> Input {
        let name = match context {
            MAIN_CONTEXT => "[internal] load build context".to_owned(),
            _ => format!("[context {context}] load from client"),
        };
        let source = Source::Local { name: context.to_owned() };
        Input { step: self.graph.add(Step::new(Operation::Source(source), name)), output: 0 }
    }

    /// The step whose files these are; `None` where there are no files.
    pub(crate) fn input(&mut self, tree: &Tree) -> Option<Input> {
        match tree {
            Tree::Empty => None,
            Tree::Step(input) => Some(*input),
            Tree::Local(context) => Some(self.add_local(context)),
        }
    }
}

/// The name of the context that a build is given.
pub(crate) const MAIN_CONTEXT: &str = "context";
