//! Follows the stages instruction by instruction, with the variables and settings that each one sees.

use std::collections::BTreeSet;

use kiln_parser::{ArgDeclaration, Copy, Diagnostic, Instruction, Kind, Word, expand};

use super::commands::Used;
use super::file::{File, Stage};
use super::from::{Base, Plan};
use super::reporter::Reporter;
use super::rules::{UNDEFINED_VAR, WORKDIR_RELATIVE_PATH};
use super::scope::{expand_word, near, variable_span};
use super::{Subject, apt, cache_order, commands, copies, expose, secrets, user};
use crate::environment::Environment;

/// What an instruction sees.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub(crate) environment: Environment,
    /// Arguments, those without a value too.
    pub(crate) declared: BTreeSet<String>,
    /// Whether nothing is known about the base, so that any variable may be there.
    is_open: bool,
    pub(crate) has_shell: bool,
    has_workdir: bool,
    pub(crate) user: String,
}

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, plan: &Plan, reporter: &mut Reporter) {
    let mut ends = Ends::new(plan);
    for (number, stage) in file.stages.iter().enumerate() {
        let scope = plan.stages.get(number).map(|planned| begin(&planned.base, &mut ends)).unwrap_or_default();
        let mut walk = Walk { subject, plan, reporter, scope, used: Used::default() };
        let is_looked_into = plan.stages.get(number).is_some_and(|planned| planned.is_needed && !planned.is_replaced);
        if is_looked_into {
            walk.triggers(stage, number);
            walk.stage(file, stage, number == plan.target);
        }
        ends.scopes.push(walk.scope);
    }
}

/// What the stages so far ended with.
struct Ends {
    scopes: Vec<Scope>,
    /// How many stages still to come begin with a stage.
    heirs: Vec<usize>,
}

impl Ends {
    fn new(plan: &Plan) -> Self {
        let mut heirs = vec![0; plan.stages.len()];
        for planned in &plan.stages {
            if let Base::Stage(base) = planned.base
                && let Some(heirs) = heirs.get_mut(base)
            {
                *heirs += 1;
            }
        }
        Self { scopes: Vec::with_capacity(heirs.len()), heirs }
    }

    /// Copied, but for the last heir: a long chain of stages does not copy all of itself for each of them.
    fn inherit(&mut self, base: usize) -> Option<Scope> {
        let (scope, heirs) = (self.scopes.get_mut(base)?, self.heirs.get_mut(base)?);
        *heirs = heirs.saturating_sub(1);
        Some(if *heirs == 0 { std::mem::take(scope) } else { scope.clone() })
    }
}

fn begin(base: &Base, ends: &mut Ends) -> Scope {
    let image = match base {
        Base::Stage(number) => return ends.inherit(*number).unwrap_or_default(),
        Base::Unknown => return Scope { is_open: true, ..Scope::default() },
        Base::Empty => None,
        Base::Image(base) => Some(&base.image.config),
    };
    let mut scope = Scope::default();
    if let Some(config) = image {
        scope.environment = Environment::of(&config.env);
        scope.has_shell = !config.shell.is_empty();
        scope.user.clone_from(&config.user);
    }
    if scope.environment.get("PATH").is_none() {
        scope.environment.set("PATH", "");
    }
    scope
}

struct Walk<'c, 'a> {
    subject: &'c Subject<'a>,
    plan: &'c Plan,
    reporter: &'c mut Reporter,
    scope: Scope,
    used: Used,
}

impl Walk<'_, '_> {
    /// The triggers of the base, as if they stood before the instructions of the stage.
    fn triggers(&mut self, stage: &Stage<'_>, number: usize) {
        let triggers = self.plan.stages.get(number).map(|planned| planned.triggers.as_slice()).unwrap_or_default();
        for trigger in triggers {
            self.reporter.set_trigger(Some((stage.from.image.span, &trigger.text)));
            let subject = Subject { text: &trigger.text, ..*self.subject };
            let (scope, used) = (std::mem::take(&mut self.scope), std::mem::take(&mut self.used));
            let mut walk = Walk { subject: &subject, plan: self.plan, reporter: self.reporter, scope, used };
            walk.instruction(stage.instruction, &trigger.instruction);
            (self.scope, self.used) = (walk.scope, walk.used);
        }
        self.reporter.set_trigger(None);
    }

    fn stage(&mut self, file: &File<'_>, stage: &Stage<'_>, is_target: bool) {
        for (number, instruction) in file.body(stage) {
            self.instruction(number, instruction);
        }
        cache_order::check(self.subject, file, stage, self.reporter);
        if is_target {
            user::check(file, stage, &self.scope, self.reporter);
        }
    }

