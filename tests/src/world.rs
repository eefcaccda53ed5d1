//! A hermetic world for one test: an own store, home and configuration, and an environment with nothing else in it.

use crate::progress::Progress;
use crate::registry::{self, Registry};
use crate::run;
use crate::users::User;
use crate::{Image, Tree};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a kiln may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a command and notes how much memory it has had.
const NOTE_MEMORY: &str = "import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)";

/// Where one test lives.
pub struct World {
    directory: TempDir,
    root: PathBuf,
    user: Option<User>,
    registry: &'static Registry,
}

impl World {
    /// A world with an empty store; `FROM busybox` works in it.
    pub fn new() -> Self {
        Self::make(None, registry::shared())
    }

    /// As [`World::new`], where `FROM debian` works too.
    pub fn with_debian() -> Self {
        Self::make(None, registry::shared_with_debian())
    }

    /// A world whose kiln is run by an ordinary user.
    pub fn of(user: User) -> Self {
        Self::make(Some(user), registry::shared())
    }

    fn make(user: Option<User>, registry: &'static Registry) -> Self {
        let directory = run::directory("world");
        let world = Self { root: directory.path().join("root"), directory, user, registry };
        for name in ["home", "tmp", "root"] {
            std::fs::create_dir(world.path().join(name)).unwrap();
            world.give(&world.path().join(name));
        }
        world.configure(&format!(
            "[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n\n[registry.\"{0}\"]\nhttp = true\n",
            registry.address
        ));
        world
    }

    /// The directory of this world.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `$KILN_ROOT`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts the store somewhere else.
    pub fn set_root(&mut self, root: impl Into<PathBuf>) {
        self.root = root.into();
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// The registry that base images come from.
    pub fn registry(&self) -> &'static Registry {
        self.registry
    }

