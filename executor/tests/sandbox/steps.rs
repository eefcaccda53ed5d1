//! Whole steps over a real store: what a command wrote becomes a layer, and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kiln_cache::{EntryKind, Store, View, Whiteouts};
use kiln_executor::cgroup::Resources;
use kiln_executor::rootless::enter;
use kiln_executor::sandbox::{ExitStatus, SandboxError};
use kiln_executor::{BoxError, Container, Context, Executor, ImageLayers, Settings, StepLimits};
use kiln_solver::{
    Cancel, Digest, Exec, Graph, Input, Job, Layer, LogStream, Mount, MountKind, Observer, Operation, Origin, Output,
    Security, Step, StepError, StepId, Ulimit, Worker,
};

use crate::world::World;

/// There are no images here.
struct NoImages;

impl ImageLayers for NoImages {
    fn stack(&self, _: &Digest) -> Result<Vec<Layer>, BoxError> {
        Err("no images".into())
    }

    fn ensure(&self, layers: &[Layer], _: &Cancel) -> Result<(), BoxError> {
        if layers.is_empty() { Ok(()) } else { Err("no images".into()) }
    }
}

#[derive(Default)]
pub struct Log(Mutex<Vec<(LogStream, Vec<u8>)>>);

impl Observer for Log {
    fn log(&self, _: StepId, stream: LogStream, bytes: &[u8]) {
        self.0.lock().unwrap().push((stream, bytes.to_vec()));
    }
}

impl Log {
    pub fn text(&self, wanted: LogStream) -> String {
        let log = self.0.lock().unwrap();
        let bytes: Vec<u8> = log.iter().filter(|(stream, _)| *stream == wanted).flat_map(|(_, b)| b.clone()).collect();
        String::from_utf8(bytes).unwrap()
    }
}

pub struct Steps {
    pub store: Arc<Store>,
    pub executor: Executor,
    pub base: Layer,
}

impl Steps {
    pub fn new(world: &World) -> Self {
        Self::over(world, BTreeMap::new(), |executor| executor)
    }

    pub fn over(
        world: &World,
        contexts: BTreeMap<String, Arc<Context>>,
        change: impl FnOnce(Executor) -> Executor,
    ) -> Self {
        let whiteouts = if world.identity.in_user_namespace() { Whiteouts::User } else { Whiteouts::Trusted };
        let store = Arc::new(Store::open(&world.directory(), whiteouts).unwrap());
        let draft = store.begin_layer().unwrap();
        copy(&world.base, draft.files());
        let base = Layer { diff_id: *draft.commit(SystemTime::now()).unwrap().diff_id(), origin: Origin::Built };
        let executor = Executor::new(Settings {
            store: store.clone(),
            contexts,
            images: Arc::new(NoImages),
            sandbox: Arc::new(World::sandbox(&world.identity, &world.directory())),
            created: None,
        });
        Self { store, executor: change(executor), base }
    }

    /// A layer with what `fill` puts into it.
    pub fn layer(&self, fill: impl FnOnce(&Path)) -> Layer {
        let draft = self.store.begin_layer().unwrap();
        fill(draft.files());
        Layer { diff_id: *draft.commit(SystemTime::UNIX_EPOCH).unwrap().diff_id(), origin: Origin::Built }
    }

    pub fn run(&self, inputs: &[Output], exec: Exec) -> (Result<Vec<Output>, StepError>, Log) {
        let (result, log, _) = self.run_as(inputs, exec);
        (result, log)
    }

    pub fn run_as(&self, inputs: &[Output], exec: Exec) -> (Result<Vec<Output>, StepError>, Log, StepId) {
        let mut graph = Graph::new();
        let mut step = Step::new(Operation::Exec(exec), "test");
        let source = graph.add(Step::new(Operation::File(Vec::new()), "input"));
        step.inputs = inputs.iter().map(|_| Input { step: source, output: 0 }).collect();
        let id = graph.add(step);
        let log = Log::default();
        let job = Job { id, step: graph.step(id), inputs, cancel: &Cancel::new(), observer: &log };
        (self.executor.run(job).map(|made| made.outputs), log, id)
    }

    /// Runs a script that must succeed with these mounts beside its root; what it says.
    pub fn mounting(&self, inputs: &[Output], mounts: Vec<Mount>, script: &str) -> String {
        let (result, log) = self.run(inputs, with_mounts(shell(script), mounts));
        assert!(result.is_ok(), "{result:?} {}", log.text(LogStream::Stderr));
        log.text(LogStream::Stdout)
    }

