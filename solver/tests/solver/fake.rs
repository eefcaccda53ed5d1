//! A world of fake steps: outputs are digests of what went in, and every run is counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex};

use kiln_solver::{
    Cancel, Change, Digest, Exec, Graph, Hit, IgnoreCache, Input, Job, Key, Layer, Made, Mismatch, Observation,
    Observer, Operation, Origin, Output, Past, Reason, Record, Records, SolveError, Source, Step, StepError, StepId,
    Worker, properties, solve,
};

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A step of a [`Build`], by position.
pub(crate) type Handle = usize;

/// A graph in the making, kept as a recipe so that flags can change between solves.
#[derive(Default)]
pub(crate) struct Build {
    steps: Vec<Step>,
    inputs: Vec<Vec<Handle>>,
}

impl Build {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, operation: Operation, name: &str, inputs: &[Handle]) -> Handle {
        self.steps.push(Step::new(operation, name));
        self.inputs.push(inputs.to_vec());
        self.steps.len() - 1
    }

    pub(crate) fn image(&mut self, number: u8) -> Handle {
        let digest = Digest::from_bytes([number; 32]);
        self.push(Operation::Source(Source::Image { reference: String::new(), digest }), "image", &[])
    }

    pub(crate) fn local(&mut self, name: &str) -> Handle {
        self.push(Operation::Source(Source::Local { name: name.to_owned() }), name, &[])
    }

    fn exec(&mut self, kind: &str, name: &str, inputs: &[Handle]) -> Handle {
        let exec = Exec { args: vec![kind.to_owned(), name.to_owned()], ..Exec::default() };
        self.push(Operation::Exec(exec), name, inputs)
    }

    /// Its output depends on all that it sees.
    pub(crate) fn mix(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("mix", name, inputs)
    }

    /// Its output is always the same.
    pub(crate) fn constant(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("constant", name, inputs)
    }

    /// Waits for the others that meet.
    pub(crate) fn meet(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("meet", name, inputs)
    }

    /// Its output is its first input with a layer more that depends on a mere bit of each input.
    pub(crate) fn peek(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("peek", name, inputs)
    }

    /// The same, and of a context it sees no more than that bit, either.
    pub(crate) fn glance(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("glance", name, inputs)
    }

    pub(crate) fn failing(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.exec("failing", name, inputs)
    }

    pub(crate) fn ignore_cache(&mut self, name: &str) {
        for step in self.steps.iter_mut().filter(|step| step.metadata.name == name) {
            step.metadata.ignore_cache = Some(IgnoreCache::Asked);
        }
    }

    pub(crate) fn graph(&self) -> (Graph, Vec<StepId>) {
        let mut graph = Graph::new();
        let mut ids: Vec<StepId> = Vec::new();
        for (step, inputs) in self.steps.iter().zip(&self.inputs) {
            let inputs = inputs.iter().map(|&input| Input { step: ids[input], output: 0 }).collect();
            ids.push(graph.add(Step { inputs, ..step.clone() }));
        }
        (graph, ids)
    }

    pub(crate) fn id(&self, handle: Handle) -> StepId {
        self.graph().1[handle]
    }
}

/// The outside: contexts, records and everything that was observed.
#[derive(Default)]
pub(crate) struct World {
    contexts: Mutex<BTreeMap<String, u64>>,
    records: Mutex<HashMap<Key, Vec<Output>>>,
    observations: Mutex<HashMap<Key, Vec<Observation>>>,
    past: Mutex<HashMap<String, (Digest, Past)>>,
    reasons: Mutex<Vec<(StepId, Vec<Reason>)>>,
    /// What each step that was carried out could tell of its inputs.
    carried_out: Mutex<HashSet<(Digest, String)>>,
    /// The steps that were carried out again on what they cannot tell apart from what they had before.
    repeated: Mutex<Vec<String>>,
    ran: Mutex<Vec<String>>,
    hits: Mutex<Vec<(StepId, Hit)>>,
    drifted: Mutex<HashSet<String>>,
    refused: Mutex<HashSet<String>>,
    meeting: (Mutex<usize>, Condvar),
}

impl World {
    pub(crate) fn new(contexts: &[(&str, u64)]) -> Self {
        let world = Self::default();
        contexts.iter().for_each(|(name, content)| world.edit(name, *content));
        world
    }

    pub(crate) fn edit(&self, context: &str, content: u64) {
        self.contexts.lock().unwrap().insert(context.to_owned(), content);
    }

    /// The steps that were carried out again for no reason.
    pub(crate) fn repeated(&self) -> Vec<String> {
        self.repeated.lock().unwrap().clone()
    }

    /// What a step can tell of its inputs.
    fn told(&self, exec: &Exec, inputs: &[Output]) -> String {
        if is_observed(exec) {
            return self.peeked(exec, inputs).to_string();
        }
        inputs.iter().map(|input| self.seen(input).to_string()).collect()
    }