    /// Replaces kiln's configuration file.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.path().join("kiln.toml"), text).unwrap();
    }

    /// Makes a new directory with files in it: pairs of path and content.
    pub fn project(&self, files: &[(&str, &str)]) -> Project {
        let path = tempfile::Builder::new().prefix("project-").tempdir_in(self.path()).unwrap().keep();
        let project = Project { path };
        for (name, content) in files {
            project.write(name, content);
        }
        self.give(project.path());
        project
    }

    /// Makes a path belong to the user of this world.
    pub fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            crate::command::run(Command::new("chown").args(["-R", &format!("{}:{}", user.uid, user.gid)]).arg(path));
        }
    }

    /// `kiln ARGS…`, run in the world's directory.
    pub fn kiln<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Kiln {
        let mut command = Command::new(&run::run().kiln);
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.home()).env("TMPDIR", self.path().join("tmp"));
        command.env("KILN_ROOT", self.root()).env("KILN_CONFIG", self.path().join("kiln.toml"));
        command.env("COLUMNS", "120").env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("NO_COLOR", "1");
        // Whatever tries to leave this machine fails at once, and the same everywhere.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1,localhost");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        Kiln { command, input: None, is_on_one_core: false }
    }

    /// `kiln build .` in a project.
    pub fn build(&self, project: &Project) -> Kiln {
        let mut kiln = self.kiln(["build"]);
        kiln.command.arg(".").current_dir(project.path());
        kiln
    }

    /// Builds a project and reads the image that comes out, with every digest in it verified.
    pub fn image(&self, project: &Project, more: &[&str]) -> Image {
        let directory = tempfile::Builder::new().prefix("image-").tempdir_in(self.home()).unwrap();
        self.give(directory.path());
        let file = directory.path().join("image.tar");
        let output = format!("type=oci,dest={}", file.display());
        self.build(project).args(["-o", &output]).args(more).succeeds();
        Image::from_oci_archive(&file)
    }

    /// The files of the image that a project gives.
    pub fn tree(&self, project: &Project) -> Tree {
        self.image(project, &[]).tree()
    }

    /// Waits until something holds that a process nobody waits for brings about.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "still not: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the files of the first copy of the only cache mount are: how a test tells a step that runs to go on.
    pub fn cache_mount(&self) -> PathBuf {
        let mounts = std::fs::read_dir(self.root().join("mounts")).unwrap();
        let caches: Vec<_> = mounts.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(caches.len(), 1);
        caches[0].join("0/data")
    }

    /// What the store holds, as far as a failed build must not change it: every path but the database's own
    /// files, the stat caches of contexts and the history of builds, and the images by name.
    pub fn store_listing(&self) -> Vec<String> {
        let mut listing = Vec::new();
        list(self.root(), Path::new(""), &mut listing);
        listing.sort();
        listing.extend(self.kiln(["images"]).succeeds().stdout_text().lines().map(String::from));
        listing
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn list(top: &Path, below: &Path, listing: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(top.join(below)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        let name = path.to_string_lossy().into_owned();
        if name.starts_with("kiln.db") || name.starts_with("contexts") || name == "history" || name == "tmp" {
            continue;
        }
        let metadata = entry.metadata().unwrap();
        listing.push(if metadata.is_dir() { format!("{name}/") } else { format!("{name} {}", metadata.len()) });
        if metadata.is_dir() && !name.ends_with("/files") {
            list(top, &path, listing);
        }
    }
}

/// A directory with a Dockerfile and what belongs to it.
pub struct Project {
    path: PathBuf,
}

impl Project {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Sets the modification time of a file to now, and changes nothing else.
    pub fn touch(&self, name: &str) {
        std::fs::File::open(self.join(name)).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    }
}

/// A `kiln` command being put together.
pub struct Kiln {
    command: Command,
    input: Option<std::fs::File>,
    is_on_one_core: bool,
}

impl Kiln {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a file as its standard input.
    pub fn input(mut self, path: &Path) -> Self {
        self.input = Some(std::fs::File::open(path).unwrap());
        self
    }

    /// Gives it one core alone.
    pub fn on_one_core(mut self) -> Self {
        self.is_on_one_core = true;
        self
    }

    /// Has the most memory written to a file, in kilobytes, that it or a process it waited for has had at a time.
    pub fn noting_memory(mut self, file: &Path) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", NOTE_MEMORY]).arg(file).arg(self.command.get_program()).args(self.command.get_args());
        python.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = self.command.get_current_dir() {
            python.current_dir(directory);
        }
        self.command = python;
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it somewhere else.
    pub fn current_dir(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Runs it to its end, which must be a good one.
    pub fn succeeds(self) -> Outcome {
        let outcome = self.run();
        assert!(outcome.status.success(), "kiln failed\n{outcome}");
        outcome
    }

    /// Runs it to its end, which must be an exit with the given code, and an error must have been said.
    pub fn fails_with(self, code: i32) -> Outcome {
        let outcome = self.run();
        assert_eq!(outcome.status.code(), Some(code), "kiln was to exit {code}\n{outcome}");
        assert!(outcome.stderr.contains("error"), "kiln said no error\n{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "kiln panicked\n{outcome}");
        outcome
    }

    /// Runs it to its end, which must be a failure (exit code 1).
    pub fn fails(self) -> Outcome {
        self.fails_with(1)
    }

    /// The bare command, to be timed without what [`Running`] adds.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Starts it and returns at once.
    pub fn start(mut self) -> Running {
        let name = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let input = self.input.take().map_or_else(Stdio::null, Stdio::from);
        self.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.is_on_one_core {
            true => on_one_core(|| self.command.spawn()),
            false => self.command.spawn(),
        }
        .expect("starting kiln");
        let (stdout, stdout_reader) = collect(child.stdout.take().unwrap());
        let (stderr, stderr_reader) = collect(child.stderr.take().unwrap());
        Running { name, child, stdout, stderr, readers: vec![stdout_reader, stderr_reader] }
    }
}

/// What this thread starts has the cores that the thread has.
fn on_one_core<T>(start: impl FnOnce() -> T) -> T {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let all = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).expect("a core");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
    let result = start();
    sched_setaffinity(None, &all).unwrap();
    result
}

type Shared = Arc<Mutex<Vec<u8>>>;

fn collect(mut from: impl Read + Send + 'static) -> (Shared, JoinHandle<()>) {
    let shared = Shared::default();
    let to = Arc::clone(&shared);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            to.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    (shared, reader)
}

/// A kiln at work.
pub struct Running {
    name: String,
    child: Child,
    stdout: Shared,
    stderr: Shared,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until it has said something on stderr.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // First whether it has ended: then all that it said is there to be looked at.
            let ended = self.child.try_wait().unwrap().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            let said = String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned();
            if said.contains(text) {
                return;
            }
            assert!(!ended && Instant::now() < deadline, "kiln never said `{text}`\n{said}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("sending a signal to kiln");
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let said = || String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned();
            assert!(Instant::now() < deadline, "kiln {} did not end\n{}", self.name, said());
            std::thread::sleep(Duration::from_millis(1));
        };
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        let stdout = std::mem::take(&mut *self.stdout.lock().unwrap());
        let stderr = String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned();
        Outcome { name: std::mem::take(&mut self.name), status, stdout, stderr }
    }
}

/// A test that fails leaves no kiln behind.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of running kiln.
pub struct Outcome {
    name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: Vec<u8>,
    /// All of its stderr.
    pub stderr: String,
}

impl Outcome {
    /// Its stdout as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text on stdout")
    }

    /// The steps that it told of.
    pub fn progress(&self) -> Progress {
        Progress::parse(&self.stderr)
    }

    /// Asserts that stderr has a text in it.
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "kiln did not say `{text}`\n{self}");
        self
    }

    /// Asserts that stdout has a text in it.
    pub fn says_on_stdout(&self, text: &str) -> &Self {
        assert!(self.stdout_text().contains(text), "kiln did not print `{text}`\n{self}");
        self
    }

    /// Asserts that stderr does not have a text in it.
    pub fn does_not_say(&self, text: &str) -> &Self {
        assert!(!self.stderr.contains(text), "kiln said `{text}`\n{self}");
        self
    }

    /// Asserts that exactly one error was said.
    pub fn says_one_error(&self) -> &Self {
        let count = self.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(count, 1, "one error was to be said\n{self}");
        self
    }

    /// Asserts that a step whose name has this in it was run.
    pub fn ran(&self, step: &str) -> &Self {
        assert!(self.progress().ran(step), "`{step}` was to be run\n{self}");
        self
    }

    /// Asserts that a step whose name has this in it came from the cache.
    pub fn cached(&self, step: &str) -> &Self {
        assert!(self.progress().cached(step), "`{step}` was to be cached\n{self}");
        self
    }

    /// Asserts that no step whose name has this in it was told of.
    pub fn never_mentions(&self, step: &str) -> &Self {
        assert!(self.progress().find(step).is_none(), "`{step}` was to be left alone\n{self}");
        self
    }

    /// Asserts that no RUN, COPY, ADD or WORKDIR was carried out.
    pub fn all_cached(&self) -> &Self {
        let progress = self.progress();
        let ran = progress.ran_instructions();
        assert!(ran.is_empty(), "all was to be cached, but these ran: {ran:?}\n{self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signal = self.status.signal().map(|number| format!(" (signal {number})")).unwrap_or_default();
        writeln!(f, "$ kiln {}\n{}{signal}", self.name, self.status)?;
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]);
        write!(f, "--- stdout\n{stdout}\n--- stderr\n{}", self.stderr)
    }
}
