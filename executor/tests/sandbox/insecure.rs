//! Commands that may do all there is (`--security=insecure`).

use std::fs;

use kiln_executor::sandbox::{Network, RunSpec, User};
use kiln_solver::{Exec, LogStream, Output, Security};

use crate::cases::Case;
use crate::groups::hierarchies;
use crate::steps::{self, Steps, shell};
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("insecure_commands_have_all_capabilities", insecure_commands_have_all_capabilities),
    ("insecure_commands_see_everything", insecure_commands_see_everything),
    ("insecure_commands_may_mount_and_unshare", insecure_commands_may_mount_and_unshare),
    ("insecure_commands_have_more_devices", insecure_commands_have_more_devices),
    ("only_insecure_steps_may_do_all", steps::only_insecure_steps_may_do_all),
    ("insecure_steps_may_make_control_groups", insecure_steps_may_make_control_groups),
];

fn insecure(world: &World, script: &str) -> RunSpec {
    RunSpec { insecure: true, ..world.spec(script) }
}

fn insecure_commands_have_all_capabilities(world: &World) {
    let all = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    let own = all("CapPrm:");
    assert_ne!(own, "00000000a80425fb", "there is more than Docker gives");
    let script = "grep -E 'Cap|^Seccomp:' /proc/self/status";
    let expected = format!(
        "CapInh:\t{own}\nCapPrm:\t{own}\nCapEff:\t{own}\nCapBnd:\t{}\nCapAmb:\t{own}\nSeccomp:\t0\n",
        all("CapBnd:")
    );
    assert_eq!(world.run(&insecure(world, script)).assert_ok().stdout, expected);
    if !world.single() {
        let mut spec = insecure(world, script);
        spec.user = User { uid: 1000, gid: 1000, groups: vec![1000] };
        assert_eq!(world.run(&spec).assert_ok().stdout, expected, "ordinary users have them, too");
    }
}

fn insecure_commands_see_everything(world: &World) {
    let count = "grep -c -E ' /(proc|sys/firmware)/' /proc/self/mountinfo; cat /proc/keys > /dev/null && echo keys; \
                 test -w /proc/sys/kernel/hostname && echo writable";
    let outcome = world.run(&insecure(world, count));
    assert_eq!(outcome.assert_ok().stdout, "0\nkeys\nwritable\n");
    for network in [Network::Host, Network::None] {
        let mut spec = insecure(
            world,
            "while read a b c d e f g; do test $e = /sys && echo $f; done < /proc/self/mountinfo; true",
        );
        spec.network = network;
        let options = world.run(&spec).assert_ok().stdout.clone();
        assert!(options.starts_with("rw,"), "{options}");
    }
    // The kernel's own settings are the machine's root's.
    let owned = !world.identity.in_user_namespace();
    let change = if owned { "echo changed > /proc/sys/kernel/hostname" } else { "hostname changed" };
    let hostname = &format!("{change} && hostname");
    assert_eq!(world.run(&insecure(world, hostname)).assert_ok().stdout, "changed\n");
    assert_eq!(world.says("hostname"), "buildkitsandbox");
}

fn insecure_commands_may_mount_and_unshare(world: &World) {
    let script = "mkdir /m && mount -t tmpfs none /m && echo x > /m/x && unshare -m -p -f sh -c 'umount /m && ls /m'; \
                  ls /m";
    let outcome = world.run(&insecure(world, script));
    assert_eq!(outcome.assert_ok().stdout, "x\n");
    assert_eq!(outcome.changes(), ["m/"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outcome.upper.to_str().unwrap()));
}

fn insecure_commands_have_more_devices(world: &World) {
    let list =
        "cd /dev; stat -c '%n %F %t:%T %a' kmsg cuse fuse kvm net/tun loop-control loop0 loop7 2> /dev/null; true";
    let found = world.run(&insecure(world, list)).assert_ok().stdout.clone();
    if world.identity.in_user_namespace() {
        assert_eq!(found, "", "no device can be made there");
        return;
    }
    let character = [("kmsg", "1:b"), ("cuse", "a:cb"), ("fuse", "a:e5"), ("kvm", "a:e8"), ("net/tun", "a:c8")];
    let character = character.iter().chain(&[("loop-control", "a:ed")]);
    let character = character.map(|(name, device)| format!("{name} character special file {device} 666\n"));
    let block = ["0", "7"].map(|number| format!("loop{number} block special file 7:{number} 666\n"));
    assert_eq!(found, character.chain(block).collect::<String>());
}

/// In each hierarchy that there is, as root.
fn insecure_steps_may_make_control_groups(world: &World) {
    let steps = Steps::new(world);
    let base = [Output::Layers(vec![steps.base])];
    let script = "n=0; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do \
                  test -d $d && test ! -L $d && test -e $d/cgroup.procs && mkdir $d/of-the-step && n=$((n+1)); done; \
                  echo $n";
    let (result, log) = steps.run(&base, Exec { security: Security::Insecure, ..shell(script) });
    assert!(result.is_ok(), "{result:?} {}", log.text(LogStream::Stderr));
    let (mounts, root) = (hierarchies(), !world.identity.in_user_namespace());
    if root {
        let said = log.text(LogStream::Stdout);
        assert_eq!(said.lines().last().unwrap(), mounts.len().to_string(), "{said}");
    }
    // A name of theirs has the number of this process.
    let name = format!("kiln-{}-", std::process::id());
    let left = mounts.iter().flat_map(|(mount, _)| fs::read_dir(mount).into_iter().flatten()).flatten();
    let left: Vec<_> = left.filter(|group| group.file_name().to_string_lossy().starts_with(&name)).collect();
    assert!(left.is_empty(), "{left:?}");
}