    /// From now on the step of this name gives another output, as one that asks the network might.
    pub(crate) fn drift(&self, name: &str) {
        self.drifted.lock().unwrap().insert(name.to_owned());
    }

    /// From now on the step of this name cannot be run.
    pub(crate) fn refuse(&self, name: &str) {
        self.refused.lock().unwrap().insert(name.to_owned());
    }

    pub(crate) fn expect_to_meet(&self, number: usize) {
        *self.meeting.0.lock().unwrap() = number;
    }

    pub(crate) fn forget_records(&self) {
        self.records.lock().unwrap().clear();
        self.observations.lock().unwrap().clear();
    }

    pub(crate) fn forget_events(&self) {
        self.ran.lock().unwrap().clear();
        self.hits.lock().unwrap().clear();
        self.reasons.lock().unwrap().clear();
    }

    /// The names of what ran since the last call, sorted.
    pub(crate) fn take_ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.ran.lock().unwrap());
        ran.sort();
        ran
    }

    /// How the step was found in the cache, each time that it was.
    pub(crate) fn hits(&self, handle: Handle) -> Vec<Hit> {
        let hits = self.hits.lock().unwrap();
        hits.iter().filter(|(id, _)| id.index() == handle).map(|(_, hit)| *hit).collect()
    }

    /// Why the step ran, or what made no difference to a hit, the last time.
    pub(crate) fn reasons(&self, handle: Handle) -> Vec<Reason> {
        let reasons = self.reasons.lock().unwrap();
        let mut of = reasons.iter().rev().filter(|(id, _)| id.index() == handle);
        of.next().map(|(_, reasons)| reasons.clone()).unwrap_or_default()
    }

    pub(crate) fn solve(&self, build: &Build, targets: &[Handle]) -> Result<Vec<Vec<Output>>, SolveError> {
        self.solve_with(build, targets, &Cancel::new())
    }

    pub(crate) fn solve_with(
        &self,
        build: &Build,
        targets: &[Handle],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Output>>, SolveError> {
        let (graph, ids) = build.graph();
        let targets: Vec<StepId> = targets.iter().map(|&target| ids[target]).collect();
        solve(&graph, &targets, self, self, self, cancel)
    }

    /// What a step would give, were it run.
    pub(crate) fn result(&self, step: &Step, inputs: &[Output]) -> Vec<Output> {
        let text = match &step.operation {
            Operation::Source(Source::Local { name }) => return vec![Output::Local(name.clone())],
            Operation::Source(Source::Image { digest, .. }) => format!("image {digest}"),
            Operation::Source(other) => unreachable!("no fake {other:?}"),
            Operation::Exec(exec) if exec.args[0] == "constant" => exec.args[1].clone(),
            Operation::Exec(exec) if is_observed(exec) => {
                let layers = vec![Layer { diff_id: self.peeked(exec, inputs), origin: Origin::Built }];
                let change = Change { base: is_tree(inputs.first()).then_some(0), layers };
                return vec![change.apply(inputs).unwrap()];
            }
            Operation::Exec(exec) => {
                let seen: Vec<Digest> = inputs.iter().map(|input| self.seen(input)).collect();
                let drift = self.drifted.lock().unwrap().contains(&exec.args[1]);
                format!("{:?} {seen:?} {drift}", exec.args)
            }
            Operation::File(_) => unreachable!("no fake file steps"),
        };
        vec![Output::Layers(vec![Layer { diff_id: digest(&text), origin: Origin::Built }])]
    }

    /// The layer of a step that peeks.
    fn peeked(&self, exec: &Exec, inputs: &[Output]) -> Digest {
        let whole = inputs.iter().filter(|input| !observes(exec, input));
        let whole: Vec<Digest> = whole.map(|input| self.seen(input)).collect();
        digest(&format!("{:?} {:?} {whole:?}", exec.args, self.bits(exec, inputs)))
    }

    /// A bit of each input that is observed.
    fn bits(&self, exec: &Exec, inputs: &[Output]) -> Vec<u8> {
        let bit = |input| if observes(exec, input) { self.seen(input).as_bytes()[0] & 1 } else { 0 };
        inputs.iter().map(bit).collect()
    }

    pub(crate) fn seen(&self, output: &Output) -> Digest {
        match output {
            Output::Local(name) => digest(&format!("content {}", self.contexts.lock().unwrap()[name])),
            Output::Layers(layers) => digest(&format!("{layers:?}")),
        }
    }

    fn meet(&self) {
        let (missing, all_here) = &self.meeting;
        let mut missing = missing.lock().unwrap();
        *missing -= 1;
        all_here.notify_all();
        let timeout = std::time::Duration::from_secs(60);
        let (_missing, result) = all_here.wait_timeout_while(missing, timeout, |missing| *missing > 0).unwrap();
        assert!(!result.timed_out(), "the steps never met");
    }
}

