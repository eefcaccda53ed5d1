//! Finding the base images: only those that the target needs, each once, all at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_parser::Diagnostic;
use kiln_solver::Platform;

use crate::findings::{Findings, with_causes};
use crate::nodes::{Node, Plan, Planner, Root};
use crate::reach::reachable;
use crate::{BaseImage, Resolver};

/// How many images are looked up at the same time.
const PARALLEL: usize = 32;

/// An image for a platform, as the resolver is asked for it.
type Request = (String, Platform);
type Found = Result<Arc<BaseImage>, String>;

/// Finds the images of everything that the target needs. An image may bring triggers, and those may copy from
/// further stages and images: then there is another round. Yields which nodes are needed.
pub(crate) fn resolve<'a>(
    plan: &mut Plan<'a>,
    target: usize,
    planner: &Planner<'a>,
    resolver: &dyn Resolver,
    findings: &mut Findings,
) -> Vec<bool> {
    let mut found = BTreeMap::new();
    loop {
        let needed = reachable(plan, &[target]);
        let pending: Vec<usize> = (0..plan.nodes.len())
            .filter(|&index| needed.get(index) == Some(&true))
            .filter(|&index| plan.nodes.get(index).is_some_and(|node| request(node).is_some()))
            .collect();
        if pending.is_empty() {
            return needed;
        }
        ask(plan, &pending, resolver, &mut found);
        for index in pending {
            settle(plan, index, planner, &found, findings);
        }
    }
}

/// What has yet to be found for a node.
fn request(node: &Node<'_>) -> Option<Request> {
    match &node.root {
        Root::Image(image) if image.found.is_none() => Some((image.reference.clone(), node.platform.clone())),
        _ => None,
    }
}

fn ask(plan: &Plan<'_>, pending: &[usize], resolver: &dyn Resolver, found: &mut BTreeMap<Request, Found>) {
    let nodes = pending.iter().filter_map(|&index| plan.nodes.get(index));
    let mut requests: Vec<Request> = nodes.filter_map(request).filter(|request| !found.contains_key(request)).collect();
    requests.sort();
    requests.dedup();
    for batch in requests.chunks(PARALLEL) {
        for (request, answer) in batch.iter().zip(ask_batch(batch, resolver)) {
            found.insert(request.clone(), answer);
        }
    }
}

fn ask_batch(batch: &[Request], resolver: &dyn Resolver) -> Vec<Found> {
    let ask = |(reference, platform): &Request| {
        resolver.resolve(reference, platform).map(Arc::new).map_err(|error| with_causes(&*error))
    };
    if let [single] = batch {
        return vec![ask(single)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = batch.iter().map(|request| scope.spawn(move || ask(request))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("looking it up ended in a panic".to_owned())))
            .collect()
    })
}

/// Gives a node its image and the triggers that come with it.
fn settle<'a>(
    plan: &mut Plan<'a>,
    index: usize,
    planner: &Planner<'a>,
    found: &BTreeMap<Request, Found>,
    findings: &mut Findings,
) {
    let Some(answer) = plan.nodes.get(index).and_then(request).and_then(|request| found.get(&request)) else { return };
    match answer {
        Ok(image) => {
            let (image, span) = (Arc::clone(image), plan.nodes.get(index).map(|node| node.span).unwrap_or_default());
            give(plan, index, Arc::clone(&image));
            let brings_triggers = index < plan.stages && plan.nodes.get(index).is_some_and(|node| !node.is_replaced);
            if brings_triggers {
                let texts: Vec<&str> = image.image.config.on_build.iter().map(String::as_str).collect();
                plan.add_triggers(index, &texts, span, planner, findings);
            }
        }
        Err(problem) => {
            findings.extend(plan.nodes.get(index).map(|node| not_found(plan, node, problem)));
            if let Some(node) = plan.nodes.get_mut(index) {
                node.root = Root::Broken;
            }
        }
    }
}

fn give(plan: &mut Plan<'_>, index: usize, found: Arc<BaseImage>) {
    if let Some(Node { root: Root::Image(image), .. }) = plan.nodes.get_mut(index) {
        image.found = Some(found);
    }
}

fn not_found(plan: &Plan<'_>, node: &Node<'_>, problem: &str) -> Diagnostic {
    let Root::Image(image) = &node.root else { return Diagnostic::error(problem).at(node.span) };
    let what = match &image.context {
        Some(context) => format!("the named context `{context}` (`{}`)", image.reference),
        None => format!("the image `{}`", image.reference),
    };
    let error = Diagnostic::error(format!("cannot find {what} for {}: {problem}", node.platform))
        .at(node.span)
        .label("not found")
        .code("image");
    if image.context.is_none() && image.reference.parse().is_ok_and(|number: usize| number < plan.stages) {
        return error.hint("a mount takes stages by name alone: give the stage one with `AS`");
    }
    let stage = if image.context.is_none() { plan.similar_stage(&image.reference) } else { None };
    match stage {
        Some(stage) if stage.eq_ignore_ascii_case(&image.reference) => {
            error.hint(format!("the stage `{stage}` begins only further down; `FROM` sees earlier stages"))
        }
        Some(stage) => error.hint(format!("there is a stage `{stage}`")),
        None => error,
    }
}
