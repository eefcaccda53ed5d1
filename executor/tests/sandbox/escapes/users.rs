//! Users, setuid programs and capabilities of files: what Docker allows works, and gives no more than that.

use std::os::unix::fs::PermissionsExt;

use kiln_executor::sandbox::User;
use libc::{EINVAL, EPERM};

use super::{Attempt, Ground, special};

pub const ALL: &[Attempt] = &[
    special("ids_out_of_range", ids_out_of_range),
    special("owners_out_of_range", owners_out_of_range),
    special("becoming_root_again", becoming_root_again),
    special("setuid_programs_are_bounded", setuid_programs_are_bounded),
    special("capabilities_of_files_are_bounded", capabilities_of_files_are_bounded),
    special("capabilities_of_files_work", capabilities_of_files_work),
    special("reading_what_root_owns", reading_what_root_owns),
];

fn ids_out_of_range(ground: &Ground<'_>) {
    // As root there are all ids; -1 is none.
    let id = if ground.world.identity.in_user_namespace() { "400000" } else { "4294967295" };
    let errors: &[i32] = if ground.world.identity.in_user_namespace() { &[EINVAL, EPERM] } else { &[0] };
    for way in ["setuid", "setgid"] {
        let code = ground.run(&[way, id]).code();
        assert!(errors.contains(&code), "{way}: {code}");
    }
}

fn owners_out_of_range(ground: &Ground<'_>) {
    if ground.world.identity.in_user_namespace() {
        ground.is_stopped(&ground.spec(&["chown", "/data/file", "400000", "400000"]), &[EINVAL]);
    }
}

fn ordinary() -> User {
    User { uid: 1000, gid: 1000, groups: vec![1000] }
}

fn becoming_root_again(ground: &Ground<'_>) {
    if ground.world.single() {
        return;
    }
    for way in ["setuid", "setgid"] {
        let mut spec = ground.spec(&[way, "0"]);
        spec.user = ordinary();
        ground.is_stopped(&spec, &[EPERM]);
    }
}

/// A program in a layer of its own that its file's mode or attributes give power to.
fn mighty(ground: &Ground<'_>, mode: u32, capability: Option<&str>) -> std::path::PathBuf {
    let mut spec = ground.world.spec(&format!(
        "cp /bin/attempt /mighty && cp /bin/busybox /busybox-mighty && chmod {mode:o} /mighty /busybox-mighty{}",
        capability.map(|number| format!(" && attempt setcap /mighty {number}")).unwrap_or_default()
    ));
    spec.root.lowers.push(ground.layer.clone());
    let outcome = ground.world.run(&spec);
    outcome.assert_ok();
    let kept = std::fs::metadata(outcome.upper.join("mighty")).unwrap().permissions().mode();
    assert_eq!(kept & 0o7777, mode);
    outcome.upper
}

fn setuid_programs_are_bounded(ground: &Ground<'_>) {
    if ground.world.single() {
        return;
    }
    let layer = mighty(ground, 0o4755, None);
    let mut spec = ground.world.command(&["/busybox-mighty", "grep", "Cap[PEB]", "/proc/self/status"]);
    spec.root.lowers.push(layer.clone());
    spec.user = ordinary();
    let outcome = ground.world.run(&spec);
    let docker = "00000000a80425fb";
    // busybox gives up what the mode gave it, except for applets that need it; the bound is what counts.
    let bound = outcome.assert_ok().stdout.lines().find(|line| line.starts_with("CapBnd")).unwrap().to_owned();
    assert!(bound.ends_with(docker), "{outcome:?}");
    for (arguments, errors) in [
        (&["mount", "kiln-escape", "/tmp", "tmpfs", "0", ""] as &[&str], EPERM),
        (&["capset"], EPERM),
        (&["sethostname"], EPERM),
        (&["real-time"], EPERM),
    ] {
        let mut spec = ground.spec(arguments);
        spec.args[0] = "/mighty".into();
        spec.root.lowers.push(layer.clone());
        spec.user = ordinary();
        ground.is_stopped(&spec, &[errors]);
    }
}

/// A capability that Docker does not give cannot be had by way of a file: it is not even executed.
fn capabilities_of_files_are_bounded(ground: &Ground<'_>) {
    const SYS_ADMIN: &str = "21";
    let layer = mighty(ground, 0o755, Some(SYS_ADMIN));
    let mut spec = ground.world.command(&["/mighty", "sethostname"]);
    spec.root.lowers.push(layer);
    let refused = ground.world.run(&spec);
    assert!(refused.result.is_err(), "{refused:?}");
}

fn capabilities_of_files_work(ground: &Ground<'_>) {
    if ground.world.single() {
        return;
    }
    const CHOWN: &str = "0";
    let layer = mighty(ground, 0o755, Some(CHOWN));
    for (program, expected) in [("/bin/attempt", EPERM), ("/mighty", 0)] {
        let mut spec = ground.spec(&["chown", "/data/file", "7", "7"]);
        spec.args[0] = program.into();
        spec.root.lowers.push(layer.clone());
        spec.user = ordinary();
        assert_eq!(ground.world.run(&spec).code(), expected, "{program}");
    }
}

/// The owners of the machine's files are not users of the sandbox.
fn reading_what_root_owns(ground: &Ground<'_>) {
    if ground.world.single() {
        return;
    }
    let mut spec = ground.world.spec("cat /closed && echo ESCAPED");
    spec.root.lowers.push(ground.world.layer(|root| {
        std::fs::write(root.join("closed"), "x").unwrap();
        std::fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o600)).unwrap();
    }));
    spec.user = ordinary();
    assert_ne!(ground.world.run(&spec).code(), 0);
}
