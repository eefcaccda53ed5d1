//! The stages and the images that instructions copy from, as nodes that depend on each other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kiln_image::Reference;
use kiln_parser::{Diagnostic, Instruction, Kind, Span, Word};
use kiln_solver::Platform;

use crate::contexts::{Contexts, Replacement};
use crate::environment::Environment;
use crate::findings::{Findings, error_at, similar};
use crate::stages::{Outline, Stage};
use crate::{BaseImage, NamedContext, NoCache, Options};
use crate::{mounts, triggers};

/// What everything is planned with.
pub(crate) struct Planner<'a> {
    pub(crate) options: &'a Options,
    pub(crate) contexts: Contexts<'a>,
    pub(crate) globals: Environment,
    pub(crate) escape: char,
}

/// Every stage, at its number, and behind them the images and contexts that a `COPY --from` names directly.
pub(crate) struct Plan<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    /// How many of the nodes are stages.
    pub(crate) stages: usize,
    by_name: HashMap<String, usize>,
    /// The same, with the stages that are still to come: named contexts see them all.
    all_names: HashMap<String, usize>,
    /// The nodes behind the stages, by what `--from` says.
    by_reference: HashMap<String, usize>,
}

/// A stage, or something that is only copied from.
pub(crate) struct Node<'a> {
    /// Its name, where it has one.
    pub(crate) name: Option<String>,
    /// The name that people see of a stage: its own, or `stage-N`.
    pub(crate) label: String,
    /// Where its base is named.
    pub(crate) span: Span,
    /// The instruction that names it.
    pub(crate) instruction: Span,
    pub(crate) root: Root,
    /// What `FROM --platform` says, or else the platform of the build.
    pub(crate) platform: Platform,
    /// Whether a named context stands in for the whole stage, instructions included.
    pub(crate) is_replaced: bool,
    pub(crate) items: Vec<Item<'a>>,
}

/// What a node begins with.
pub(crate) enum Root {
    /// No files.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A directory, by the name of its context.
    Local(String),
    /// An image.
    Image(ImageRoot),
    /// Something that is wrong and was told.
    Broken,
}

/// An image that has to be found.
pub(crate) struct ImageRoot {
    /// What the resolver is asked for.
    pub(crate) reference: String,
    /// The named context that asks for it instead of the Dockerfile.
    pub(crate) context: Option<String>,
    /// The image, once it was found.
    pub(crate) found: Option<Arc<BaseImage>>,
}

/// One instruction of a node.
pub(crate) struct Item<'a> {
    pub(crate) instruction: Cow<'a, Instruction>,
    /// The nodes that it takes files from: that of the one `--from` of a `COPY`, and of each `--mount` of a `RUN`,
    /// where there are any.
    pub(crate) sources: Vec<Option<usize>>,
    /// Where the `FROM` stands that brought it, if it is an `ONBUILD` trigger.
    pub(crate) trigger_of: Option<Span>,
}

impl Node<'_> {
    /// The node that it begins with.
    pub(crate) fn base(&self) -> Option<usize> {
        match self.root {
            Root::Stage(index) => Some(index),
            _ => None,
        }
    }

    /// The nodes that have to be there first.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = usize> {
        self.base().into_iter().chain(self.items.iter().flat_map(|item| item.sources.iter().copied().flatten()))
    }
}

impl<'a> Plan<'a> {
    pub(crate) fn new(outline: &Outline<'a>, planner: &Planner<'a>, findings: &mut Findings) -> Self {
        let mut plan = Self {
            nodes: Vec::with_capacity(outline.stages.len()),
            stages: outline.stages.len(),
            by_name: HashMap::new(),
            all_names: outline.names(),
            by_reference: HashMap::new(),
        };
        for (index, stage) in outline.stages.iter().enumerate() {
            let node = plan.stage(index, stage, planner, findings);
            plan.nodes.push(node);
            if let Some(name) = &stage.name {
                plan.by_name.insert(name.clone(), index);
            }
        }
        plan.add_instructions(outline, planner, findings);
        plan
    }

