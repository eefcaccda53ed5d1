//! What a RUN sees of the world around it, against what it sees under buildah with crun: mounts, users, environment,
//! devices, capabilities and limits. Where the two differ, kiln does as Docker and BuildKit do, and the list says so.

use kiln_tests::buildah::Buildah;
use kiln_tests::{Tree, World, command};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const STEPS: [&str; 4] = ["root-facts", "out/app-facts", "out/number-facts", "out/group-facts"];

type Facts = BTreeMap<String, String>;

/// Mounts that come twice count once.
fn facts(tree: &Tree, step: &str) -> Facts {
    let text = tree.text(step);
    text.lines()
        .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A fact; what it is here and there, in any of the steps; and why. See [`matches`].
type Difference = (&'static str, &'static str, &'static str, &'static str);

const DIFFERENCES: &[Difference] = &[
    ("control groups", "/", "*", "Docker's steps are in a control group namespace of their own"),
    ("mount /sys/fs/cgroup*", "*", "*", "kiln shows a step's own groups, and those of version 1 only if it has some"),
    ("mount /dev", "tmpfs rw,nosuid", "tmpfs rw,nosuid,noexec", "runc's has no noexec"),
    ("mount /etc/hosts", "* ro,nosuid,nodev,noexec", "* rw", "read-only under BuildKit"),
    ("mount /etc/resolv.conf", "* ro,nosuid,nodev,noexec", "* rw", "read-only under BuildKit"),
    ("mount /etc/hostname", "none", "*", "BuildKit has none"),
    ("mount /run/.containerenv", "none", "*", "Podman's own mark"),
    ("mount /proc/acpi", "tmpfs ro,nosuid,nodev,noexec", "tmpfs ro", "as strict as what it hides"),
    ("mount /proc/scsi", "*", "*", "depends on the kernel; Docker hides it"),
    ("mount /proc/asound", "*", "*", "depends on the kernel; Docker hides it"),
    ("mount /proc/bus", "proc ro,nosuid,nodev,noexec", "proc ro", "a copy of the mount around it"),
    ("mount /proc/fs", "proc ro,nosuid,nodev,noexec", "proc ro", "a copy of the mount around it"),
    ("mount /proc/irq", "proc ro,nosuid,nodev,noexec", "proc ro", "a copy of the mount around it"),
    ("mount /proc/sys", "proc ro,nosuid,nodev,noexec", "proc ro", "a copy of the mount around it"),
    ("mount /proc/interrupts", "tmpfs rw,nosuid", "none", "Docker hides it since 28"),
    ("seen of /proc/interrupts", "/proc/interrupts", "/proc/interrupts 1", "Docker hides it since 28"),
    ("mount /proc/kmsg", "tmpfs rw,nosuid", "none", "the kernel's log; nobody in a step may read it anyway"),
    ("mount /proc/*", "tmpfs rw,nosuid", "devtmpfs ro", "hidden by the step's own null device, not the machine's"),
    ("mount /sys/dev", "none", "tmpfs ro", "Podman hides it, Docker does not"),
    ("mount /sys/firmware", "tmpfs ro,nosuid,nodev,noexec", "tmpfs ro", "as strict as what it hides"),
    ("mount /sys/devices/virtual/powercap", "tmpfs ro*", "*", "Docker hides it"),
    ("environment", "* HOME=/ *", "*", "runc sets HOME for users without an entry, crun does not"),
    ("own address", "known", "", "BuildKit has the host name in /etc/hosts"),
];

fn is_accepted(name: &str, ours: &str, theirs: &str) -> bool {
    DIFFERENCES
        .iter()
        .any(|(what, here, there, _)| matches(what, name) && matches(here, ours) && matches(there, theirs))
}

/// Each `*` stands for any text.
fn matches(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == value,
        Some((start, rest)) => value.strip_prefix(start).is_some_and(|value| {
            (0..=value.len()).filter(|&at| value.is_char_boundary(at)).any(|at| matches(rest, &value[at..]))
        }),
    }
}

#[test]
fn a_step_sees_what_it_sees_elsewhere() {
    let world = World::new();
    let project = world.project(&[]);
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/likeness");
    command::run(Command::new("cp").arg("-a").arg(files.join(".")).arg(project.path()));
    let theirs = Buildah::new().build_in_containers(project.path()).tree();
    let ours = world.tree(&project);
    let mut found = Vec::new();
    for step in STEPS {
        let (ours, theirs) = (facts(&ours, step), facts(&theirs, step));
        assert!(ours.len() > 60 && theirs.len() > 60, "{ours:?} {theirs:?}");
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let value = |facts: &Facts| facts.get(name).cloned().unwrap_or_else(|| "none".into());
            let (ours, theirs) = (value(&ours), value(&theirs));
            if ours != theirs && !is_accepted(name, &ours, &theirs) {
                found.push(format!("{step}: {name}: `{ours}` against `{theirs}`"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for file in ["root-directories", "out/app-directories"] {
        assert_eq!(ours.text(file), theirs.text(file), "{file}");
    }
}