    pub fn nothing_is_left(&self) {
        let left = fs::read_dir(self.store.root().join("tmp")).unwrap().flatten();
        let left: Vec<_> =
            left.flat_map(|session| fs::read_dir(session.path()).into_iter().flatten()).flatten().collect();
        // A draft that came to nothing is kept for the next step.
        let is_spare = |draft: &Path| {
            let is_empty = |name| fs::read_dir(draft.join(name)).is_ok_and(|mut entries| entries.next().is_none());
            is_empty("files") && is_empty("work")
        };
        let is_file = |entry: &fs::DirEntry| entry.file_type().unwrap().is_file();
        assert!(left.iter().all(|entry| is_file(entry) || is_spare(&entry.path())), "{left:?}");
    }

    /// The layers after running a script on top of these.
    pub fn sh(&self, layers: &[Layer], script: &str) -> Vec<Layer> {
        let (outputs, log) = self.run(&[Output::Layers(layers.to_vec())], shell(script));
        match outputs.as_deref() {
            Ok([Output::Layers(layers)]) => layers.clone(),
            _ => panic!("{outputs:?} {}", log.text(LogStream::Stderr)),
        }
    }

    pub fn paths(&self, layer: &Layer) -> Vec<String> {
        let stored = self.store.layer(&layer.diff_id).unwrap().unwrap();
        let entries = stored.index().entries();
        entries.map(|entry| String::from_utf8(entry.path.to_vec()).unwrap()).collect()
    }
}

pub fn with_mounts(mut exec: Exec, mounts: Vec<Mount>) -> Exec {
    exec.mounts.extend(mounts);
    exec
}

