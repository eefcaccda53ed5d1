//! Which devices a command can make and open: as with Docker where there is a control group for it, and else those of
//! `/dev` alone. What must stay shut is among the escapes.

use std::fs;

use kiln_executor::cgroup::Resources;
use kiln_executor::sandbox::{Mount, MountSource, Sandbox};
use kiln_solver::Cancel;

use crate::cases::{Case, children_named};
use crate::groups::hierarchies;
use crate::steps::limited;
use crate::world::World;

/// Those for everybody.
pub const ALL: &[(&str, Case)] = &[
    ("device_nodes_work_wherever_they_are", device_nodes_work_wherever_they_are),
    ("device_nodes_can_be_removed", device_nodes_can_be_removed),
    ("a_root_with_devices_can_be_made", a_root_with_devices_can_be_made),
    ("devices_are_the_same_under_limits", devices_are_the_same_under_limits),
    ("the_group_for_devices_ends_with_the_build", the_group_for_devices_ends_with_the_build),
];

/// Those for a root that can have no control group.
pub const UNGUARDED: &[(&str, Case)] =
    &[("without_a_group_only_devices_of_dev_are_open", without_a_group_only_devices_of_dev_are_open)];

/// Those for a machine whose control groups are all of version 2.
pub const UNIFIED: &[(&str, Case)] = &[("the_common_group_is_shown", the_common_group_is_shown)];

/// Only the machine's own root can have the group.
fn is_guarded(world: &World) -> bool {
    !world.identity.in_user_namespace()
}

/// Says `open`, or why a device of this kind and number cannot be made or read at a path.
fn try_device(path: &str, device: &str) -> String {
    format!("(mknod {path} {device} && head -c 0 {path} && echo open) 2>&1 | grep -oE 'open$|not permitted|denied'; ")
}

fn device_nodes_work_wherever_they_are(world: &World) {
    if !is_guarded(world) {
        return;
    }
    let cache = MountSource::Directory(world.directory());
    let mounts = [("/cache", cache), ("/memory", MountSource::Tmpfs { size: None })];
    let mounts = mounts.map(|(at, source)| Mount { destination: at.to_owned(), readonly: false, source });
    for place in ["", "/tmp", "/dev", "/cache", "/memory"] {
        let open = ["c 1 3", "c 1 5", "c 1 7", "c 1 8", "c 1 9"];
        let shut = ["b 1 3", "c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 5 1", "c 4 1", "c 10 229", "b 8 0", "b 259 0"];
        let all = open.iter().chain(&shut).enumerate();
        let script: String = all.map(|(number, device)| try_device(&format!("{place}/d{number}"), device)).collect();
        let mut spec = world.spec(&script);
        spec.mounts = mounts.to_vec();
        let expected = "open\n".repeat(open.len()) + &"not permitted\n".repeat(shut.len());
        assert_eq!(world.run(&spec).stdout, expected, "{place}");
    }
    // Those of memory are kept out of shared memory, by Docker as well.
    assert_eq!(world.sh(&try_device("/dev/shm/null", "c 1 3")).stdout, "denied\n");
    assert_eq!(world.says("mknod /n c 1 3; echo x > /n; cat /n; mknod /z c 1 5; head -c 4 /z | wc -c"), "4");
}

fn device_nodes_can_be_removed(world: &World) {
    if !is_guarded(world) {
        return;
    }
    let script = "rm /dev/null && echo text > /dev/null && cat /dev/null && rm /dev/null && \
                  mknod -m 666 /dev/null c 1 3 && echo x > /dev/null && cat /dev/null && mv /dev/zero /dev/nothing && \
                  head -c 2 /dev/nothing | wc -c";
    assert_eq!(world.says(script), "text\n2");
    // What is hidden by it stays hidden.
    assert_eq!(world.says("rm /dev/null; cat /proc/kcore | wc -c"), "0");
}

