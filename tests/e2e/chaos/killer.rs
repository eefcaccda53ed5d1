//! Kills kiln after a number of events, not of milliseconds: lines that it has said, or things that have happened in the
//! folders of its store.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// When a process is to get a signal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trigger {
    Never,
    /// After so many lines on its stderr.
    Lines(usize),
    /// After so many events in the store, whoever caused them.
    Events(usize),
}

/// When it is to get which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sentence {
    pub(super) trigger: Trigger,
    pub(super) signal: Signal,
}

/// A process under a sentence.
pub(super) struct Victim {
    child: Child,
    struck: Arc<AtomicBool>,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Whether it got its signal, which it may have outrun all the same.
    pub(super) struck: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Victim {
    pub(super) fn start(mut command: Command, sentence: Sentence, watch: &Watch) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting kiln");
        let (pid, struck) = (Pid::from_child(&child), Arc::new(AtomicBool::new(false)));
        let strike = {
            let struck = Arc::clone(&struck);
            // It is waited for only when nobody can strike any more, so its number is nobody else's.
            move || {
                struck.store(true, Ordering::SeqCst);
                let _ = kill_process(pid, sentence.signal);
            }
        };
        let lines = match sentence.trigger {
            Trigger::Lines(lines) => lines,
            Trigger::Events(events) => {
                watch.add(events, Box::new(strike.clone()));
                usize::MAX
            }
            Trigger::Never => usize::MAX,
        };
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = std::thread::spawn(move || read(stdout, usize::MAX, || {}));
        let stderr = std::thread::spawn(move || read(stderr, lines, strike));
        Self { child, struck, stdout, stderr }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stderr.is_finished() && self.stdout.is_finished()
    }

    /// Waits for its end; nobody may be about to strike it.
    pub(super) fn finish(mut self) -> Ended {
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        let status = self.child.wait().unwrap();
        Ended { status, struck: self.struck.load(Ordering::SeqCst), stdout, stderr }
    }
}

fn read(from: impl Read, lines: usize, strike: impl FnOnce()) -> String {
    let (mut from, mut text, mut strike) = (BufReader::new(from), Vec::new(), Some(strike));
    let mut seen = 0;
    while from.read_until(b'\n', &mut text).is_ok_and(|length| length > 0) {
        seen += 1;
        if seen == lines
            && let Some(strike) = strike.take()
        {
            strike();
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

type Strike = Box<dyn FnOnce() + Send>;

/// Counts what happens in the folders of a store: everything above the files of layers.
pub(super) struct Watch {
    waiting: Arc<std::sync::Mutex<Vec<(usize, Strike)>>>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn begin(root: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let waiting: Arc<std::sync::Mutex<Vec<(usize, Strike)>>> = Arc::default();
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut watching = Watching { inotify, places: HashMap::new(), root: root.to_owned() };
        watching.add(root);
        let thread = std::thread::spawn({
            let (waiting, count, stop) = (Arc::clone(&waiting), Arc::clone(&count), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::SeqCst) {
                    watching.events(|| {
                        let count = count.fetch_add(1, Ordering::SeqCst) + 1;
                        let mut waiting = waiting.lock().unwrap();
                        while let Some(due) = waiting.iter().position(|(after, _)| *after <= count) {
                            waiting.swap_remove(due).1();
                        }
                    });
                }
            }
        });
        Self { waiting, count, stop, thread: Some(thread) }
    }

    /// Strikes after so many events from now on.
    fn add(&self, events: usize, strike: Strike) {
        self.waiting.lock().unwrap().push((self.count.load(Ordering::SeqCst) + events, strike));
    }

    /// From now on nobody is struck.
    pub(super) fn end(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.count.load(Ordering::SeqCst)
    }
}

struct Watching {
    inotify: OwnedFd,
    places: HashMap<i32, PathBuf>,
    root: PathBuf,
}

impl Watching {
    /// Watches a directory and those below it, down to where the files of steps begin.
    fn add(&mut self, directory: &Path) {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let Ok(number) = inotify::add_watch(&self.inotify, directory, flags) else { return };
        self.places.insert(number, directory.to_owned());
        if !self.is_last(directory) {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter(|entry| entry.path().is_dir()).for_each(|entry| self.add(&entry.path()));
        }
    }

    fn is_last(&self, directory: &Path) -> bool {
        let below = directory.strip_prefix(&self.root).unwrap();
        below.starts_with("layers") || below.components().count() >= 3
    }

    fn events(&mut self, mut seen: impl FnMut()) {
        // Woken up now and then to see whether it is over.
        let patience = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut set = [PollFd::new(&self.inotify, PollFlags::IN)];
        if !matches!(poll(&mut set, Some(&patience)), Ok(1..)) {
            return;
        }
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut new = Vec::new();
        let fd = self.inotify.as_fd().try_clone_to_owned().unwrap();
        let mut events = inotify::Reader::new(fd, &mut buffer);
        while let Ok(event) = events.next() {
            seen();
            if event.events().contains(ReadFlags::ISDIR)
                && let (Some(place), Some(name)) = (self.places.get(&event.wd()), event.file_name())
                && !self.is_last(place)
            {
                new.push(place.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
        new.iter().for_each(|directory| self.add(directory));
    }
}