pub fn shell(script: &str) -> Exec {
    Exec {
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: vec![Mount {
            kind: MountKind::Bind { input: Some(0), selector: "/".to_owned() },
            destination: "/".to_owned(),
            readonly: false,
            output: Some(0),
        }],
        ..Exec::default()
    }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn a_step_has_limits_of_its_own_and_of_all(world: &World) {
    let mut steps = Steps::new(world);
    let base = [Output::Layers(vec![steps.base])];
    let ulimit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
    let mut exec = shell("ulimit -n");
    exec.limits.ulimits = vec![ulimit("nofile", 9, 10)];
    let (result, log) = steps.run(&base, exec.clone());
    assert!(result.is_ok() && log.text(LogStream::Stdout) == "9\n", "{result:?}");
    exec.limits.ulimits = vec![ulimit("nofiles", 9, 10)];
    let (result, _) = steps.run(&base, exec);
    assert!(result.unwrap_err().to_string().starts_with("there is no limit named `nofiles`"));
    let time = Duration::from_millis(100);
    steps.executor = steps.executor.with_limits(StepLimits { time: Some(time), ..StepLimits::default() }).unwrap();
    let (result, _) = steps.run(&base, shell("sleep 1000"));
    assert!(matches!(result, Err(StepError::TimedOut(after)) if after == time), "{result:?}");
}

/// Steps below the control group of this world, with these limits.
pub fn limited(world: &World, resources: Resources) -> Option<(Steps, Vec<Output>)> {
    Some(limited_below(world, resources, Some(world.groups.clone()?)))
}

/// Steps below this control group, or below kiln's own.
pub fn limited_below(world: &World, resources: Resources, cgroup_parent: Option<String>) -> (Steps, Vec<Output>) {
    let mut steps = Steps::new(world);
    let limits = StepLimits { resources, cgroup_parent, ..StepLimits::default() };
    steps.executor = steps.executor.with_limits(limits).unwrap();
    let base = vec![Output::Layers(vec![steps.base])];
    (steps, base)
}

impl Steps {
    /// How a script ends, and what it says.
    pub fn ends(&self, base: &[Output], script: &str) -> (Result<(), StepError>, String) {
        let (result, log) = self.run(base, shell(script));
        (result.map(drop), log.text(LogStream::Stdout) + &log.text(LogStream::Stderr))
    }

    /// Why these limits cannot be kept to.
    pub fn refuses(world: &World, resources: Resources, cgroup_parent: Option<&str>) -> String {
        let cgroup_parent = cgroup_parent.map(str::to_owned);
        let limits = StepLimits { resources, cgroup_parent, ..StepLimits::default() };
        Self::new(world).executor.with_limits(limits).err().unwrap().to_string()
    }
}

/// A process of its own with a step in control groups that would run for ever.
pub fn hang_in_groups(groups: &str, seconds: &str) -> ExitCode {
    let world = World::new(enter().unwrap()).in_groups(Some(groups.to_owned()));
    let (steps, base) = limited(&world, Resources::default()).unwrap();
    let _ = steps.ends(&base, &format!("sleep {seconds}"));
    ExitCode::SUCCESS
}

pub fn a_step_may_ask_for_a_parent_of_its_own(world: &World) {
    let Some(groups) = &world.groups else { return };
    let steps = Steps::new(world);
    let mut exec = shell("grep -c :/$ /proc/self/cgroup");
    exec.limits.cgroup_parent = Some(groups.clone());
    let (result, log) = steps.run(&[Output::Layers(vec![steps.base])], exec.clone());
    assert!(result.is_ok() && log.text(LogStream::Stdout).trim() != "0", "{result:?}");
    exec.limits.cgroup_parent = Some("../x".to_owned());
    let (result, _) = steps.run(&[Output::Layers(vec![steps.base])], exec);
    assert!(result.unwrap_err().to_string().starts_with("`../x` cannot be the parent of control groups"));
}

pub fn only_insecure_steps_may_do_all(world: &World) {
    let steps = Steps::new(world);
    let base = [Output::Layers(vec![steps.base])];
    for (security, expected) in [(Security::Sandbox, "no\n"), (Security::Insecure, "yes\n")] {
        let exec = Exec { security, ..shell("mount -t tmpfs x /tmp 2> /dev/null && echo yes || echo no") };
        let (result, log) = steps.run(&base, exec);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(log.text(LogStream::Stdout), expected);
    }
}

pub fn layers_hold_what_commands_did(world: &World) {
    let steps = Steps::new(world);
    let first = steps.sh(&[steps.base], "echo one > /one; rm /data/file; cat /etc/hosts > /dev/null");
    assert_eq!(first.len(), 2);
    assert_eq!((first[0], first[1].origin), (steps.base, Origin::Built));
    assert_eq!(steps.paths(&first[1]), ["data", "data/file", "one"]);
    let second = steps.sh(&first, "test ! -e /data/file && rm -rf /data && mkdir /data && cat /one > /data/two");
    assert_eq!(steps.paths(&second[2]), ["data", "data/two"]);
    let stored = second.iter().map(|layer| steps.store.layer(&layer.diff_id).unwrap().unwrap()).collect();
    let view = View::new(stored);
    assert_eq!(view.read(b"data/two", 100).unwrap().unwrap(), b"one\n");
    assert!(view.entry(b"data/old").is_none());
    let third = steps.sh(&second, "cat /data/two; test ! -e /data/old");
    assert!(steps.paths(&third[3]).is_empty());
}

pub fn the_same_command_makes_the_same_content(world: &World) {
    let steps = Steps::new(world);
    let content = |layers: Vec<Layer>| steps.store.layer(&layers[1].diff_id).unwrap().unwrap().content();
    let script = "mkdir /d; echo x > /d/f; ln /d/f /d/g; ln -s f /d/l; chmod 4711 /d/f";
    assert_eq!(content(steps.sh(&[steps.base], script)), content(steps.sh(&[steps.base], script)));
}

pub fn failures_leave_nothing(world: &World) {
    let steps = Steps::new(world);
    let base = [Output::Layers(vec![steps.base])];
    let layers = || fs::read_dir(steps.store.root().join("layers")).unwrap().count();
    let before = layers();
    let (result, log) = steps.run(&base, shell("echo out; echo err >&2; exit 7"));
    assert!(matches!(result, Err(StepError::ExitCode(7))), "{result:?}");
    assert_eq!((log.text(LogStream::Stdout), log.text(LogStream::Stderr)), ("out\n".into(), "err\n".into()));
    let (result, log) = steps.run(&base, Exec { args: vec!["nothing".into()], ..shell("") });
    assert!(matches!(result, Err(StepError::ExitCode(127))), "{result:?}");
    assert_eq!(log.text(LogStream::Stderr), "exec: \"nothing\": executable file not found in $PATH\n");
    let (result, _) = steps.run(&base, Exec { user: "eve".into(), ..shell("true") });
    assert!(result.unwrap_err().to_string().contains("unable to find user `eve`"));
    assert_eq!(layers(), before);
    steps.nothing_is_left();
}

pub fn a_failed_step_can_be_entered(world: &World) {
    let mut steps = Steps::new(world);
    steps.executor = steps.executor.keeping_failed();
    let base = [Output::Layers(vec![steps.base])];
    let exec = Exec { cwd: "/data".into(), ..shell("echo made > /made; rm file; chmod 750 /; A=1; false") };
    let exec = Exec { env: vec!["PATH=/bin".into(), "OF_STEP=yes".into()], ..exec };
    let (result, _, id) = steps.run_as(&base, exec);
    assert!(matches!(result, Err(StepError::ExitCode(1))), "{result:?}");
    let mut container = steps.executor.take_failed(id).unwrap();
    assert!(steps.executor.take_failed(id).is_none());
    assert_eq!(container.shells()[0], ["/bin/sh"]);
    let mut says = |script: &str| {
        let output = Mutex::new(Vec::new());
        let on_output = |_: LogStream, bytes: &[u8]| output.lock().unwrap().extend_from_slice(bytes);
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let status = container.command(args).run(&on_output, &Cancel::new()).unwrap();
        (status, String::from_utf8(output.into_inner().unwrap()).unwrap())
    };
    let (status, output) =
        says("cat /made; test -e file; echo $? $OF_STEP; pwd; stat -c %a /; echo more > /more; exit 3");
    assert_eq!((status, &*output), (ExitStatus::Code(3), "made\n1 yes\n/data\n750\n"));
    assert_eq!(says("cat /more").1, "more\n");
    drop(container);
    steps.nothing_is_left();
}

pub fn layers_can_be_entered(world: &World) {
    let steps = Steps::new(world);
    let layers = steps.sh(&[steps.base], "echo one > /one; chmod 711 /");
    let mut container = Container::open(&steps.executor, &layers, shell(""), &Cancel::new()).unwrap();
    let args = ["/bin/sh", "-c", "test -e /one && test $(stat -c %a /) = 711 && rm /one"].map(str::to_owned).to_vec();
    let status = container.command(args.clone()).run(&|_, _| {}, &Cancel::new()).unwrap();
    assert_eq!(status, ExitStatus::Code(0));
    let again = container.command(args.clone()).run(&|_, _| {}, &Cancel::new()).unwrap();
    assert_eq!(again, ExitStatus::Code(1), "what a command changes stays for the next");
    let error = container.command(vec!["/no/shell".to_owned()]).run(&|_, _| {}, &Cancel::new()).unwrap_err();
    assert!(matches!(error, SandboxError::NotFound { .. }), "{error}");
    let mut other = Container::open(&steps.executor, &layers, shell(""), &Cancel::new()).unwrap();
    let status = other.command(args).run(&|_, _| {}, &Cancel::new()).unwrap();
    assert_eq!(status, ExitStatus::Code(0), "and for no other container");
    drop((container, other));
    steps.nothing_is_left();
}

pub fn users_are_those_of_the_image(world: &World) {
    let steps = Steps::new(world);
    let base = [Output::Layers(vec![steps.base])];
    let (result, log) = steps.run(&base, shell("echo $HOME $(id -u)"));
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(log.text(LogStream::Stdout), "/root 0\n");
    if !world.single() {
        let exec = Exec { user: "ada".into(), cwd: "/made/deep".into(), ..shell("echo $HOME $(id -G); touch x") };
        let (result, log) = steps.run(&base, exec);
        assert_eq!(log.text(LogStream::Stdout), "/home/ada 1000 50\n");
        let Ok([Output::Layers(layers)]) = result.as_deref() else { panic!("{result:?}") };
        let stored = steps.store.layer(&layers[1].diff_id).unwrap().unwrap();
        let owners: Vec<(u32, u32)> = stored.index().entries().map(|entry| (entry.uid, entry.gid)).collect();
        assert_eq!(owners, [(1000, 1000); 3]);
        assert_eq!(steps.paths(&layers[1]), ["made", "made/deep", "made/deep/x"]);
    }
}

pub fn an_empty_root_is_no_input(world: &World) {
    let steps = Steps::new(world);
    let mut exec = Exec { args: vec!["/bin/true".into()], ..shell("") };
    exec.mounts[0].kind = MountKind::Bind { input: None, selector: String::new() };
    let (result, _) = steps.run(&[], exec);
    assert!(matches!(result, Err(StepError::ExitCode(127))), "{result:?}");
}

pub fn every_kind_of_file_is_kept(world: &World) {
    let steps = Steps::new(world);
    let script = "mkdir /k; cd /k; mkfifo p; echo f > f; ln f h; ln -s nowhere s; mkdir -m 1777 t; touch 'a b'";
    let layers = steps.sh(&[steps.base], script);
    let stored = steps.store.layer(&layers[1].diff_id).unwrap().unwrap();
    let kind = |path: &[u8]| stored.index().get(path).unwrap().kind;
    assert_eq!(kind(b"k/p"), EntryKind::Fifo);
    assert_eq!(kind(b"k/s"), EntryKind::Symlink);
    assert_eq!((kind(b"k/f"), kind(b"k/h")), (EntryKind::File, EntryKind::HardLink));
    assert_eq!(stored.index().get(b"k/t").unwrap().mode, 0o1777);
    assert_eq!(stored.index().get(b"k/a b").unwrap().size, 0);
    let again = steps.sh(&layers, "test -p /k/p && cat /k/h");
    assert!(steps.paths(&again[2]).is_empty());
}