    fn instruction(&mut self, number: usize, instruction: &Instruction) {
        match &instruction.kind {
            Kind::Env(pairs) => self.env(pairs, number),
            Kind::Arg(declarations) => declarations.iter().for_each(|one| self.arg(one, number)),
            Kind::Label(pairs) => pairs.iter().for_each(|(name, value)| {
                self.expand(name, number);
                self.expand(value, number);
            }),
            Kind::Copy(copy) => self.copy(copy, "COPY", number),
            Kind::Add(copy) => self.copy(copy, "ADD", number),
            Kind::Run(run) => {
                run.mounts.iter().for_each(|mount| drop(self.expand(mount, number)));
                apt::check(self.subject.text, instruction, run, number, self.reporter);
            }
            Kind::Workdir(path) => self.workdir(path, number),
            Kind::User(user) => self.scope.user = self.expand(user, number).unwrap_or_default(),
            Kind::Volume(words) => words.iter().for_each(|word| drop(self.expand(word, number))),
            Kind::Stopsignal(word) => drop(self.expand(word, number)),
            Kind::Expose(words) => words.iter().for_each(|word| self.expose(word, number)),
            Kind::Shell(_) => self.scope.has_shell = true,
            Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_) => {
                commands::check(instruction, number, &self.scope, &mut self.used, self.reporter);
            }
            Kind::From(_) | Kind::Maintainer(_) | Kind::Onbuild(_) => {}
        }
    }

    /// The value of a word; what it uses and nobody defines is told.
    fn expand(&mut self, word: &Word, instruction: usize) -> Option<String> {
        let escape = self.subject.dockerfile.directives.escape;
        let used = expand_word(&word.value, escape, &self.scope.environment)?;
        self.undefined(&used.undefined, word, instruction);
        Some(used.value)
    }

    fn undefined(&mut self, undefined: &[String], word: &Word, instruction: usize) {
        if self.scope.is_open {
            return;
        }
        for name in undefined.iter().filter(|name| !self.scope.declared.contains(*name)) {
            let near = near(name, self.scope.environment.names());
            let suggestion = near.map(|near| format!(" (did you mean `${near}`?)")).unwrap_or_default();
            let hint = match (self.plan.globals.get(name), near) {
                (Some(_), _) => {
                    format!("an argument from before the first `FROM` needs `ARG {name}` in the stage, too")
                }
                (None, Some(near)) => format!("write `${near}`, or define `{name}` with `ARG` or `ENV`"),
                (None, None) => {
                    format!(
                        "define it with `ARG {name}` or `ENV {name}=…`, or write `${{{name}:-}}` if it may be empty"
                    )
                }
            };
            let finding = Diagnostic::warning(format!("`${name}` is used and not defined{suggestion}"))
                .at(variable_span(self.subject.text, word, name))
                .hint(hint);
            self.reporter.add(UNDEFINED_VAR, instruction, finding);
        }
    }

    fn env(&mut self, pairs: &[(Word, Word)], number: usize) {
        let mut set = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            secrets::check("ENV", name, number, self.reporter);
            let value = (self.expand(name, number), self.expand(value, number));
            set.push((value.0.unwrap_or_default(), value.1.unwrap_or_default()));
        }
        for (name, value) in set {
            self.scope.environment.set(&name, &value);
        }
    }

    fn arg(&mut self, declaration: &ArgDeclaration, number: usize) {
        let name = &declaration.name.value;
        secrets::check("ARG", &declaration.name, number, self.reporter);
        let value = match (self.subject.options.build_args.get(name), &declaration.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => self.expand(default, number),
            (None, None) => self.plan.globals.get(name).map(str::to_owned),
        };
        if let Some(value) = value {
            self.scope.environment.set(name, &value);
        }
        self.scope.declared.insert(name.clone());
    }

    fn copy(&mut self, copy: &Copy, keyword: &str, number: usize) {
        for word in copy.chown.iter().chain(&copy.chmod).chain(&copy.checksum) {
            self.expand(word, number);
        }
        for word in &copy.sources {
            let source = self.expand(word, number);
            if let (Some(source), Some(ignore), None) = (source, self.subject.ignore, &copy.from) {
                copies::check(&source, word, keyword, ignore, number, self.reporter);
            }
        }
        self.expand(&copy.destination, number);
        for heredoc in copy.heredocs.iter().filter(|heredoc| heredoc.expand) {
            let lookup = |name: &str| self.scope.environment.get(name).map(str::to_owned);
            let Ok(expanded) = expand::expand_heredoc(&heredoc.content, &lookup) else { continue };
            let word = Word::new(heredoc.content.clone(), heredoc.span);
            self.undefined(&expanded.undefined, &word, number);
        }
    }

    fn workdir(&mut self, word: &Word, number: usize) {
        let Some(path) = self.expand(word, number) else { return };
        if !self.scope.has_workdir && !path.starts_with('/') {
            let message = format!("the first `WORKDIR` of the stage is the relative path `{path}`");
            let finding = Diagnostic::warning(message)
                .at(word.span)
                .hint(format!("write an absolute path, such as `WORKDIR /{}`", path.trim_start_matches("./")));
            self.reporter.add(WORKDIR_RELATIVE_PATH, number, finding);
        }
        self.scope.has_workdir = true;
    }

    fn expose(&mut self, word: &Word, number: usize) {
        let escape = self.subject.dockerfile.directives.escape;
        let lookup = |name: &str| self.scope.environment.get(name).map(str::to_owned);
        let Ok(expanded) = expand::expand_words(&word.value, escape, &lookup) else { return };
        self.undefined(&expanded.undefined, word, number);
        for port in &expanded.words {
            expose::check(port, word, number, self.reporter);
        }
    }
}