    fn stage(&self, index: usize, stage: &Stage<'a>, planner: &Planner<'a>, findings: &mut Findings) -> Node<'a> {
        let platform = findings.keep(planner.stage_platform(stage));
        let is_broken = platform.is_none();
        let platform = platform.unwrap_or_else(|| planner.options.platform.clone());
        let replacement = stage.name.as_ref().and_then(|name| planner.contexts.find(name, &platform));
        let root = match &replacement {
            Some(replacement) => findings.keep(self.replaced(replacement)),
            None => findings.keep(self.stage_root(stage, &platform, planner)),
        };
        // `FROM --platform` chooses an image; from nothing there is nothing to choose.
        let platform = match &root {
            Some(Root::Scratch) => planner.options.platform.clone(),
            _ => platform,
        };
        Node {
            label: stage.name.clone().unwrap_or_else(|| format!("stage-{index}")),
            name: stage.name.clone(),
            span: stage.from.image.span,
            instruction: stage.span,
            root: root.filter(|_| !is_broken).unwrap_or(Root::Broken),
            platform,
            is_replaced: replacement.is_some(),
            items: Vec::new(),
        }
    }

    fn stage_root(&self, stage: &Stage<'a>, platform: &Platform, planner: &Planner<'a>) -> Result<Root, Diagnostic> {
        let base = planner.expand_global(&stage.from.image)?;
        if base.is_empty() {
            return Err(empty_base(&stage.from.image));
        }
        if base == "scratch" {
            return Ok(Root::Scratch);
        }
        match self.by_name.get(&base.to_lowercase()) {
            Some(&earlier) => Ok(Root::Stage(earlier)),
            None => self.image_root(&base, &stage.from.image, platform, planner),
        }
    }

    /// The instructions of the stages, once every stage has its name: a `COPY --from` may name a later one, which
    /// is an error of its own.
    fn add_instructions(&mut self, outline: &Outline<'a>, planner: &Planner<'a>, findings: &mut Findings) {
        for (index, stage) in outline.stages.iter().enumerate() {
            if self.nodes.get(index).is_none_or(|node| node.is_replaced) {
                continue;
            }
            if let Some(base) = self.base_with_triggers(index) {
                let texts = outline.stages.get(base).map(triggers::of_stage).unwrap_or_default();
                self.add_triggers(index, &texts, stage.span, planner, findings);
            }
            for instruction in &stage.instructions {
                let item = self.item(Cow::Borrowed(*instruction), None, planner, findings);
                self.push_item(index, item);
            }
        }
    }

    /// The stage whose triggers a stage gets: the one that it begins with, or the one that a named context puts in
    /// that one's place.
    fn base_with_triggers(&self, index: usize) -> Option<usize> {
        let mut index = index;
        // More steps than there are stages are a cycle, which is told elsewhere.
        for _ in 0..=self.nodes.len() {
            let Root::Stage(base) = self.nodes.get(index)?.root else { return None };
            if !self.nodes.get(base)?.is_replaced {
                return Some(base);
            }
            index = base;
        }
        None
    }

    fn push_item(&mut self, index: usize, item: Item<'a>) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.items.push(item);
        }
    }

    /// Puts `ONBUILD` triggers before the instructions of a stage whose `FROM` stands at `span`.
    pub(crate) fn add_triggers(
        &mut self,
        index: usize,
        texts: &[&str],
        span: Span,
        planner: &Planner<'a>,
        findings: &mut Findings,
    ) {
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            if let Some(instruction) = findings.keep(triggers::parse(text, span)) {
                items.push(self.item(Cow::Owned(instruction), Some(span), planner, findings));
            }
        }
        if let Some(node) = self.nodes.get_mut(index) {
            items.append(&mut node.items);
            node.items = items;
        }
    }

    fn item(
        &mut self,
        instruction: Cow<'a, Instruction>,
        trigger_of: Option<Span>,
        planner: &Planner<'a>,
        findings: &mut Findings,
    ) -> Item<'a> {
        let at = |word: &Word| Word { value: word.value.clone(), span: trigger_of.unwrap_or(word.span) };
        let sources = match &instruction.kind {
            Kind::Copy(copy) | Kind::Add(copy) => {
                let from = copy.from.as_ref().filter(|from| !from.value.is_empty());
                vec![from.and_then(|from| findings.keep(self.source(&at(from), planner)))]
            }
            Kind::Run(run) => run
                .mounts
                .iter()
                .map(|mount| {
                    let from = Word { value: mounts::from_of(&mount.value)?, ..at(mount) };
                    findings.keep(self.named_source(&from, planner))
                })
                .collect(),
            _ => Vec::new(),
        };
        Item { instruction, sources, trigger_of }
    }

    /// An image, or the named context that stands in for it.
    fn image_root(
        &self,
        reference: &str,
        word: &Word,
        platform: &Platform,
        planner: &Planner<'a>,
    ) -> Result<Root, Diagnostic> {
        if let Some(replacement) = planner.contexts.find(reference, platform) {
            return self.replaced(&replacement);
        }
        Reference::parse(reference).map_err(|error| error_at(word, "reference", error.to_string()))?;
        Ok(Root::Image(ImageRoot { reference: reference.to_owned(), context: None, found: None }))
    }

    fn replaced(&self, replacement: &Replacement<'_>) -> Result<Root, Diagnostic> {
        let key = replacement.key;
        match replacement.context {
            NamedContext::Local => Ok(Root::Local(key.to_owned())),
            NamedContext::Image(reference) => Ok(Root::Image(ImageRoot {
                reference: reference.strip_prefix("docker-image://").unwrap_or(reference).to_owned(),
                context: Some(key.to_owned()),
                found: None,
            })),
            NamedContext::Stage(name) => {
                let by_name = self.all_names.get(&name.to_lowercase()).copied();
                let stage = by_name.or_else(|| self.stage_by_number(name.parse().ok()?));
                stage.map(Root::Stage).ok_or_else(|| unknown_context_stage(key, name, &self.all_names))
            }
        }
    }

    /// The node that `--from` names: a stage by number or name, or else an image or a named context.
    fn source(&mut self, from: &Word, planner: &Planner<'a>) -> Result<usize, Diagnostic> {
        check_is_literal(from, planner.escape)?;
        if let Ok(number) = from.value.parse::<i64>() {
            return self.stage_by_number(number).ok_or_else(|| self.bad_number(from));
        }
        self.named_source(from, planner)
    }

    /// The node of a name: a stage, or else an image or a named context. A mount takes no numbers.
    fn named_source(&mut self, from: &Word, planner: &Planner<'a>) -> Result<usize, Diagnostic> {
        if let Some(&stage) = self.by_name.get(&from.value.to_lowercase()) {
            return Ok(stage);
        }
        if let Some(&known) = self.by_reference.get(&from.value) {
            return Ok(known);
        }
        let platform = planner.options.platform.clone();
        let root = match from.value.as_str() {
            "scratch" => Root::Scratch,
            reference => self.image_root(reference, from, &platform, planner)?,
        };
        let (name, label, items) = (None, String::new(), Vec::new());
        let span = from.span;
        self.nodes.push(Node { name, label, span, instruction: span, root, platform, is_replaced: false, items });
        let index = self.nodes.len() - 1;
        self.by_reference.insert(from.value.clone(), index);
        Ok(index)
    }

    fn stage_by_number(&self, number: i64) -> Option<usize> {
        usize::try_from(number).ok().filter(|&number| number < self.stages)
    }

    fn bad_number(&self, from: &Word) -> Diagnostic {
        let stages = self.stages;
        let hint = if stages == 1 {
            "the only stage is number 0".to_owned()
        } else {
            format!("stages are numbered from 0 to {}", stages.saturating_sub(1))
        };
        error_at(from, "unknown-stage", format!("there is no stage number `{}`", from.value))
            .label("no such stage")
            .hint(hint)
    }

    /// The stage to build.
    pub(crate) fn target(&self, wanted: Option<&str>) -> Result<usize, Diagnostic> {
        let last = self.stages.saturating_sub(1);
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(last) };
        self.find_stage(wanted).ok_or_else(|| {
            Diagnostic::error(format!("target stage `{wanted}` does not exist"))
                .hint(self.hint_of_stages(wanted))
                .code("unknown-target")
        })
    }

    /// A stage by its name in any case, or by its number.
    fn find_stage(&self, wanted: &str) -> Option<usize> {
        let by_number = || wanted.parse().ok().and_then(|number| self.stage_by_number(number));
        self.by_name.get(&wanted.to_lowercase()).copied().or_else(by_number)
    }

    /// The stages whose steps run even where a cache entry fits, and a warning for each name that is none's.
    pub(crate) fn uncached(&self, asked: &NoCache) -> (Vec<usize>, Vec<Diagnostic>) {
        let names = match asked {
            NoCache::Never => &[][..],
            NoCache::All => return ((0..self.stages).collect(), Vec::new()),
            NoCache::Stages(names) => names,
        };
        let unknown = names.iter().filter(|name| self.find_stage(name).is_none()).map(|name| {
            Diagnostic::warning(format!("`--no-cache-filter` names the stage `{name}`, which does not exist"))
                .hint(self.hint_of_stages(name))
                .code("unknown-stage")
        });
        (names.iter().filter_map(|name| self.find_stage(name)).collect(), unknown.collect())
    }

    /// Which stage was probably meant, and which there are.
    fn hint_of_stages(&self, wanted: &str) -> String {
        let labels: Vec<&str> = self.nodes.iter().take(self.stages).map(|node| node.label.as_str()).collect();
        let list = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        match similar(wanted, labels.iter().copied()) {
            Some(label) => format!("did you mean `{label}`? The stages are {list}"),
            None => format!("the stages are {list}"),
        }
    }

    /// A stage that this name, which was taken for an image's, may have been meant to be.
    pub(crate) fn similar_stage(&self, name: &str) -> Option<&str> {
        let names = self.nodes.iter().take(self.stages).filter_map(|node| node.name.as_deref());
        similar(name, names)
    }
}

