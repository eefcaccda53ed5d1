//! Random graphs and random edits, against an engine that always runs everything.

use std::collections::HashMap;

use kiln_solver::{Output, StepId};
use proptest::prelude::*;

use crate::fake::{Build, Handle, World};

const CONTEXTS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
struct Recipe {
    kind: u8,
    /// Whether it runs whatever the cache has.
    always: bool,
    inputs: Vec<prop::sample::Index>,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (0..4_u8, prop::bool::weighted(0.1), prop::collection::vec(any::<prop::sample::Index>(), 1..4))
        .prop_map(|(kind, always, inputs)| Recipe { kind, always, inputs })
}

fn build(recipes: &[Recipe]) -> (Build, Vec<Handle>) {
    let mut build = Build::new();
    let mut handles: Vec<Handle> = CONTEXTS.iter().map(|name| build.local(name)).collect();
    handles.push(build.image(1));
    for (number, recipe) in recipes.iter().enumerate() {
        let inputs: Vec<Handle> = recipe.inputs.iter().map(|index| *index.get(&handles)).collect();
        let name = format!("step {number}");
        handles.push(match recipe.kind {
            0 => build.constant(&name, &inputs),
            1 => build.peek(&name, &inputs),
            2 => build.glance(&name, &inputs),
            _ => build.mix(&name, &inputs),
        });
        if recipe.always {
            build.ignore_cache(&name);
        }
    }
    (build, handles)
}

/// Runs everything, in order.
fn run_everything(world: &World, build: &Build, targets: &[Handle]) -> Vec<Vec<Output>> {
    let (graph, ids) = build.graph();
    let mut outputs: HashMap<StepId, Vec<Output>> = HashMap::new();
    for (id, step) in graph.steps() {
        let inputs: Vec<Output> =
            step.inputs.iter().map(|input| outputs[&input.step][input.output as usize].clone()).collect();
        outputs.insert(id, world.result(step, &inputs));
    }
    targets.iter().map(|&target| outputs[&ids[target]].clone()).collect()
}

proptest! {
    // `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_that_of_running_everything(
        recipes in prop::collection::vec(recipe(), 1..14),
        targets in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        edits in prop::collection::vec((0..CONTEXTS.len(), 0..3_u64), 1..6),
    ) {
        let world = World::new(&CONTEXTS.map(|name| (name, 0)));
        let (build, handles) = build(&recipes);
        let targets: Vec<Handle> = targets.iter().map(|index| *index.get(&handles)).collect();
        let mut seen_before: Vec<Vec<u64>> = Vec::new();
        let mut contents = vec![0; CONTEXTS.len()];
        for (context, content) in edits {
            world.edit(CONTEXTS[context], content);
            contents[context] = content;
            let solved = world.solve(&build, &targets).unwrap();
            prop_assert_eq!(solved, run_everything(&world, &build, &targets));
            prop_assert_eq!(world.repeated(), Vec::<String>::new(), "a hit was due");
            let mut ran = world.take_ran();
            let is_always = |name: &String| (0..recipes.len()).any(|at| recipes[at].always && *name == format!("step {at}"));
            ran.retain(|name| !is_always(name));
            if seen_before.contains(&contents) {
                prop_assert!(ran.is_empty(), "ran again with contents seen before: {:?}", ran);
            }
            let runs = ran.len();
            ran.dedup();
            prop_assert_eq!(runs, ran.len(), "a step ran twice in one solve");
            seen_before.push(contents.clone());
        }
    }
}
