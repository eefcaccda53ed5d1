//! What stages begin with, and the rules about it.

use kiln_image::Reference;
use kiln_parser::{ArgDeclaration, Diagnostic, Instruction, Kind, Span, Word};
use kiln_solver::Platform;

use super::Subject;
use super::file::{File, Stage};
use super::reporter::Reporter;
use super::rules::{
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM, INVALID_DEFAULT_ARG_IN_FROM, LATEST_TAG,
    REDUNDANT_TARGET_PLATFORM, UNDEFINED_ARG_IN_FROM,
};
use super::scope::{Use, expand_word, near, variable_span};
use crate::contexts::Contexts;
use crate::environment::Environment;
use crate::findings::Findings;
use crate::triggers;
use crate::{BaseImage, NamedContext, args, csv, mounts};

/// What every stage begins with, and which stages are looked into.
pub(crate) struct Plan {
    /// The global arguments.
    pub(crate) globals: Environment,
    pub(crate) stages: Vec<Planned>,
    /// Which stage is built.
    pub(crate) target: usize,
}

/// What a stage begins with.
pub(crate) struct Planned {
    pub(crate) base: Base,
    pub(crate) platform: Platform,
    /// The image's name after expansion.
    pub(crate) name: String,
    /// Whether a named context stands in for all of the stage.
    pub(crate) is_replaced: bool,
    /// Whether it is looked into.
    pub(crate) is_needed: bool,
    /// The `ONBUILD` triggers that its base brings: they come before its own instructions.
    pub(crate) triggers: Vec<Trigger>,
}

/// A trigger as written, and what it says. One that says nothing valid is told by lowering.
pub(crate) struct Trigger {
    pub(crate) text: String,
    pub(crate) instruction: Instruction,
}

/// What a stage begins with.
pub(crate) enum Base {
    /// No files, or a directory: nothing is defined.
    Empty,
    /// An earlier stage.
    Stage(usize),
    /// An image that was looked up.
    Image(Box<BaseImage>),
    /// An image that nothing is known about.
    Unknown,
}

impl Plan {
    pub(crate) fn new(subject: &Subject<'_>, file: &File<'_>) -> Self {
        let options = subject.options;
        let last = file.stages.len().saturating_sub(1);
        let target = options.target.as_deref().and_then(|name| file.source(name)).unwrap_or(last);
        let name = options.target.as_deref().or_else(|| file.stages.last()?.name.as_deref()).unwrap_or("");
        let automatic = args::automatic(options, name);
        let globals = globals(subject, file, automatic, false);
        let contexts = Contexts::new(options, &mut Findings::default());
        let mut plan = Self { globals, stages: Vec::with_capacity(file.stages.len()), target };
        for (number, stage) in file.stages.iter().enumerate() {
            let planned = plan.stage(subject, file, &contexts, number, stage);
            plan.stages.push(planned);
        }
        plan.mark_needed(subject, file);
        plan
    }

    fn stage(
        &self,
        subject: &Subject<'_>,
        file: &File<'_>,
        contexts: &Contexts<'_>,
        number: usize,
        stage: &Stage<'_>,
    ) -> Planned {
        let escape = subject.dockerfile.directives.escape;
        let expand = |word: &Word| expand_word(&word.value, escape, &self.globals).map(|used| used.value);
        let wanted = stage.from.platform.as_ref().and_then(|word| expand(word)?.parse().ok());
        let platform: Platform = wanted.unwrap_or_else(|| subject.options.platform.clone());
        let name = expand(&stage.from.image).unwrap_or_default();
        let replacement = stage.name.as_ref().and_then(|name| contexts.find(name, &platform));
        let is_replaced = replacement.is_some();
        let known = |reference: &str| match subject.bases.get(reference, &platform) {
            Some(image) => Base::Image(Box::new(image)),
            None => Base::Unknown,
        };
        let of_context = |context: &NamedContext| match context {
            NamedContext::Local => Base::Empty,
            NamedContext::Image(reference) => known(reference.strip_prefix("docker-image://").unwrap_or(reference)),
            #[allow(unreachable_patterns, reason = "contexts may come in more kinds, which say nothing of a base")]
            _ => Base::Unknown,
        };
        let base = if let Some(replacement) = replacement {
            of_context(replacement.context)
        } else if name == "scratch" {
            Base::Empty
        } else if let Some(earlier) = file.stage(&name, number) {
            Base::Stage(earlier)
        } else if let Some(replacement) = contexts.find(&name, &platform) {
            of_context(replacement.context)
        } else {
            known(&name)
        };
        let triggers = if is_replaced { Vec::new() } else { self.triggers(file, &base, stage.from.image.span) };
        Planned { base, platform, name, is_replaced, is_needed: subject.all_stages, triggers }
    }