impl<'a> Planner<'a> {
    /// A word of a `FROM`, where only global arguments are in scope.
    fn expand_global(&self, word: &Word) -> Result<String, Diagnostic> {
        self.globals.expand(&word.value, self.escape).map_err(|error| error_at(word, "expansion", error.to_string()))
    }

    fn stage_platform(&self, stage: &Stage<'a>) -> Result<Platform, Diagnostic> {
        let Some(word) = &stage.from.platform else { return Ok(self.options.platform.clone()) };
        let text = self.expand_global(word)?;
        if text.is_empty() {
            return Err(empty_platform(word));
        }
        text.parse().map_err(|error: kiln_solver::ParsePlatformError| {
            error_at(word, "platform", error.to_string()).label("not a platform")
        })
    }
}

fn unknown_context_stage(key: &str, name: &str, names: &HashMap<String, usize>) -> Diagnostic {
    let error = Diagnostic::error(format!("the named context `{key}` is the stage `{name}`, which does not exist"));
    let mut known: Vec<&str> = names.keys().map(String::as_str).collect();
    known.sort_unstable();
    match similar(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `target:{near}`?")),
        None => error.hint(format!("the stages with names are `{}`", known.join("`, `"))),
    }
    .code("unknown-target")
}

fn empty_base(word: &Word) -> Diagnostic {
    error_at(word, "empty-base", format!("the base image `{}` is empty once its variables are replaced", word.value))
        .label("empty")
        .hint("only arguments declared before the first `FROM` have a value here; give them a default or `--build-arg`")
}

fn empty_platform(word: &Word) -> Diagnostic {
    error_at(word, "platform", format!("the platform `{}` is empty once its variables are replaced", word.value))
        .label("empty")
        .hint("only arguments declared before the first `FROM` have a value here")
}

/// `--from` takes no variables.
fn check_is_literal(from: &Word, escape: char) -> Result<(), Diagnostic> {
    let expanded = Environment::default().expand(&from.value, escape);
    if expanded.as_deref() == Ok(from.value.as_str()) {
        return Ok(());
    }
    Err(error_at(from, "from-expansion", "variables and quotes are not supported in `--from`")
        .label("not a plain name")
        .hint("define a stage with `FROM` and an argument declared before the first `FROM`, and copy from that stage"))
}
