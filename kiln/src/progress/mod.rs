//! Shows what a build is doing, on stderr and as it happens. What is told ([`event`]) goes to a display, which
//! decides what is said and when: [`plain`] lines, a live [`tty`], [`rawjson`] for programs, or [`quiet`]. Here
//! displays are given the time, and their words are written.

mod event;
mod lines;
mod plain;
mod quiet;
mod rawjson;
mod record;
mod steps;
mod text;
mod transfers;
mod tty;

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use event::{Display, End, Group, Title};
pub(crate) use steps::Steps;
pub(crate) use text::clean;
pub(crate) use transfers::Transfers;
pub(crate) use tty::Size;

use kiln_cache::history::{BuildCommand, BuildEnd};
use kiln_cache::{Store, StoreError};
use kiln_solver::{Digest, LogStream, Reason};
use plain::Plain;
use quiet::Quiet;
use rawjson::RawJson;
use record::Record;
use tty::Tty;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::terminal;

/// What `--progress` and `--quiet` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Every step and its output.
    Plain,
    /// What runs, drawn over and over on a terminal.
    Tty,
    /// A line of JSON for each thing that happens.
    RawJson,
    /// Nothing.
    Quiet,
}

impl Style {
    /// What suits a command that moves blobs.
    pub(crate) fn for_transfers(quiet: bool, environment: &Environment) -> Self {
        match quiet {
            true => Self::Quiet,
            false if environment.live => Self::Tty,
            false => Self::Plain,
        }
    }

    /// Whether words for people may stand between what it shows.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Plain | Self::Tty)
    }

    /// A display of this style; `colour` says whether there are colours, `began` when the build did.
    pub(crate) fn display(self, colour: bool, began: SystemTime) -> Box<dyn Display> {
        match self {
            Self::Plain => Box::new(Plain::new(colour)),
            Self::Tty => Box::new(Tty::new(colour, terminal::size)),
            Self::RawJson => Box::new(RawJson::new(began)),
            Self::Quiet => Box::new(Quiet::new(colour)),
        }
    }
}

/// The display of one build. Clones are the same display.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Shared>);

struct Shared {
    began: Instant,
    wall: SystemTime,
    state: Mutex<State>,
}

struct State {
    display: Box<dyn Display>,
    record: Record,
    /// How many groups have begun.
    groups: usize,
    ticking: Ticking,
}

/// Whether a thread looks after what is held back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticking {
    /// There may be no threads yet.
    Forbidden,
    Stopped,
    Running,
}

impl Progress {
    /// A display that shows nothing yet.
    pub(crate) fn new(style: Style, colour: bool) -> Self {
        let wall = SystemTime::now();
        let display = style.display(colour, wall);
        let state = State { display, record: Record::Early(Vec::new()), groups: 0, ticking: Ticking::Forbidden };
        Self(Arc::new(Shared { began: Instant::now(), wall, state: Mutex::new(state) }))
    }

    /// From now on the process may have more than one thread, and what is held back is shown once its time has
    /// come.
    pub(crate) fn keep_up(&self) {
        let mut state = self.state();
        if state.ticking == Ticking::Forbidden {
            state.ticking = Ticking::Stopped;
        }
        self.start_ticking(&mut state);
    }

    /// Has what happened so far, and from now on, written down as a build of the store's history.
    pub(crate) fn record(&self, store: &Store, command: &BuildCommand) -> Result<(), StoreError> {
        let recorder = store.record_build(self.0.wall, command)?;
        self.state().record.open(recorder);
        Ok(())
    }

    /// Whether it is written down.
    pub(crate) fn is_recorded(&self) -> bool {
        self.state().record.is_open()
    }

    /// What the history knows the build by, if it is written down.
    pub(crate) fn build_id(&self) -> Option<String> {
        self.state().record.id()
    }

    /// The build that is written down ends.
    pub(crate) fn conclude(&self, end: &BuildEnd) -> Result<(), StoreError> {
        self.state().record.close(self.0.began.elapsed(), end)
    }

    /// The Dockerfile says this, for the history.
    pub(crate) fn dockerfile(&self, text: &str) {
        self.with(|state, now| state.record.dockerfile(now, text));
    }

    /// Commands could not be observed for this reason, for the history.
    pub(crate) fn untraced(&self, why: &str) {
        self.with(|state, now| state.record.untraced(now, why));
    }

    /// Why a step ran or what made no difference to it, for the history.
    fn explain(&self, group: Group, reasons: &[Reason]) {
        self.with(|state, now| state.record.explain(now, group, reasons));
    }

    /// The topmost layer of what a step comes to, for the history.
    fn made(&self, group: Group, layer: Digest) {
        self.with(|state, now| state.record.made(now, group, layer));
    }

    /// Something begins.
    pub(crate) fn start(&self, title: &Title) -> Group {
        self.with(|state, now| {
            let group = Group(state.groups);
            state.groups += 1;
            state.record.start(now, group, title);
            state.display.start(now, group, title);
            group
        })
    }

    /// One line about it.
    pub(crate) fn note(&self, group: Group, note: &str) {
        self.with(|state, now| {
            state.record.note(now, group, note);
            state.display.note(now, group, note);
        });
    }

    /// So many of so many bytes of it have been moved.
    pub(crate) fn advance(&self, group: Group, bytes: u64, total: u64) {
        self.with(|state, now| state.display.advance(now, group, bytes, total));
    }

    /// It ends.
    pub(crate) fn end(&self, group: Group, end: &End) {
        self.with(|state, now| {
            state.record.end(now, group, end);
            state.display.end(now, group, end);
        });
    }

    /// Runs `work` as a group of its own.
    pub(crate) fn during<T>(&self, name: &str, work: impl FnOnce(Group) -> Result<T, CliError>) -> Result<T, CliError> {
        let group = self.start(&Title::new(name));
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
        self.with(|state, now| state.display.finish(now));
    }

    fn output(&self, group: Group, stream: LogStream, bytes: &[u8]) {
        self.with(|state, now| {
            state.record.output(now, group, stream, bytes);
            state.display.output(now, group, stream, bytes);
        });
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.state().display.tail(group)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time is taken under the lock, so that it never runs backwards.
    fn with<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state, self.0.began.elapsed());
        write(&mut state);
        self.start_ticking(&mut state);
        result
    }

    /// Starts the thread that shows what is held back once its time has come; it ends when nothing is.
    /// Without it, output appears later but is not lost.
    fn start_ticking(&self, state: &mut State) {
        if state.ticking != Ticking::Stopped || !state.display.waits() {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        let ticker = move || {
            loop {
                thread::sleep(tty::FRAME);
                let Some(shared) = shared.upgrade() else { return };
                let progress = Self(shared);
                let mut state = progress.state();
                state.display.tick(progress.0.began.elapsed());
                write(&mut state);
                if !state.display.waits() {
                    state.ticking = Ticking::Stopped;
                    return;
                }
            }
        };
        if thread::Builder::new().name("progress".to_owned()).spawn(ticker).is_ok() {
            state.ticking = Ticking::Running;
        }
    }
}

/// Written under the lock, so that lines stay in order. A stderr that is gone is no reason to stop.
fn write(state: &mut State) {
    let text = state.display.take();
    if !text.is_empty() {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