    fn triggers(&self, file: &File<'_>, base: &Base, from: Span) -> Vec<Trigger> {
        let texts: Vec<&str> = match base {
            Base::Image(base) => base.image.config.on_build.iter().map(String::as_str).collect(),
            Base::Stage(number) if self.stages.get(*number).is_some_and(|base| !base.is_replaced) => {
                let body = file.stages.get(*number).into_iter().flat_map(|stage| file.body(stage));
                body.filter_map(|(_, instruction)| triggers::text(instruction)).collect()
            }
            _ => Vec::new(),
        };
        let parse = |text: &str| {
            let instruction = triggers::parse(text, from).ok()?;
            Some(Trigger { text: text.to_owned(), instruction })
        };
        texts.into_iter().filter_map(parse).collect()
    }

    /// Marks the stages that the target needs.
    fn mark_needed(&mut self, subject: &Subject<'_>, file: &File<'_>) {
        let mut pending = vec![self.target];
        if subject.all_stages {
            return;
        }
        while let Some(number) = pending.pop() {
            let (Some(planned), Some(stage)) = (self.stages.get_mut(number), file.stages.get(number)) else { continue };
            if std::mem::replace(&mut planned.is_needed, true) {
                continue;
            }
            if let Base::Stage(base) = planned.base {
                pending.push(base);
            }
            if !planned.is_replaced {
                pending.extend(sources(file, stage, &planned.triggers));
            }
        }
    }

    /// Which stages a stage needs, its base and what it copies from.
    pub(crate) fn dependencies(&self, file: &File<'_>, number: usize) -> Vec<usize> {
        let (Some(planned), Some(stage)) = (self.stages.get(number), file.stages.get(number)) else {
            return Vec::new();
        };
        let base = match planned.base {
            Base::Stage(base) => Some(base),
            _ => None,
        };
        let copied: Vec<usize> = if planned.is_replaced { Vec::new() } else { sources(file, stage, &planned.triggers) };
        base.into_iter().chain(copied).collect()
    }
}

/// The stages that a stage copies from or mounts.
fn sources(file: &File<'_>, stage: &Stage<'_>, triggers: &[Trigger]) -> Vec<usize> {
    let own = file.body(stage).map(|(_, instruction)| instruction);
    let stages = triggers.iter().map(|trigger| &trigger.instruction).chain(own).flat_map(|instruction| {
        let stages: Vec<usize> = match &instruction.kind {
            Kind::Copy(copy) | Kind::Add(copy) => {
                copy.from.iter().filter_map(|from| file.source(&from.value)).collect()
            }
            Kind::Run(run) => {
                let names = run.mounts.iter().filter_map(|mount| mounts::from_of(&mount.value));
                names.filter_map(|name| file.stage(&name, file.stages.len())).collect()
            }
            _ => Vec::new(),
        };
        stages
    });
    stages.collect()
}

