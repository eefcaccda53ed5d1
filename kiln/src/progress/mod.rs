//! Shows what a build is doing, on stderr and as it happens. [`plain`] decides what is said and when; here it
//! is given the time and its words are written.

mod plain;
mod text;

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use plain::{End, Group};
pub(crate) use text::clean;

use kiln_solver::{Graph, Hit, LogStream, Observer, StepError, StepId};
use plain::Plain;

use crate::error::{CliError, Kind};
use crate::failure;

/// What `--progress` and `--quiet` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Every step and its output.
    Plain,
    /// Nothing.
    Quiet,
}

/// The display of one build. Clones are the same display.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Shared>);

struct Shared {
    style: Style,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plain: Plain,
    /// Whether a thread looks after what is held back.
    ticking: bool,
}

impl Progress {
    /// A display that shows nothing yet.
    pub(crate) fn new(style: Style) -> Self {
        Self(Arc::new(Shared { style, began: Instant::now(), state: Mutex::default() }))
    }

    /// Something begins.
    pub(crate) fn start(&self, name: &str) -> Group {
        self.with(|plain, now| plain.start(now, name))
    }

    /// One line about it.
    pub(crate) fn note(&self, group: Group, note: &str) {
        self.with(|plain, now| plain.note(now, group, note));
    }

    /// It ends.
    pub(crate) fn end(&self, group: Group, end: &End) {
        self.with(|plain, now| plain.end(now, group, end));
    }

    /// Runs `work` as a group of its own.
    pub(crate) fn during<T>(&self, name: &str, work: impl FnOnce(Group) -> Result<T, CliError>) -> Result<T, CliError> {
        let group = self.start(name);
        let result = work(group);
        let end = match &result {
            Ok(_) => End::Done,
            Err(error) if error.kind == Kind::Interrupted => End::Cancelled,
            Err(error) => End::Failed(error.to_string()),
        };
        self.end(group, &end);
        result
    }

    /// Shows what is still held back, before something else is printed.
    pub(crate) fn finish(&self) {
        self.with(Plain::finish);
    }

    fn output(&self, group: Group, stream: LogStream, bytes: &[u8]) {
        self.with(|plain, now| plain.output(now, group, stream, bytes));
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.state().plain.tail(group).map(str::to_owned).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Plain, Duration) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state.plain, self.0.began.elapsed());
        self.write(&mut state);
        if state.plain.holds() && !std::mem::replace(&mut state.ticking, true) {
            state.ticking = self.spawn_ticker();
        }
        result
    }

    /// Written under the lock, so that lines stay in order. A stderr that is gone is no reason to stop.
    fn write(&self, state: &mut State) {
        let text = state.plain.take();
        if !text.is_empty() && self.0.style == Style::Plain {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }

    /// Starts the thread that shows what is held back once its time has come; it ends when nothing is.
    /// Without it, output appears later but is not lost.
    fn spawn_ticker(&self) -> bool {
        let shared = Arc::downgrade(&self.0);
        let ticker = move || {
            while let Some(shared) = shared.upgrade() {
                let progress = Self(shared);
                let mut state = progress.state();
                let holds = state.plain.tick(progress.0.began.elapsed());
                progress.write(&mut state);
                state.ticking = holds;
                drop(state);
                drop(progress);
                if !holds {
                    return;
                }
                thread::sleep(plain::HOLD / 5);
            }
        };
        thread::Builder::new().name("progress".to_owned()).spawn(ticker).is_ok()
    }
}

/// Tells the display what the solver does with the steps of a graph.
pub(crate) struct Steps<'a> {
    progress: &'a Progress,
    graph: &'a Graph,
    groups: Mutex<Vec<Option<Group>>>,
}

impl<'a> Steps<'a> {
    /// An observer of this graph's steps.
    pub(crate) fn new(progress: &'a Progress, graph: &'a Graph) -> Self {
        Self { progress, graph, groups: Mutex::default() }
    }

    /// The last lines that a step printed.
    pub(crate) fn tail(&self, id: StepId) -> Vec<String> {
        let group = self.groups().get(id.index()).copied().flatten();
        group.map(|group| self.progress.tail(group)).unwrap_or_default()
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Option<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a step, which begins now if it has not yet.
    fn group(&self, id: StepId) -> Group {
        let mut groups = self.groups();
        if groups.len() <= id.index() {
            groups.resize(id.index() + 1, None);
        }
        *groups[id.index()].get_or_insert_with(|| self.progress.start(&self.graph.step(id).metadata.name))
    }
}

impl Observer for Steps<'_> {
    fn started(&self, id: StepId) {
        self.group(id);
    }

    fn cached(&self, id: StepId, _hit: Hit) {
        self.progress.end(self.group(id), &End::Cached);
    }

    fn log(&self, id: StepId, stream: LogStream, bytes: &[u8]) {
        self.progress.output(self.group(id), stream, bytes);
    }

    fn finished(&self, id: StepId) {
        self.progress.end(self.group(id), &End::Done);
    }

    fn failed(&self, id: StepId, error: &StepError) {
        let end = match error {
            StepError::Cancelled => End::Cancelled,
            error => End::Failed(failure::describe(self.graph.step(id), error)),
        };
        // A step that was stopped before it began has never been seen: there is nothing to say about it.
        let seen = self.groups().get(id.index()).is_some_and(Option::is_some);
        if seen || end != End::Cancelled {
            self.progress.end(self.group(id), &end);
        }
    }
}
