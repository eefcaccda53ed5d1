//! Compressing finished layers while the next step runs, where an output will want them compressed.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use kiln_cache::{Compression, Store};
use kiln_solver::{
    Cancel, Digest, Graph, Hit, Input, Key, LogStream, MountKind, Observer, Operation, Origin, Output as Made, Reason,
    StepError, StepId,
};

use super::export::COMPRESSION;
use super::output::Output;
use super::request::Request;

/// What an output will want of each layer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Form {
    compression: Compression,
    /// How young files may be.
    latest: Option<SystemTime>,
}

/// Compresses the layers of the images that a build makes, and passes on what the solver tells.
pub(super) struct Ahead<'a> {
    inner: &'a dyn Observer,
    /// The steps that make layers of an image, each with the output that matters. Those at the end are left out where
    /// nothing runs after them.
    steps: HashMap<usize, u32>,
    seen: Mutex<HashSet<Digest>>,
    /// To the thread that compresses, if there is anything to do for it.
    layers: Sender<Digest>,
}

/// Does what `work` does with an observer, and compresses meanwhile what that one is told of. Does not begin another
/// layer when `work` is done; when it fails, or `cancel` is requested, gives up the one at hand, too.
pub(super) fn compressing<T, E>(
    request: &Request,
    (graph, targets): (&Graph, &[Input]),
    store: &Store,
    inner: &dyn Observer,
    cancel: &Cancel,
    work: impl FnOnce(&dyn Observer) -> Result<T, E>,
) -> Result<T, E> {
    let forms = forms(request);
    let steps = if forms.is_empty() { HashMap::new() } else { steps(graph, targets) };
    if steps.is_empty() {
        return work(inner);
    }
    let (sender, layers) = mpsc::channel();
    let (done, stop) = (&Cancel::new(), &Cancel::new());
    let forms = &forms;
    let _hook = cancel.on_request({
        let stop = stop.clone();
        move || stop.request()
    });
    std::thread::scope(|scope| {
        let compressor = std::thread::Builder::new()
            .name("kiln-ahead".to_owned())
            .spawn_scoped(scope, move || compress(store, layers, forms, done, stop));
        let result = match compressor {
            Ok(_) => work(&Ahead { inner, steps, seen: Mutex::default(), layers: sender }),
            // It will be done at the end.
            Err(_) => work(inner),
        };
        done.request();
        if result.is_err() {
            stop.request();
        }
        result
    })
}

/// Compresses what comes in, until the senders are gone or the work is done.
fn compress(store: &Store, layers: Receiver<Digest>, forms: &[Form], done: &Cancel, stop: &Cancel) {
    for layer in layers {
        for Form { compression, latest } in forms {
            if done.is_requested() || stop.is_requested() {
                return;
            }
            // What fails now fails again when it is needed, and is told then.
            let _ = store.compress_ahead(&layer, *latest, *compression, stop);
        }
    }
}

/// The forms in which the outputs will want layers; none for an image that stays in the store as it is.
fn forms(request: &Request) -> Vec<Form> {
    let mut forms = Vec::new();
    for output in &request.outputs {
        let image = match output {
            Output::Image { image, .. } | Output::Store { image, push: Some(_), .. } => image,
            Output::Store { image, .. } if image.compression.is_some() => image,
            _ => continue,
        };
        // The layer itself, as gzip, is not what is wanted.
        if image.is_estargz {
            continue;
        }
        let form = Form {
            compression: image.compression.unwrap_or(COMPRESSION),
            latest: request.source_date_epoch.filter(|_| image.rewrite_timestamp != Some(false)),
        };
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// The steps that make the layers of these targets, with the output that matters.
fn steps(graph: &Graph, targets: &[Input]) -> HashMap<usize, u32> {
    let mut steps = HashMap::new();
    for target in targets {
        // Where nothing runs after the last step, the export can have all cores for its layer.
        let mut at = if targets.len() > 1 { Some(*target) } else { base(graph, *target) };
        while let Some(input) = at {
            steps.insert(input.step.index(), input.output);
            at = base(graph, input);
        }
    }
    steps
}

/// What the layers of an output lie on.
fn base(graph: &Graph, of: Input) -> Option<Input> {
    let step = graph.step(of.step);
    let position = match &step.operation {
        Operation::Source(_) => return None,
        Operation::Exec(exec) => {
            let root = exec.mounts.iter().find(|mount| mount.output == Some(of.output))?;
            match &root.kind {
                MountKind::Bind { input, .. } => (*input)?,
                _ => return None,
            }
        }
        Operation::File(actions) => {
            let mut position = actions.iter().find(|action| action.output == Some(of.output))?.base?;
            // The result of an action before it.
            while let Some(action) = position.checked_sub(step.inputs.len()) {
                position = actions.get(action)?.base?;
            }
            position
        }
    };
    step.inputs.get(position).copied()
}

impl Observer for Ahead<'_> {
    fn keyed(&self, id: StepId, key: &Key) {
        self.inner.keyed(id, key);
    }

    fn started(&self, id: StepId) {
        self.inner.started(id);
    }

    fn cached(&self, id: StepId, hit: Hit) {
        self.inner.cached(id, hit);
    }

    fn wants_hits_explained(&self) -> bool {
        self.inner.wants_hits_explained()
    }

    fn explained(&self, id: StepId, reasons: &[Reason]) {
        self.inner.explained(id, reasons);
    }

    fn produced(&self, id: StepId, outputs: &[Made]) {
        let output = self.steps.get(&id.index()).and_then(|output| outputs.get(*output as usize));
        if let Some(Made::Layers(layers)) = output {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            for layer in layers.iter().filter(|layer| layer.origin == Origin::Built) {
                if seen.insert(layer.diff_id) {
                    // Where the thread has died, the export does it.
                    let _ = self.layers.send(layer.diff_id);
                }
            }
        }
        self.inner.produced(id, outputs);
    }

    fn log(&self, id: StepId, stream: LogStream, bytes: &[u8]) {
        self.inner.log(id, stream, bytes);
    }

    fn finished(&self, id: StepId) {
        self.inner.finished(id);
    }

    fn failed(&self, id: StepId, error: &StepError) {
        self.inner.failed(id, error);
    }
}
