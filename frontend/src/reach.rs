//! Which nodes the target needs, and whether what they copy from comes before them.

use kiln_parser::{Diagnostic, Kind, Span};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::findings::Findings;
use crate::nodes::{Item, Plan, Root};

/// For each node, whether any of these needs it, themselves included.
pub(crate) fn reachable(plan: &Plan<'_>, from: &[usize]) -> Vec<bool> {
    let mut seen = vec![false; plan.nodes.len()];
    let mut pending = from.to_vec();
    while let Some(index) = pending.pop() {
        if let (Some(seen), Some(node)) = (seen.get_mut(index), plan.nodes.get(index))
            && !std::mem::replace(seen, true)
        {
            pending.extend(node.dependencies());
        }
    }
    seen
}

/// Every node after those that it needs. Where there is a cycle, which was told, it is cut somewhere.
pub(crate) fn in_order(plan: &Plan<'_>, needed: &[bool]) -> Vec<usize> {
    let mut order = Vec::with_capacity(plan.nodes.len());
    let mut seen = vec![false; plan.nodes.len()];
    // What is behind the stages mostly depends on nothing, and stages depend on it.
    for start in (plan.stages..plan.nodes.len()).chain(0..plan.stages) {
        if needed.get(start) != Some(&true) {
            continue;
        }
        // A node is visited twice: before and after what it needs.
        let mut pending = vec![(start, false)];
        while let Some((index, is_ready)) = pending.pop() {
            if is_ready {
                order.push(index);
            } else if let (Some(seen), Some(node)) = (seen.get_mut(index), plan.nodes.get(index))
                && !std::mem::replace(seen, true)
            {
                pending.push((index, true));
                pending.extend(node.dependencies().map(|dependency| (dependency, false)));
            }
        }
    }
    order
}

/// Stages that need themselves, whether or not the target needs them. Every cycle has an instruction that copies
/// from its own or a later stage, since a `FROM` only sees earlier ones, or a named context that is a stage.
pub(crate) fn check_cycles(plan: &Plan<'_>, findings: &mut Findings) {
    let cycles = Cycles::of(plan);
    for (index, node) in plan.nodes.iter().enumerate() {
        if let Root::Stage(stage) = node.root
            && (index >= plan.stages || stage >= index)
            && cycles.contain(index, stage)
        {
            findings.add(context_cycle(label(plan, stage), node.span));
        }
    }
    for index in 0..plan.stages {
        for (item, position, source) in forward_copies(plan, index) {
            if cycles.contain(index, source) {
                findings.add(cycle(plan, index, source, item, position));
            }
        }
    }
}

/// Which nodes reach each other.
struct Cycles {
    /// By node, which group of those that all reach each other it is in.
    groups: Vec<usize>,
}

impl Cycles {
    fn of(plan: &Plan<'_>) -> Self {
        let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(plan.nodes.len(), plan.nodes.len());
        for _ in &plan.nodes {
            graph.add_node(());
        }
        for (index, node) in plan.nodes.iter().enumerate() {
            for dependency in node.dependencies() {
                graph.add_edge(NodeIndex::new(index), NodeIndex::new(dependency), ());
            }
        }
        let mut groups = vec![0; plan.nodes.len()];
        for (number, group) in kosaraju_scc(&graph).into_iter().enumerate() {
            for node in group {
                if let Some(group) = groups.get_mut(node.index()) {
                    *group = number;
                }
            }
        }
        Self { groups }
    }

    /// Whether a node that needs `source` is needed by it, too.
    fn contain(&self, index: usize, source: usize) -> bool {
        self.groups.get(index) == self.groups.get(source)
    }
}

/// Stages that take files from a later stage, among those that the target needs.
pub(crate) fn check_order(plan: &Plan<'_>, needed: &[bool], findings: &mut Findings) {
    let known = findings.error_spans();
    for index in (0..plan.stages).filter(|&index| needed.get(index) == Some(&true)) {
        for (item, position, source) in forward_copies(plan, index) {
            if !known.contains(&from_span(item, position)) {
                findings.add(later(plan, index, source, item, position));
            }
        }
    }
}

/// The instructions that take files from their own or a later stage, which of their sources that is, and the stage.
fn forward_copies<'p, 'a>(plan: &'p Plan<'a>, index: usize) -> impl Iterator<Item = (&'p Item<'a>, usize, usize)> {
    let items = plan.nodes.get(index).map(|node| node.items.as_slice()).unwrap_or_default();
    let stages = plan.stages;
    let sources = |item: &'p Item<'a>| {
        let numbered = item.sources.iter().enumerate();
        numbered.filter_map(move |(position, source)| Some((item, position, (*source)?)))
    };
    items.iter().flat_map(sources).filter(move |(_, _, source)| (index..stages).contains(source))
}

/// Where this source of an instruction is named.
fn from_span(item: &Item<'_>, position: usize) -> Span {
    let own = match &item.instruction.kind {
        Kind::Copy(copy) | Kind::Add(copy) => copy.from.as_ref().map(|from| from.span),
        Kind::Run(run) => run.mounts.get(position).map(|mount| mount.span),
        _ => None,
    };
    item.trigger_of.or(own).unwrap_or(item.instruction.span)
}

/// What an instruction does with its sources: for `stage a … from b`.
fn verb(item: &Item<'_>) -> &'static str {
    if matches!(item.instruction.kind, Kind::Run(_)) { "mounts files" } else { "copies" }
}

fn label<'p>(plan: &'p Plan<'_>, index: usize) -> &'p str {
    plan.nodes.get(index).map_or("", |node| node.label.as_str())
}

fn cycle(plan: &Plan<'_>, index: usize, source: usize, item: &Item<'_>, position: usize) -> Diagnostic {
    let (stage, verb) = (label(plan, index), verb(item));
    let message = if source == index {
        format!("stage `{stage}` {verb} from itself")
    } else {
        format!("stage `{stage}` {verb} from `{}`, which needs `{stage}` itself", label(plan, source))
    };
    Diagnostic::error(message)
        .at(from_span(item, position))
        .label("closes a cycle of stages")
        .hint("take the files from an earlier stage")
        .code("stage-cycle")
}

fn context_cycle(stage: &str, span: Span) -> Diagnostic {
    Diagnostic::error(format!("a named context stands for the stage `{stage}` here, which needs this itself"))
        .at(span)
        .label("closes a cycle of stages")
        .hint("let the context be a stage that does not need it")
        .code("stage-cycle")
}

fn later(plan: &Plan<'_>, index: usize, source: usize, item: &Item<'_>, position: usize) -> Diagnostic {
    let (stage, source) = (label(plan, index), label(plan, source));
    Diagnostic::error(format!("stage `{stage}` {} from `{source}`, which is defined only after it", verb(item)))
        .at(from_span(item, position))
        .label("a later stage")
        .hint(format!("move `{source}` before `{stage}`"))
        .code("later-stage")
}
