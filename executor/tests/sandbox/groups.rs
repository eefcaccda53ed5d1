//! Control groups: limits of memory, processors and processes.
//!
//! They are made below groups of the test's own, in every hierarchy that the machine has.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use kiln_executor::cgroup::{CpuTime, Resources, Swap};
use kiln_executor::rootless::enter;
use kiln_solver::StepError;

use crate::cases::{Case, long_time, processes_with, until};
use crate::steps::{self, Steps, limited, limited_below};
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("groups_are_a_steps_own_and_gone_with_it", groups_are_a_steps_own_and_gone_with_it),
    ("limits_can_be_read_by_the_step", limits_can_be_read_by_the_step),
    ("too_much_memory_is_told", too_much_memory_is_told),
    ("a_fork_bomb_ends_at_the_limit_of_its_group", a_fork_bomb_ends_at_the_limit_of_its_group),
    ("groups_of_killed_kilns_are_removed", groups_of_killed_kilns_are_removed),
    ("kilns_own_group_is_the_parent_where_nobody_says", kilns_own_group_is_the_parent_where_nobody_says),
    ("limits_that_cannot_be_kept_to_are_errors", limits_that_cannot_be_kept_to_are_errors),
    ("a_step_may_ask_for_a_parent_of_its_own", steps::a_step_may_ask_for_a_parent_of_its_own),
];

const NOTHING: [PathBuf; 0] = [];

/// What may be limited, if the machine has it.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "hugetlb"];

/// A group in each hierarchy, perhaps an ordinary user's, as systemd delegates them.
pub struct Delegated {
    name: String,
    groups: Vec<PathBuf>,
    home: Option<PathBuf>,
}

impl Delegated {
    /// Makes it, as root. A machine may have no control groups, or not let us make any.
    pub fn make(kind: &str, user: Option<u32>) -> Self {
        let name = format!("kiln-test-{kind}-{}", std::process::id());
        let mut delegated = Self { name, groups: Vec::new(), home: None };
        for (mount, unified) in hierarchies() {
            let group = mount.join(&delegated.name);
            if fs::create_dir(&group).is_ok() {
                delegated.groups.push(group.clone());
                prepare(&mount, &group, unified);
                if unified && user.is_some() {
                    // Where its processes are to begin with: they may be moved about below a common group alone.
                    let home = group.join("home");
                    fs::create_dir(&home).unwrap();
                    delegated.groups.push(home.clone());
                    delegated.home = Some(home.join("cgroup.procs"));
                }
            }
        }
        for group in &delegated.groups {
            for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                let file = group.join(file);
                if file.exists() {
                    chown(file, user, user).unwrap();
                }
            }
        }
        delegated
    }

    /// Its path in every hierarchy; nothing where there is none.
    pub fn name(&self) -> Option<String> {
        (!self.groups.is_empty()).then(|| self.name.clone())
    }

    /// The file that moves a process to where that of its user shall begin.
    pub fn home(&self) -> PathBuf {
        self.home.clone().unwrap_or_default()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in self.groups.iter().rev() {
            assert!(until(|| fs::remove_dir(group).is_ok()), "{} is in use", group.display());
        }
    }
}

/// Gives the groups below a new one what those beside it have.
fn prepare(mount: &Path, group: &Path, unified: bool) {
    if unified {
        for controller in CONTROLLERS {
            let enable = |group: &Path| fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
            let _ = enable(mount).and_then(|()| enable(group));
        }
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !unified && let Ok(value) = fs::read_to_string(mount.join(file)) {
            fs::write(group.join(file), value).unwrap();
        }
    }
}

/// Where hierarchies are mounted that control something, and whether they are of version 2.
pub fn hierarchies() -> Vec<(PathBuf, bool)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mount = PathBuf::from(before.split(' ').nth(4)?);
        let unified = after.starts_with("cgroup2 ");
        let legacy = after.starts_with("cgroup ") && !after.contains("name=");
        (unified || legacy).then_some((mount, unified))
    };
    text.lines().filter_map(parse).collect()
}

/// The groups of kilns that there are below the one of this world.
fn left(world: &World) -> Vec<PathBuf> {
    let name = world.groups.as_deref().unwrap();
    let all = hierarchies().into_iter().flat_map(|(mount, _)| fs::read_dir(mount.join(name)).into_iter().flatten());
    let kilns = all.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("kiln-"));
    kilns.map(|entry| entry.path()).collect()
}

