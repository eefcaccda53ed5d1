//! What a step that runs `true` costs over the bare command, and which part of it what takes.
//!
//! The parts are differences: a sandbox whose root cannot be mounted has made its namespaces, one whose program is not
//! there has mounted everything. All are measured in turns, so that what else the machine does hits them alike.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kiln_cache::{Store, Whiteouts};
use kiln_executor::{BoxError, Executor, ImageLayers, Settings};
use kiln_solver::{
    Cancel, Digest, Exec, Graph, Input, Layer, Observer, Operation, Origin, Output, Source, Step, StepId, solve,
};

use crate::steps::{copy, shell};
use crate::world::World;

/// How often each is measured.
const ROUNDS: usize = 60;
/// How many steps are solved at once, one on top of the other.
const CHAIN: usize = 20;

pub fn run(world: &World) {
    for depth in [1, 10, 60] {
        Bench::new(world, depth).run();
    }
}

struct Bench<'a> {
    world: &'a World,
    store: Arc<Store>,
    executor: Executor,
    layers: Vec<Layer>,
}

struct Images(Vec<Layer>);

impl ImageLayers for Images {
    fn stack(&self, _: &Digest) -> Result<Vec<Layer>, BoxError> {
        Ok(self.0.clone())
    }

    fn ensure(&self, _: &[Layer], _: &Cancel) -> Result<(), BoxError> {
        Ok(())
    }
}

struct Nobody;

impl Observer for Nobody {}

/// The times of one kind, one for each round.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn take<T>(&mut self, count: u32, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push(start.elapsed() / count);
        result
    }

    /// The median and the least, in milliseconds.
    fn sum_up(mut self) -> [f64; 2] {
        self.0.sort();
        [self.0[self.0.len() / 2], self.0[0]].map(|time| time.as_secs_f64() * 1e3)
    }
}

impl<'a> Bench<'a> {
    fn new(world: &'a World, depth: usize) -> Self {
        let whiteouts = if world.identity.in_user_namespace() { Whiteouts::User } else { Whiteouts::Trusted };
        let store = Arc::new(Store::open(&world.directory(), whiteouts).unwrap());
        let layers: Vec<Layer> = (0..depth)
            .map(|number| {
                let draft = store.begin_layer().unwrap();
                if number == 0 {
                    copy(&world.base, draft.files());
                }
                fs::write(draft.files().join(format!("layer{number}")), "x").unwrap();
                let diff_id = *draft.commit(SystemTime::now()).unwrap().diff_id();
                Layer { diff_id, origin: Origin::Image }
            })
            .collect();
        let executor = Executor::new(Settings {
            store: store.clone(),
            contexts: BTreeMap::new(),
            images: Arc::new(Images(layers.clone())),
            sandbox: Arc::new(World::sandbox(&world.identity, &world.directory())),
            created: None,
        });
        Self { world, store, executor, layers }
    }

    fn run(&self) {
        let mut times: [Times; 6] = Default::default();
        self.solve(0);
        for round in 1..=ROUNDS {
            let [bare, namespaces, mounts, sandbox, commit, whole] = &mut times;
            let program = self.world.base.join("bin/true");
            bare.take(1, || Command::new(program).env_clear().status()).unwrap();
            let mut no_root = self.spec("/bin/true");
            no_root.root.lowers.insert(0, "/no/such/layer".into());
            let run = |spec| self.world.sandbox.run(&spec, &|_, _| {}, &Cancel::new());
            namespaces.take(1, || run(no_root)).unwrap_err();
            let no_program = self.spec("/no/such/program");
            mounts.take(1, || run(no_program)).unwrap_err();
            let command = self.spec("/bin/true");
            sandbox.take(1, || run(command)).unwrap();
            commit.take(1, || self.store.begin_layer().unwrap().commit(SystemTime::now())).unwrap();
            whole.take(CHAIN as u32, || self.solve(round));
        }
        self.print(times.map(Times::sum_up));
    }

    fn spec(&self, program: &str) -> kiln_executor::sandbox::RunSpec {
        let mut spec = self.world.command(&[program]);
        let stored = |layer: &Layer| self.store.layer(&layer.diff_id).unwrap().unwrap().mount_source().to_owned();
        spec.root.lowers = self.layers.iter().map(stored).collect();
        spec
    }

    /// Runs a chain of steps that nobody has run before.
    fn solve(&self, round: usize) {
        let mut graph = Graph::new();
        let image = Source::Image { reference: "base".to_owned(), digest: Digest::of(b"base") };
        let mut top: StepId = graph.add(Step::new(Operation::Source(image), "base"));
        for number in 0..CHAIN {
            let variable = format!("STEP={round}.{number}");
            let exec = Exec { args: vec!["/bin/true".to_owned()], env: vec![variable], ..shell("") };
            let mut step = Step::new(Operation::Exec(exec), "true");
            step.inputs = vec![Input { step: top, output: 0 }];
            top = graph.add(step);
        }
        let outputs = solve(&graph, &[top], &self.executor, &*self.store, &Nobody, &Cancel::new()).unwrap();
        assert!(matches!(&outputs[0][0], Output::Layers(layers) if layers.len() == self.layers.len() + CHAIN));
    }

    fn print(&self, [bare, namespaces, mounts, sandbox, commit, whole]: [[f64; 2]; 6]) {
        let line = |name: &str, times: [f64; 2]| println!("  {name:<52} {:6.2} ms  ({:.2})", times[0], times[1]);
        let less = |a: [f64; 2], b: [f64; 2]| [a[0] - b[0], a[1] - b[1]];
        println!("a step that runs `true` over {} layers, median (least):", self.layers.len());
        line("`true` alone", bare);
        line("namespaces, and asking for them", namespaces);
        line("mounts, filter, capabilities, and their end", less(mounts, namespaces));
        line("the command", less(sandbox, mounts));
        line("diff and commit", commit);
        line("what is left: keys, threads, records", less(less(whole, sandbox), commit));
        line("the whole step", whole);
        let over = less(whole, bare);
        println!("  over `true` alone: {:.2} ms ({:.2}), {:.1} times as much\n", over[0], over[1], over[0] / bare[0]);
    }
}