/// As debootstrap does it.
fn a_root_with_devices_can_be_made(world: &World) {
    if !is_guarded(world) {
        return;
    }
    let script = "mkdir -p /new/dev /new/bin && cp /bin/busybox /new/bin/ && mknod -m 666 /new/test-dev-null c 1 3 && \
                  echo test > /new/test-dev-null && rm /new/test-dev-null && cd /new/dev && \
                  mknod -m 666 null c 1 3 && mknod -m 666 zero c 1 5 && mknod -m 600 console c 5 1 && \
                  mknod -m 660 sda b 8 0 && busybox chroot /new /bin/busybox sh -c 'echo x > /dev/null; \
                  busybox head -c 3 /dev/zero | busybox wc -c'";
    let outcome = world.sh(script);
    assert_eq!(outcome.assert_ok().stdout, "3\n");
    // The layer has them, and the next command can open as much of them.
    assert!(fs::symlink_metadata(outcome.upper.join("new/dev/sda")).is_ok());
    let mut spec = world.spec("head -c 2 /new/dev/zero | wc -c; head -c 0 /new/dev/sda 2>&1 | grep -o 'not permitted'");
    spec.root.lowers.push(outcome.upper.clone());
    assert_eq!(world.run(&spec).assert_ok().stdout, "2\nnot permitted\n");
}

fn devices_are_the_same_under_limits(world: &World) {
    if !is_guarded(world) {
        return;
    }
    let Some((steps, base)) = limited(world, Resources::default()) else { return };
    let script = try_device("/null", "c 1 3") + &try_device("/kmsg", "c 1 11") + &try_device("/disk", "b 8 0");
    let (result, said) = steps.ends(&base, &script);
    assert_eq!(said, "open\nnot permitted\nnot permitted\n", "{result:?}");
}

/// The groups of a helper, where the machine shows them.
fn groups_of(helper: rustix::process::Pid) -> Option<usize> {
    let (mount, _) = hierarchies().into_iter().find(|(_, unified)| *unified)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let groups = fs::read_dir(mount.join(own)).unwrap().flatten();
    let name = format!("kiln-{}-", helper.as_raw_pid());
    Some(groups.filter(|group| group.file_name().to_string_lossy().starts_with(&name)).count())
}

/// A sandbox that has run something, and its helper.
fn started(world: &World) -> (Sandbox, rustix::process::Pid) {
    let before = children_named("kiln-sandbox");
    let sandbox = World::sandbox(&world.identity, &world.directory());
    sandbox.run(&world.spec("true"), &|_, _| {}, &Cancel::new()).unwrap();
    let helper = children_named("kiln-sandbox").into_iter().find(|helper| !before.contains(helper)).unwrap();
    (sandbox, helper)
}

fn the_group_for_devices_ends_with_the_build(world: &World) {
    let (sandbox, helper) = started(world);
    let Some(groups) = groups_of(helper) else { return };
    assert_eq!(groups, usize::from(is_guarded(world)));
    drop(sandbox);
    assert_eq!(groups_of(helper), Some(0));
    if !is_guarded(world) {
        return;
    }
    // What a killed one leaves behind is removed by the next that starts.
    let (sandbox, helper) = started(world);
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    drop(sandbox);
    started(world);
    assert_eq!(groups_of(helper), Some(0));
}

fn without_a_group_only_devices_of_dev_are_open(world: &World) {
    let known = "for d in null zero full random urandom; do head -c 1 /dev/$d | wc -c; done; echo x > /dev/null";
    assert_eq!(world.says(known).replace('\n', " "), "0 1 1 1 1");
    let all = ["c 1 3", "c 1 5", "c 1 11", "b 8 0"];
    let places = ["", "/tmp", "/dev", "/dev/shm"].iter().enumerate();
    let tries = places.flat_map(|(at, place)| all.iter().map(move |device| (format!("{place}/d{at}"), device)));
    let script: String = tries.map(|(path, device)| try_device(&path, device) + &format!("rm {path}; ")).collect();
    assert_eq!(world.sh(&script).stdout, "denied\n".repeat(16));
    assert_ne!(world.sh("rm /dev/null").code(), 0, "it is a mount");
    assert_eq!(world.says("ls /sys/fs/cgroup"), "");
}

fn the_common_group_is_shown(world: &World) {
    let script = "cat /proc/self/cgroup | grep 0::; cd /sys/fs/cgroup; test -e cgroup.controllers && echo shown; \
                  grep -x 1 cgroup.procs; (echo 0 > cgroup.procs) 2>&1 | grep -o Read-only; \
                  mkdir x 2>&1 | grep -o Read-only; ls -d kiln* 2> /dev/null";
    assert_eq!(world.sh(script).stdout, "0::/\nshown\n1\nRead-only\nRead-only\n");
}