fn has(controller: &str) -> bool {
    let available = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut legacy = text.lines().filter_map(|line| line.split(':').nth(1));
    let mut unified = hierarchies().into_iter().filter(|(_, unified)| *unified);
    legacy.any(|names| names.split(',').any(|name| name == controller))
        || unified.any(|(mount, _)| available(&mount).split_whitespace().any(|name| name == controller))
}

fn groups_are_a_steps_own_and_gone_with_it(world: &World) {
    let Some((steps, base)) = limited(world, Resources::default()) else { return };
    let entered = hierarchies().iter().filter(|(mount, _)| mount.join(world.groups.as_ref().unwrap()).exists()).count();
    // It sees each of its groups as the root, and nothing above.
    let (result, said) = steps.ends(&base, "grep -v name= /proc/self/cgroup | grep -c ':/$'; cat /proc/self/cgroup");
    assert!(result.is_ok(), "{result:?}");
    let (roots, all) = said.split_once('\n').unwrap();
    assert!(roots.parse::<usize>().unwrap() >= entered && !all.contains("kiln-"), "{said}");
    assert_eq!(left(world), NOTHING);
    let write = "for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $d/x; echo 0 > $d/cgroup.procs; done; exit 5";
    let (result, said) = steps.ends(&base, write);
    assert!(matches!(result, Err(StepError::ExitCode(5))), "{result:?}");
    assert!(said.matches("Read-only file system").count() >= 2, "{said}");
    assert_eq!(left(world), NOTHING);
}

fn limits_can_be_read_by_the_step(world: &World) {
    let resources = Resources {
        cpu: has("cpu").then_some(CpuTime { quota: 50_000, period: 100_000 }),
        memory: has("memory").then_some(256 << 20),
        processes: has("pids").then_some(99),
        ..Resources::default()
    };
    let Some((steps, base)) = limited(world, resources) else { return };
    let read = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu.max memory/memory.limit_in_bytes memory.max \
                pids/pids.max pids.max 2> /dev/null; true";
    let (result, said) = steps.ends(&base, read);
    assert!(result.is_ok(), "{result:?}");
    let expected = [("cpu", "50000"), ("memory", "268435456"), ("pids", "99")];
    let expected: Vec<&str> = expected.into_iter().filter(|(name, _)| has(name)).map(|(_, value)| value).collect();
    assert_eq!(said.lines().map(|line| line.trim_end_matches(" 100000")).collect::<Vec<_>>(), expected);
}

fn too_much_memory_is_told(world: &World) {
    let limit = 64 << 20;
    let resources = Resources { memory: Some(limit), swap: Some(Swap::Bytes(limit)), ..Resources::default() };
    let Some((steps, base)) = has("memory").then(|| limited(world, resources)).flatten() else { return };
    for before in ["", "exec "] {
        let (result, said) = steps.ends(&base, &format!("{before}dd if=/dev/zero of=/dev/null bs=200M count=1"));
        let error = result.unwrap_err();
        let StepError::OutOfMemory { limit: told, peak } = error else { panic!("{error:?} {said}") };
        assert_eq!(told, Some(limit));
        assert!(peak.is_none_or(|peak| peak > limit / 2 && peak <= limit), "{peak:?}");
        assert!(error.to_string().starts_with("killed: it wanted more memory than the limit of 64 MiB"), "{error}");
    }
    let (result, _) = steps.ends(&base, "dd if=/dev/zero of=/dev/null bs=20M count=1");
    assert!(result.is_ok(), "{result:?}");
    let (result, _) = steps.ends(&base, "exit 9");
    assert!(matches!(result, Err(StepError::ExitCode(9))), "{result:?}");
    assert_eq!(left(world), NOTHING);
}

/// Root's, too.
fn a_fork_bomb_ends_at_the_limit_of_its_group(world: &World) {
    let resources = Resources { processes: Some(20), ..Resources::default() };
    let Some((steps, base)) = has("pids").then(|| limited(world, resources)).flatten() else { return };
    let long = long_time();
    let bomb = format!("bomb() {{ sleep {long} & bomb | bomb & }}; bomb; exit 8");
    let (result, said) = steps.ends(&base, &bomb);
    assert!(result.is_err(), "{result:?} {said}");
    assert_eq!(processes_with(&format!("sleep\0{long}\0")).len(), 0);
    let (result, said) = steps.ends(&base, &format!("for i in $(seq 50); do sleep {long} & done"));
    assert!(result.is_err() && said.contains("fork"), "{result:?} {said}");
    assert_eq!(processes_with(&format!("sleep\0{long}\0")).len(), 0);
    assert_eq!(left(world), NOTHING);
}

