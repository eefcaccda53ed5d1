//! `--explain`: for each step why it ran, or which key found it in the cache and what that did not mind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_solver::{Digest, Exec, Graph, Hit, Key, LogStream, Observer, Operation, Output, Reason, StepError, StepId};
use serde::Serialize;

use super::cache::Keys;
use crate::error::CliError;
use crate::progress::clean;
use crate::reasons::{self, ReasonJson};

/// The caches elsewhere that steps were found in, by what the steps do.
pub(super) type Origins = BTreeMap<Digest, String>;

/// How to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people, on stderr
    Text,
    /// For programs, on stdout
    Json,
}

/// Collects what the solver tells of each step, and passes it on.
pub(super) struct Explanations<'a> {
    inner: &'a dyn Observer,
    steps: Mutex<BTreeMap<usize, Explanation>>,
    keys: Mutex<Keys>,
    is_wanted: bool,
}

#[derive(Default)]
struct Explanation {
    outcome: Option<Outcome>,
    reasons: Vec<Reason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Cached(Hit),
    Ran,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Cached(_) => "cached",
            Self::Ran => "ran",
            Self::Failed => "failed",
        }
    }

    /// Whether it was found in a cache.
    fn is_found(self) -> bool {
        matches!(self, Self::Cached(hit) if hit != Hit::Unneeded)
    }

    fn key(self) -> Option<&'static str> {
        match self {
            Self::Cached(hit) => Some(reasons::key(hit)),
            Self::Ran | Self::Failed => None,
        }
    }
}

/// What its instruction asks of the cache.
fn wishes(exec: &Exec, text: &mut String) {
    if exec.untraced {
        text.push_str("    not observed, as its instruction says: it depends on all that came before it\n");
    }
    if !exec.ignored_env.is_empty() {
        let _ = writeln!(text, "    whatever the values of {}, as its instruction says", exec.ignored_env.join(", "));
    }
}

fn is_empty(texts: &[String]) -> bool {
    texts.is_empty()
}

#[derive(Serialize)]
struct StepJson<'a> {
    step: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'static str>,
    /// The cache elsewhere that it was found in, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    reasons: Vec<ReasonJson<'a>>,
    /// Whether its instruction says that it is not to be observed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    untraced: bool,
    /// The build arguments that do not count, as its instruction says.
    #[serde(skip_serializing_if = "is_empty")]
    ignored_arguments: &'a [String],
}

impl<'a> Explanations<'a> {
    /// Collects what `inner` is told; hits are explained only if that is wanted.
    pub(super) fn new(inner: &'a dyn Observer, is_wanted: bool) -> Self {
        Self { inner, steps: Mutex::default(), keys: Mutex::default(), is_wanted }
    }

    fn steps(&self) -> MutexGuard<'_, BTreeMap<usize, Explanation>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: StepId, outcome: Outcome) {
        self.steps().entry(id.index()).or_default().outcome = Some(outcome);
    }

    /// The definition keys of the steps.
    pub(super) fn keys(&self) -> Keys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets everything: the build begins anew.
    pub(super) fn clear(&self) {
        self.steps().clear();
    }

    /// What is told to people; `untraced` is why commands could not be observed.
    /// `origins` are the caches elsewhere that steps were found in.
    pub(super) fn text(&self, graph: &Graph, untraced: Option<&str>, origins: &Origins) -> String {
        let steps = self.steps();
        let mut text = String::new();
        for (id, step) in graph.steps().filter(|(_, step)| !step.operation.is_source()) {
            let Some(Explanation { outcome: Some(outcome), reasons }) = steps.get(&id.index()) else { continue };
            let by = match outcome.key() {
                Some("not needed") => ": a later step was found in the cache".to_owned(),
                Some(key) => match origins.get(&graph.own(id)) {
                    Some(cache) => format!(", by {key}, in the cache `{}`", clean(cache)),
                    None => format!(", by {key}"),
                },
                None => String::new(),
            };
            let _ = writeln!(text, "{}\n  {}{by}", clean(&step.metadata.name), outcome.word());
            for line in reasons::lines(reasons, outcome.key().is_some()) {
                let _ = writeln!(text, "    {line}");
            }
            if let Operation::Exec(exec) = &step.operation {
                wishes(exec, &mut text);
            }
        }
        if let Some(why) = untraced {
            let _ = writeln!(text, "{}", reasons::untraced(why));
        }
        text
    }

    /// The same for programs: one array.
    pub(super) fn json(&self, graph: &Graph, origins: &Origins) -> Result<String, CliError> {
        let steps = self.steps();
        let mut all = Vec::new();
        for (id, step) in graph.steps().filter(|(_, step)| !step.operation.is_source()) {
            let Some(Explanation { outcome: Some(outcome), reasons }) = steps.get(&id.index()) else { continue };
            let reasons = reasons.iter().map(ReasonJson::new).collect();
            let exec = match &step.operation {
                Operation::Exec(exec) => Some(exec),
                Operation::Source(_) | Operation::File(_) => None,
            };
            all.push(StepJson {
                step: &step.metadata.name,
                outcome: outcome.word(),
                key: outcome.key(),
                cache: origins.get(&graph.own(id)).filter(|_| outcome.is_found()).map(String::as_str),
                reasons,
                untraced: exec.is_some_and(|exec| exec.untraced),
                ignored_arguments: exec.map_or(&[], |exec| &exec.ignored_env),
            });
        }
        let mut text = serde_json::to_string_pretty(&all)
            .map_err(|error| CliError::bug(format!("the explanation cannot be written as JSON: {error}")))?;
        text.push('\n');
        Ok(text)
    }
}

impl Observer for Explanations<'_> {
    fn keyed(&self, id: StepId, key: &Key) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(id, *key);
    }

    fn started(&self, id: StepId) {
        self.inner.started(id);
    }

    fn cached(&self, id: StepId, hit: Hit) {
        self.end(id, Outcome::Cached(hit));
        self.inner.cached(id, hit);
    }

    fn wants_hits_explained(&self) -> bool {
        self.is_wanted || self.inner.wants_hits_explained()
    }

    fn explained(&self, id: StepId, reasons: &[Reason]) {
        self.steps().entry(id.index()).or_default().reasons = reasons.to_vec();
        self.inner.explained(id, reasons);
    }

    fn produced(&self, id: StepId, outputs: &[Output]) {
        self.inner.produced(id, outputs);
    }

    fn log(&self, id: StepId, stream: LogStream, bytes: &[u8]) {
        self.inner.log(id, stream, bytes);
    }

    fn finished(&self, id: StepId) {
        self.end(id, Outcome::Ran);
        self.inner.finished(id);
    }

    fn failed(&self, id: StepId, error: &StepError) {
        self.end(id, Outcome::Failed);
        self.inner.failed(id, error);
    }
}
