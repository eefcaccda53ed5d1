//! The networks of a build: made when they are needed, lent to one command at a time, and used again.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_solver::Cancel;

use super::programs::Program;
use super::uplink::{self, Uplink};
use super::{NetworkSettings, address};
use crate::sandbox::{FileIndex, Network};

/// How often a step that waits for its network looks whether the build is cancelled.
const GLANCE: Duration = Duration::from_millis(50);

/// The networks of one build. They and their programs end with it.
pub struct Networks {
    shared: Arc<Shared>,
    /// One that was begun before anybody asked for it.
    expected: Mutex<Option<Pending>>,
}

struct Shared {
    settings: NetworkSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Uplink>,
    /// The programs that may work, those to try first last; unknown until the first is needed.
    programs: Option<Vec<Program>>,
    /// What did not work, and why.
    failures: Vec<String>,
    /// Whether somebody has been told of that.
    told: bool,
}

impl Networks {
    /// Networks of which none is made yet.
    pub fn new(settings: NetworkSettings) -> Self {
        let shared = Arc::new(Shared { settings, state: Mutex::default() });
        Self { shared, expected: Mutex::default() }
    }

    /// Begins to make a network that a command will need, so that the command has less to wait for.
    pub(crate) fn expect(&self) {
        let mut expected = self.expected();
        if expected.is_none() {
            *expected = Some(self.start(false));
        }
    }

    fn expected(&self) -> MutexGuard<'_, Option<Pending>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network for one command, made in the background if need be. With `fresh` no other command has had it before
    /// or will have it afterwards.
    pub(crate) fn begin(&self, fresh: bool) -> Pending {
        if fresh {
            return self.start(true);
        }
        if let Some(expected) = self.expected().take() {
            return expected;
        }
        match self.shared.take_idle() {
            Some(uplink) => Pending(Progress::Made(Borrowed::own(uplink, Some(self.shared.clone())))),
            None => self.start(false),
        }
    }

    /// Begins to make one.
    fn start(&self, fresh: bool) -> Pending {
        let shared = self.shared.clone();
        let (tell, made) = channel();
        let maker = shared.clone();
        match std::thread::Builder::new().name("network".to_owned()).spawn(move || maker.make(&tell)) {
            Ok(_) => Pending(Progress::Begun { made, shared, fresh }),
            Err(error) => {
                shared.state().failures.push(format!("no thread can be started: {error}"));
                Pending(Progress::Made(shared.host()))
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Uplink> {
        loop {
            let uplink = self.state().idle.pop()?;
            if uplink.is_alive() {
                return Some(uplink);
            }
        }
    }

    /// Makes a network by whatever program works, and stays until its process has ended.
    fn make(self: Arc<Self>, tell: &Sender<Option<Uplink>>) {
        while let Some(program) = self.program() {
            match uplink::start(&program, &self.settings) {
                Ok((uplink, launched)) => {
                    // Nobody may want it any more; then it is dropped, and ends.
                    let _ = tell.send(Some(uplink));
                    // What is idle ends with the build, and the build has no share in this thread.
                    drop(self);
                    launched.wait();
                    return;
                }
                Err(why) => self.give_up(&program, &why),
            }
        }
        let _ = tell.send(None);
    }

    /// The program to try next.
    fn program(&self) -> Option<Program> {
        let mut state = self.state();
        if state.programs.is_none() {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let online = address::is_online(&read("/proc/net/route"), &read("/proc/net/ipv6_route"));
            let mut programs = Program::all(&self.settings, online);
            programs.reverse();
            state.programs = Some(programs);
        }
        state.programs.as_ref()?.last().cloned()
    }

    /// A program that does not work is not tried again in this build.
    fn give_up(&self, program: &Program, why: &str) {
        let mut state = self.state();
        let failed = |tried: &mut Program| tried.kind == program.kind;
        if state.programs.as_mut().is_some_and(|programs| programs.pop_if(failed).is_some()) {
            state.failures.push(format!("`{}`: {why}", program.path.display()));
        }
    }

    /// The host's network, with a note why for the first who gets it.
    fn host(&self) -> Borrowed {
        let mut state = self.state();
        let told = std::mem::replace(&mut state.told, true);
        let why = match state.failures.as_slice() {
            [] => "neither `pasta` (package `passt`) nor `slirp4netns` is installed".to_owned(),
            failures => failures.join("; "),
        };
        let note = format!("note: commands share the host's network: {why}\n");
        Borrowed { uplink: None, shared: None, note: (!told).then_some(note) }
    }
}

/// A network that may still be in the making.
pub(crate) struct Pending(Progress);

enum Progress {
    Made(Borrowed),
    Begun { made: Receiver<Option<Uplink>>, shared: Arc<Shared>, fresh: bool },
}

impl Pending {
    /// Waits until it is there; none if the build is cancelled.
    pub(crate) fn wait(self, cancel: &Cancel) -> Option<Borrowed> {
        let (made, shared, fresh) = match self.0 {
            Progress::Made(borrowed) => return Some(borrowed),
            Progress::Begun { made, shared, fresh } => (made, shared, fresh),
        };
        loop {
            match made.recv_timeout(GLANCE) {
                Ok(Some(uplink)) => return Some(Borrowed::own(uplink, (!fresh).then_some(shared))),
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return Some(shared.host()),
                Err(RecvTimeoutError::Timeout) if cancel.is_requested() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// The network of one command. It must outlive every process of the command: dropped, it is somebody else's.
pub(crate) struct Borrowed {
    /// None for the host's.
    uplink: Option<Uplink>,
    /// Where it goes back to.
    shared: Option<Arc<Shared>>,
    note: Option<String>,
}

impl Borrowed {
    fn own(uplink: Uplink, shared: Option<Arc<Shared>>) -> Self {
        Self { uplink: Some(uplink), shared, note: None }
    }

    /// The network, as a sandbox is told of it; `files` gets its namespace.
    pub(crate) fn network(&self, files: &mut Vec<Arc<OwnedFd>>) -> Network {
        let Some(uplink) = &self.uplink else { return Network::Host };
        files.push(uplink.namespace().clone());
        Network::Namespace(FileIndex(u32::try_from(files.len() - 1).unwrap_or(u32::MAX)))
    }

    /// Nobody else gets it.
    pub(crate) fn discard(&mut self) {
        self.shared = None;
    }

    /// What people should know of it, a line.
    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let (Some(uplink), Some(shared)) = (self.uplink.take(), &self.shared) {
            shared.state().idle.push(uplink);
        }
    }
}