/// Whether a step looks at no more than bits of some inputs.
fn is_observed(exec: &Exec) -> bool {
    ["peek", "glance"].contains(&exec.args[0].as_str())
}

/// Whether a step looks at no more than a bit of this input.
fn observes(exec: &Exec, input: &Output) -> bool {
    is_observed(exec) && (is_tree(Some(input)) || exec.args[0] == "glance")
}

fn is_tree(output: Option<&Output>) -> bool {
    matches!(output, Some(Output::Layers(_)))
}

impl Worker for World {
    fn content(&self, _: &Step, _: usize, output: &Output, _: &Cancel) -> Result<Option<Digest>, StepError> {
        Ok(Some(self.seen(output)))
    }

    fn unobserved(&self, step: &Step, _: usize, output: &Output) -> Result<Option<Digest>, StepError> {
        let is_observed = matches!(&step.operation, Operation::Exec(exec) if observes(exec, output));
        Ok(is_observed.then(|| digest("nothing")))
    }

    fn recheck(&self, step: &Step, inputs: &[Output], facts: &[u8], _: &Cancel) -> Result<Option<Mismatch>, StepError> {
        let Operation::Exec(exec) = &step.operation else { return Err(StepError::other("no command")) };
        let bits = self.bits(exec, inputs);
        let mismatch = || Mismatch { subject: "bits".to_owned(), was: format!("{facts:?}"), is: format!("{bits:?}") };
        Ok((bits != facts).then(mismatch))
    }

    fn check(&self, step: &Step) -> Result<(), StepError> {
        match self.refused.lock().unwrap().contains(&step.metadata.name) {
            true => Err(StepError::other("this step cannot be run")),
            false => Ok(()),
        }
    }

    fn run(&self, job: Job<'_>) -> Result<Made, StepError> {
        if let Operation::Exec(exec) = &job.step.operation {
            self.ran.lock().unwrap().push(exec.args[1].clone());
            let told = (job.step.own_digest(), self.told(exec, job.inputs));
            if !self.carried_out.lock().unwrap().insert(told) && job.step.metadata.ignore_cache.is_none() {
                self.repeated.lock().unwrap().push(exec.args[1].clone());
            }
            match exec.args[0].as_str() {
                "failing" => return Err(StepError::ExitCode(3)),
                "meet" => self.meet(),
                _ => {}
            }
        }
        let outputs = self.result(job.step, job.inputs);
        let Operation::Exec(exec) = &job.step.operation else { return Ok(outputs.into()) };
        if !is_observed(exec) {
            return Ok(outputs.into());
        }
        let layers = vec![Layer { diff_id: self.peeked(exec, job.inputs), origin: Origin::Built }];
        let changes = vec![Change { base: is_tree(job.inputs.first()).then_some(0), layers }];
        Ok(Made { outputs, observation: Some(Observation { facts: self.bits(exec, job.inputs), changes }) })
    }
}

impl Records for World {
    fn find(&self, key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    fn save(&self, keys: &[Key], record: &Record<'_>) -> Result<(), StepError> {
        let mut records = self.records.lock().unwrap();
        keys.iter().for_each(|key| drop(records.insert(*key, record.outputs.to_vec())));
        let past = Past {
            same_definition: true,
            properties: properties(&record.step.operation),
            inputs: record.inputs.to_vec(),
            outputs: record.outputs.to_vec(),
        };
        let name = record.step.metadata.name.clone();
        self.past.lock().unwrap().insert(name, (record.step.own_digest(), past));
        Ok(())
    }

    fn nearest(&self, step: &Step) -> Result<Option<Past>, StepError> {
        let past = self.past.lock().unwrap().get(&step.metadata.name).cloned();
        Ok(past.map(|(own, past)| Past { same_definition: own == step.own_digest(), ..past }))
    }

    fn find_observations(&self, key: &Key) -> Result<Vec<Observation>, StepError> {
        Ok(self.observations.lock().unwrap().get(key).cloned().unwrap_or_default())
    }

    fn save_observation(&self, key: &Key, _: &Step, observation: &Observation) -> Result<(), StepError> {
        self.observations.lock().unwrap().entry(*key).or_default().insert(0, observation.clone());
        Ok(())
    }
}

impl Observer for World {
    fn cached(&self, id: StepId, hit: Hit) {
        self.hits.lock().unwrap().push((id, hit));
    }

    fn wants_hits_explained(&self) -> bool {
        true
    }

    fn explained(&self, id: StepId, reasons: &[Reason]) {
        self.reasons.lock().unwrap().push((id, reasons.to_vec()));
    }
}