/// The value of an option of a `--mount`.
pub(crate) fn mount_option(mount: &str, name: &str) -> Option<String> {
    csv::fields(mount).ok()?.iter().rev().find_map(|option| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// The automatic arguments and the global ones; as if there were no `--build-arg` where only `defaults` count.
fn globals(subject: &Subject<'_>, file: &File<'_>, automatic: Environment, defaults: bool) -> Environment {
    let declarations: Vec<&ArgDeclaration> = file.globals.iter().map(|(_, declaration)| *declaration).collect();
    let none = std::collections::BTreeMap::new();
    let given = if defaults { &none } else { &subject.options.build_args };
    let escape = subject.dockerfile.directives.escape;
    args::global(&declarations, automatic, given, escape, &mut Findings::default())
}

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, plan: &Plan, reporter: &mut Reporter) {
    let automatic = args::automatic(subject.options, "");
    let defaults = globals(subject, file, automatic, true);
    let escape = subject.dockerfile.directives.escape;
    for (stage, planned) in file.stages.iter().zip(&plan.stages) {
        let mut checks = FromChecks { subject, file, plan, stage, planned, reporter };
        checks.default_image(&defaults);
        if let Some(used) = expand_word(&stage.from.image.value, escape, &plan.globals) {
            checks.undeclared(&stage.from.image, &used);
        }
        if let Some(word) = &stage.from.platform
            && let Some(used) = expand_word(&word.value, escape, &plan.globals)
        {
            checks.undeclared(word, &used);
            checks.redundant_platform(word, &used);
            checks.constant_platform(word, &used);
        }
        if planned.is_needed {
            checks.base_platform();
        }
        checks.latest();
    }
}

struct FromChecks<'c, 'a> {
    subject: &'c Subject<'a>,
    file: &'c File<'a>,
    plan: &'c Plan,
    stage: &'c Stage<'a>,
    planned: &'c Planned,
    reporter: &'c mut Reporter,
}

impl FromChecks<'_, '_> {
    fn add(&mut self, rule: &'static str, finding: Diagnostic) {
        self.reporter.add(rule, self.stage.instruction, finding);
    }

    fn undeclared(&mut self, word: &Word, used: &Use) {
        if used.undefined.is_empty() {
            return;
        }
        let declared = self.file.globals.iter().map(|(_, declaration)| declaration.name.value.as_str());
        let known: Vec<&str> = self.plan.globals.names().chain(declared).collect();
        for name in used.undefined.iter().filter(|name| !known.contains(&name.as_str())) {
            let span = variable_span(self.subject.text, word, name);
            let near = near(name, known.iter().copied());
            let suggestion = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let finding = Diagnostic::warning(format!("`FROM` uses the undeclared argument `{name}`{suggestion}"));
            let hint = match near {
                Some(near) => format!("write `${near}`, or declare `{name}` before the first `FROM`"),
                None => format!("declare it with `ARG {name}=…` before the first `FROM`"),
            };
            self.add(UNDEFINED_ARG_IN_FROM, finding.at(span).hint(hint));
        }
    }

    /// Without a variable in it, a wrong name is wrong in every build, and an error.
    fn default_image(&mut self, defaults: &Environment) {
        let word = &self.stage.from.image;
        let escape = self.subject.dockerfile.directives.escape;
        let Some(used) = expand_word(&word.value, escape, defaults).filter(|_| word.value.contains('$')) else {
            return;
        };
        if Reference::parse(&used.value).is_ok() {
            return;
        }
        let what = match used.value.as_str() {
            "" => "no image's name".to_owned(),
            other => format!("`{other}`, which is no image's name"),
        };
        let finding = Diagnostic::warning(format!("with the defaults of its arguments, `{}` gives {what}", word.value))
            .at(word.span)
            .hint("give the argument before the first `FROM` a default that makes a valid name");
        self.add(INVALID_DEFAULT_ARG_IN_FROM, finding);
    }

    fn redundant_platform(&mut self, word: &Word, used: &Use) {
        let is_alone = used.found.len() == 1 && used.undefined.is_empty() && used.found.contains("TARGETPLATFORM");
        if is_alone && self.plan.globals.get("TARGETPLATFORM") == Some(used.value.as_str()) {
            let message = format!("`--platform={}` is what `FROM` takes anyway", word.value);
            let finding = Diagnostic::warning(message).at(word.span).hint("leave `--platform` out");
            self.add(REDUNDANT_TARGET_PLATFORM, finding);
        }
    }

    fn constant_platform(&mut self, word: &Word, used: &Use) {
        if !used.found.is_empty() || word.value.contains('$') {
            return;
        }
        let Ok(platform) = used.value.parse::<Platform>() else { return };
        let name = self.stage.name.as_deref().unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            return;
        }
        let finding =
            Diagnostic::warning(format!("`FROM --platform` is the constant `{}`", used.value)).at(word.span).hint(
                "leave it out and build with `--platform`, use `$BUILDPLATFORM`, or name the stage after the platform",
            );
        self.add(FROM_PLATFORM_FLAG_CONST_DISALLOWED, finding);
    }

    fn base_platform(&mut self) {
        let Base::Image(base) = &self.planned.base else { return };
        if self.planned.is_replaced || base.image.architecture.is_empty() {
            return;
        }
        let (wanted, actual) = (&self.planned.platform, base.image.platform());
        if wanted.os != actual.os || wanted.architecture != actual.architecture {
            let message =
                format!("the base image `{}` is for `{actual}`, and `{wanted}` is built for", self.planned.name);
            let finding = Diagnostic::warning(message).at(self.stage.from.image.span);
            let hint = format!("name an image that is there for `{wanted}`, or build with `--platform={actual}`");
            self.add(INVALID_BASE_IMAGE_PLATFORM, finding.hint(hint));
        }
    }

    fn latest(&mut self) {
        let name = self.planned.name.as_str();
        if self.planned.is_replaced || matches!(self.planned.base, Base::Empty | Base::Stage(_)) {
            return;
        }
        let Ok(reference) = Reference::parse(name) else { return };
        if reference.digest.is_some() || reference.tag.as_deref() != Some("latest") {
            return;
        }
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        let span: Span = self.stage.from.image.span;
        let finding = Diagnostic::warning(format!("the base image `{name}` is whatever `latest` is at the time"))
            .at(span)
            .hint(format!("name the version that you mean: `FROM {plain}:<version>`"));
        self.add(LATEST_TAG, finding);
    }
}
