//! The way of lowering, from the outline of a Dockerfile to its graph and image.

use std::sync::Arc;

use kiln_image::spec::{History, Image};
use kiln_parser::{Diagnostic, Dockerfile, Severity};
use kiln_solver::{Graph, IgnoreCache, Input, Operation, Platform, Source};

use crate::contexts::Contexts;
use crate::findings::Findings;
use crate::naming::Naming;
use crate::nodes::{ImageRoot, Node, Plan, Planner, Root};
use crate::scans::{self, Wishes};
use crate::stage::{MAIN_CONTEXT, StageLowering};
use crate::stages::Outline;
use crate::state::{StageState, Tree};
use crate::{BaseImage, Build, Options, Resolver, Targeting, args, reach, resolve, syntax};

/// Lowers a Dockerfile.
///
/// # Errors
/// Everything that is found wrong with it, not just the first thing, in the order of the file.
pub fn lower(dockerfile: &Dockerfile, options: &Options, resolver: &dyn Resolver) -> Result<Build, Vec<Diagnostic>> {
    lower_onto(Graph::new(), dockerfile, options, resolver)
}

/// Lowers a Dockerfile, for one platform of several: its steps come to those of `graph`, with which the equal ones are
/// merged. What pointed into that graph points into the new one.
///
/// # Errors
/// As [`lower`].
pub fn lower_onto(
    graph: Graph,
    dockerfile: &Dockerfile,
    options: &Options,
    resolver: &dyn Resolver,
) -> Result<Build, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let build = try_lower(graph, dockerfile, options, resolver, &mut findings);
    let has_errors = findings.has_errors();
    let mut diagnostics = findings.sorted();
    match build {
        Some(mut build) if !has_errors => {
            build.warnings = diagnostics;
            Ok(build)
        }
        _ => {
            diagnostics.retain(|diagnostic| diagnostic.severity == Severity::Error);
            Err(diagnostics)
        }
    }
}

/// `None` only where there are errors.
fn try_lower(
    graph: Graph,
    dockerfile: &Dockerfile,
    options: &Options,
    resolver: &dyn Resolver,
    findings: &mut Findings,
) -> Option<Build> {
    findings.keep(syntax::check_syntax(&dockerfile.directives, options));
    let outline = Outline::new(dockerfile, findings);
    let last = outline.stages.last()?;
    let target_name = options.target.as_deref().or(last.name.as_deref()).unwrap_or("");
    let automatic = args::automatic(options, target_name);
    findings.extend(args::undeclared(dockerfile, options, &automatic));
    let escape = dockerfile.directives.escape;
    let globals = args::global(&outline.arguments, automatic, &options.build_args, escape, findings);
    let planner = Planner { options, contexts: Contexts::new(options, findings), globals, escape };

    let mut plan = Plan::new(&outline, &planner, findings);
    let target = findings.keep(plan.target(options.target.as_deref()))?;
    reach::check_cycles(&plan, findings);
    check_platforms(&plan, &reach::reachable(&plan, &[target]), findings);
    if findings.has_errors() {
        // What is wrong with the stages themselves says that nothing can be built: no need to go and look for
        // images, but the instructions are looked at all the same.
        forget_images(&mut plan);
    }
    let (uncached, unknown) = plan.uncached(&options.no_cache);
    findings.extend(unknown);
    let needed = resolve::resolve(&mut plan, target, &planner, resolver, findings);
    reach::check_order(&plan, &needed, findings);
    Lowering::new(graph, &plan, &planner, uncached).run(&needed, target, findings)
}

fn forget_images(plan: &mut Plan<'_>) {
    for node in &mut plan.nodes {
        if matches!(node.root, Root::Image(_)) {
            node.root = Root::Broken;
        }
    }
}

/// Only Linux images can be built.
fn check_platforms(plan: &Plan<'_>, needed: &[bool], findings: &mut Findings) {
    let nodes = plan.nodes.iter().zip(needed).filter(|(node, needed)| **needed && node.platform.os != "linux");
    for (node, _) in nodes {
        findings.add(
            Diagnostic::error(format!("images for `{}` cannot be built", node.platform))
                .at(node.span)
                .label(format!("for `{}`", node.platform))
                .hint("kiln builds images for Linux")
                .code("platform"),
        );
    }
}