fn groups_of_killed_kilns_are_removed(world: &World) {
    let Some(groups) = &world.groups else { return };
    let long = long_time();
    let place = world.directory();
    let arguments = ["--hang-in-groups", groups, &long];
    let mut kiln = Command::new("/proc/self/exe").args(arguments).env("TMPDIR", &place).spawn().unwrap();
    let sleeping = format!("sleep\0{long}\0");
    let started = until(|| processes_with(&sleeping).len() == 1);
    let seen = left(world);
    kiln.kill().unwrap();
    kiln.wait().unwrap();
    assert!(started && !seen.is_empty());
    assert!(until(|| left(world).is_empty()), "{:?}", left(world));
    // And those of a kiln that was killed together with all that it had started.
    let (mount, _) = hierarchies().into_iter().find(|(mount, _)| mount.join(groups).exists()).unwrap();
    fs::create_dir(mount.join(groups).join("kiln-1-1")).unwrap();
    let (steps, base) = limited(world, Resources::default()).unwrap();
    assert_eq!(left(world), NOTHING);
    assert!(steps.ends(&base, "true").0.is_ok());
}

/// A kiln of its own in a group of its own, as a service manager would start it. Version 2 has it move to a leaf.
fn kilns_own_group_is_the_parent_where_nobody_says(world: &World) {
    let Some(groups) = world.groups.as_ref().filter(|_| has("memory")) else { return };
    let homes: Vec<PathBuf> = hierarchies()
        .into_iter()
        .filter(|(mount, unified)| *unified || !mount.join("cpuset.cpus").exists())
        .map(|(mount, _)| mount.join(groups).join("own"))
        .filter(|home| fs::create_dir(home).is_ok())
        .collect();
    let script = "for home; do echo $$ > $home/cgroup.procs || exit 1; done; exec /proc/$PPID/exe --in-own-groups";
    let place = world.directory();
    let output = Command::new("sh").args(["-c", script, "sh"]).args(&homes).env("TMPDIR", &place).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for home in &homes {
        let left = fs::read_dir(home).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
        let enabled = fs::read_to_string(home.join("cgroup.subtree_control")).unwrap_or_default();
        assert!(left == 0 && enabled.trim().is_empty(), "{}: {left} {enabled}", home.display());
        assert!(until(|| fs::remove_dir(home).is_ok()));
    }
}

/// See [`kilns_own_group_is_the_parent_where_nobody_says`].
pub fn in_own_groups() -> ExitCode {
    let world = World::new(enter().unwrap());
    let before = fs::read_to_string("/proc/self/cgroup").unwrap();
    let resources = Resources { memory: Some(64 << 20), processes: Some(50), ..Resources::default() };
    for _ in 0..2 {
        let (steps, base) = limited_below(&world, resources.clone(), None);
        let (result, said) = steps.ends(&base, "echo fine");
        assert!(result.is_ok() && said == "fine\n", "{result:?} {said}");
        let (result, _) = steps.ends(&base, "dd if=/dev/zero of=/dev/null bs=200M count=1");
        assert!(matches!(result, Err(StepError::OutOfMemory { limit: Some(_), .. })), "{result:?}");
        drop(steps);
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), before, "it is where it was");
    }
    ExitCode::SUCCESS
}

fn limits_that_cannot_be_kept_to_are_errors(world: &World) {
    let memory = |bytes| Resources { memory: Some(bytes), ..Resources::default() };
    let little = Steps::refuses(world, memory(1), None);
    assert!(little.contains("too small"), "{little}");
    let parent = Steps::refuses(world, memory(64 << 20), Some("a/../b"));
    assert!(parent.starts_with("`a/../b` cannot be the parent of control groups"), "{parent}");
    if world.identity.in_user_namespace() && world.groups.is_some() {
        let ours = [Steps::refuses(world, memory(64 << 20), Some("/not-ours"))];
        for error in ours.iter().chain(&[Steps::refuses(world, Resources::default(), Some("/"))]) {
            assert!(error.contains("ermission denied") && error.contains("\nhint: as an ordinary user, "), "{error}");
        }
    }
    if world.groups.is_some() && has("cpuset") {
        let resources = Resources { cpuset_cpus: Some("999".to_owned()), ..Resources::default() };
        let (steps, base) = limited(world, resources).unwrap();
        let error = steps.ends(&base, "true").0.unwrap_err().to_string();
        assert!(error.starts_with("cannot set `cpuset.cpus` to `999` for the control group"), "{error}");
        assert_eq!(left(world), NOTHING);
    }
}