struct Lowering<'p, 'a> {
    plan: &'p Plan<'a>,
    planner: &'p Planner<'a>,
    graph: Graph,
    /// The files of each node that was lowered.
    trees: Vec<Option<Tree>>,
    /// By node, until the last of its heirs has taken it over.
    states: Vec<Option<StageState>>,
    /// How many nodes still to be lowered begin with a node; the image is an heir of the target.
    heirs: Vec<usize>,
    /// The stages that are not to be taken from the cache.
    uncached: Vec<usize>,
    /// What each stage that was lowered wants to be scanned, with its number.
    wishes: Vec<(usize, Wishes)>,
}

impl<'p, 'a> Lowering<'p, 'a> {
    fn new(graph: Graph, plan: &'p Plan<'a>, planner: &'p Planner<'a>, uncached: Vec<usize>) -> Self {
        let count = plan.nodes.len();
        let (trees, states, heirs) = (vec![None; count], vec![None; count], vec![0; count]);
        Self { plan, planner, graph, trees, states, heirs, uncached, wishes: Vec::new() }
    }

    fn run(mut self, needed: &[bool], target: usize, findings: &mut Findings) -> Option<Build> {
        let is_needed = |index: &usize| needed.get(*index) == Some(&true);
        let order = reach::in_order(self.plan, needed);
        let bases = order.iter().filter_map(|&index| self.plan.nodes.get(index)?.base());
        for base in bases.chain([target]) {
            *self.heirs.get_mut(base)? += 1;
        }
        for index in order {
            let node = self.plan.nodes.get(index)?;
            let state = self.node(index, node, findings);
            if self.planner.options.finds_scans && index < self.plan.stages {
                self.wishes.push((index, Wishes::of(&state, &node.label, &self.planner.globals)));
            }
            *self.trees.get_mut(index)? = Some(state.tree.clone());
            *self.states.get_mut(index)? =
                Some(state).filter(|_| self.heirs.get(index).is_some_and(|&heirs| heirs > 0));
        }
        let stages = (0..self.plan.stages).filter(is_needed);
        let stages = stages.filter_map(|index| Some(self.plan.nodes.get(index)?.label.clone())).collect();
        self.finish(target, stages)
    }

    fn node(&mut self, index: usize, node: &Node<'a>, findings: &mut Findings) -> StageState {
        let base = node.base().and_then(|base| self.inherit(base));
        let is_uncached = self.is_uncached(index);
        let mut stage = StageLowering {
            planner: self.planner,
            graph: &mut self.graph,
            state: StageState::scratch(&node.platform),
            naming: Naming::new(self.plan, node, self.planner.options.targeting),
            stage: (index < self.plan.stages).then(|| node.name.clone().unwrap_or_else(|| index.to_string())),
            written: String::new(),
            is_uncached,
            ignore_cache: is_uncached.then_some(IgnoreCache::Asked),
            has_command: false,
        };
        match &node.root {
            Root::Scratch => {}
            Root::Broken => stage.state.is_base_unknown = true,
            Root::Local(context) => stage.begin_with_local(context, node),
            Root::Image(image) => stage.begin_with_image(image, node, index < self.plan.stages),
            Root::Stage(_) => match base {
                Some(base) => stage.begin_with_stage(base, node),
                None => stage.state.is_base_unknown = true,
            },
        }
        for item in &node.items {
            // What is not there is a later stage, which was told: it must not be taken for the context.
            let tree = |source: usize| self.trees.get(source).and_then(Option::as_ref).unwrap_or(&Tree::Empty);
            let sources: Vec<Option<&Tree>> = item.sources.iter().map(|source| source.map(tree)).collect();
            stage.item(item, &sources, findings);
        }
        stage.state
    }

    fn is_uncached(&self, index: usize) -> bool {
        self.uncached.contains(&index)
    }

    /// The state of a node at its end, for the next of its heirs: copied, but for the last one. So a stage that
    /// begins with a stage that begins with a stage, and so on, does not copy all that came before each time.
    fn inherit(&mut self, base: usize) -> Option<StageState> {
        let heirs = self.heirs.get_mut(base)?;
        *heirs = heirs.saturating_sub(1);
        let state = self.states.get_mut(base)?;
        if *heirs == 0 { state.take() } else { state.clone() }
    }

    /// The target's files and config.
    fn finish(mut self, target: usize, stages: Vec<String>) -> Option<Build> {
        let scans = self.scans(target);
        let mut state = self.inherit(target)?;
        let node = self.plan.nodes.get(target)?;
        if let Tree::Local(context) = &state.tree {
            let context = context.clone();
            state = self.local_target(&context, node, state, self.is_uncached(target));
        }
        let options = self.planner.options;
        let target = match state.tree {
            Tree::Step(input) => Some(input),
            Tree::Empty | Tree::Local(_) => None,
        };
        let mut image = state.image;
        image.config.labels.extend(options.labels.clone());
        set_platform(&mut image, &state.platform, options);
        let proxy_env = args::proxies(&options.build_args);
        Some(Build { graph: self.graph, target, image, warnings: Vec::new(), stages, scans, proxy_env })
    }

    /// What is to be scanned beside the target.
    fn scans(&mut self, target: usize) -> Vec<(String, Input)> {
        let mut wishes = std::mem::take(&mut self.wishes);
        wishes.sort_unstable_by_key(|(stage, _)| *stage);
        let mut scans = Vec::new();
        for (stage, _) in wishes.iter().filter(|(stage, wishes)| wishes.stage && *stage != target) {
            let node = self.plan.nodes.get(*stage);
            if let (Some(node), Some(Some(Tree::Step(input)))) = (node, self.trees.get(*stage)) {
                scans.push((node.label.clone(), *input));
            }
        }
        if wishes.iter().any(|(_, wishes)| wishes.context) {
            scans.push((MAIN_CONTEXT.to_owned(), scans::context_step(&mut self.graph)));
        }
        scans
    }

    /// A target that a directory stands in for: its files become a layer.
    fn local_target(&mut self, context: &str, node: &Node<'a>, state: StageState, is_uncached: bool) -> StageState {
        let mut stage = StageLowering {
            planner: self.planner,
            graph: &mut self.graph,
            state,
            naming: Naming::new(self.plan, node, self.planner.options.targeting),
            stage: Some(node.label.clone()),
            written: String::new(),
            is_uncached,
            ignore_cache: is_uncached.then_some(IgnoreCache::Asked),
            has_command: false,
        };
        stage.take_in_local(context, node);
        stage.state
    }
}

/// An image for a platform that was asked for says so, whatever its base was for.
fn set_platform(image: &mut Image, built_for: &Platform, options: &Options) {
    let own = image.platform();
    let is_asked = options.targeting != Targeting::Default || options.platform != options.build_platform;
    let platform = if is_asked {
        &options.platform
    } else if image.architecture.is_empty() {
        built_for
    } else {
        &own
    };
    image.os.clone_from(&platform.os);
    image.architecture.clone_from(&platform.architecture);
    image.variant.clone_from(&platform.variant);
}

impl StageLowering<'_, '_> {
    /// A directory: only what is copied from is taken as it is, everything else wants layers.
    fn begin_with_local(&mut self, context: &str, node: &Node<'_>) {
        self.state.tree = Tree::Local(context.to_owned());
        if !node.label.is_empty() && !node.is_replaced {
            self.take_in_local(context, node);
        }
    }

    fn take_in_local(&mut self, context: &str, node: &Node<'_>) {
        let name = self.next_name(&format!("FROM {context}"), false);
        self.state.tree = self.copy_of_local(context, name, node.instruction);
        self.state.note_layer(format!("FROM {context}"));
    }

    fn begin_with_stage(&mut self, base: StageState, node: &Node<'_>) {
        self.state = base.inherited();
        if let Tree::Local(context) = &self.state.tree {
            let context = context.clone();
            self.take_in_local(&context, node);
        }
    }

    fn begin_with_image(&mut self, root: &ImageRoot, node: &Node<'_>, is_stage: bool) {
        // A node without an image is not lowered as one: resolving marks it broken.
        let Some(base) = &root.found else { return };
        let tree = if is_empty(&base.image) { Tree::Empty } else { self.image_step(base, root, node, is_stage) };
        self.state = StageState::of_image(base.image.clone(), tree, &node.platform);
    }

    fn image_step(&mut self, base: &Arc<BaseImage>, root: &ImageRoot, node: &Node<'_>, is_stage: bool) -> Tree {
        let shown = match base.reference.contains('@') {
            true => format!("FROM {}", base.reference),
            false => format!("FROM {}@{}", base.reference, base.digest),
        };
        let name = match (&root.context, is_stage) {
            (Some(context), _) => {
                self.naming.skip();
                format!("[context {context}] {}", base.reference)
            }
            (None, true) => self.next_name(&shown, false),
            (None, false) => shown,
        };
        let source = Source::Image { reference: base.reference.clone(), digest: base.digest };
        Tree::Step(self.add_step(Operation::Source(source), Vec::<Input>::new(), name, node.instruction))
    }
}

/// Whether an image has no layers, as `scratch`.
fn is_empty(image: &Image) -> bool {
    let makes_layer = |line: &History| !line.empty_layer;
    image.rootfs.diff_ids.is_empty() && !image.history.iter().any(makes_layer)
}
