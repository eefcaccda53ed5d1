//! The cases. Each runs in every mode: as root, and as an ordinary user with and without a range of ids.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kiln_executor::rootless::enter;
use kiln_executor::sandbox::{ExitStatus, Mount, MountSource, Network, Root, SandboxError, User, hosts_with_own_name};
use kiln_solver::{Cancel, LogStream};

#[cfg(target_arch = "x86_64")]
use crate::filter;
use crate::mounts::whiteout;
use crate::steps;
use crate::terminal;
use crate::world::World;

pub type Case = fn(&World);
type Fill = fn(&Path);

pub const ALL: &[(&str, Case)] = &[
    ("exit_codes_come_back", exit_codes_come_back),
    ("signals_come_back", signals_come_back),
    ("output_is_passed_on_by_stream", output_is_passed_on_by_stream),
    ("long_lines_are_whole", long_lines_are_whole),
    ("environment_is_exactly_what_was_asked", environment_is_exactly_what_was_asked),
    ("working_directory_is_entered_or_made", working_directory_is_entered_or_made),
    ("working_directory_stays_in_the_root", working_directory_stays_in_the_root),
    ("user_and_groups_are_set", user_and_groups_are_set),
    ("unmapped_user_is_a_clear_error", unmapped_user_is_a_clear_error),
    ("capabilities_are_dockers", capabilities_are_dockers),
    ("umask_is_022", umask_is_022),
    ("nothing_of_ours_is_left", nothing_of_ours_is_left),
    ("scratch_has_a_root", scratch_has_a_root),
    ("hidden_mount_points_leave_no_trace", hidden_mount_points_leave_no_trace),
    ("replaced_directories_keep_their_metadata", replaced_directories_keep_their_metadata),
    ("hostile_symlinks_stay_in_the_root", hostile_symlinks_stay_in_the_root),
    ("changes_are_in_overlay_form", changes_are_in_overlay_form),
    ("root_directory_keeps_its_mode", root_directory_keeps_its_mode),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("descendants_die_with_the_command", descendants_die_with_the_command),
    ("cancelling_kills", cancelling_kills),
    ("cancelled_before_it_starts", cancelled_before_it_starts),
    ("dying_takes_everything_along", dying_takes_everything_along),
    ("many_layers_and_long_paths", many_layers_and_long_paths),
    ("more_layers_than_one_overlay_takes", more_layers_than_one_overlay_takes),
    ("devices_are_dockers", devices_are_dockers),
    ("proc_and_sys_are_confined", proc_and_sys_are_confined),
    ("the_machine_is_out_of_sight", the_machine_is_out_of_sight),
    ("names_are_resolved_by_given_files", names_are_resolved_by_given_files),
    ("network_none_has_loopback_alone", network_none_has_loopback_alone),
    ("eight_at_once", eight_at_once),
    ("missing_programs_are_told_apart", missing_programs_are_told_apart),
    ("signals_are_at_their_default", signals_are_at_their_default),
    ("a_missing_layer_is_a_clear_error", a_missing_layer_is_a_clear_error),
    ("a_killed_helper_is_replaced", a_killed_helper_is_replaced),
    ("big_requests_arrive", big_requests_arrive),
    ("the_helpers_file_cannot_be_written_to", the_helpers_file_cannot_be_written_to),
    #[cfg(target_arch = "x86_64")]
    ("dangerous_calls_are_refused", filter::dangerous_calls_are_refused),
    #[cfg(target_arch = "x86_64")]
    ("ordinary_calls_are_allowed", filter::ordinary_calls_are_allowed),
    #[cfg(target_arch = "x86_64")]
    ("unknown_calls_do_not_exist", filter::unknown_calls_do_not_exist),
    #[cfg(target_arch = "x86_64")]
    ("programs_of_32_bits_work_and_are_filtered", filter::programs_of_32_bits_work_and_are_filtered),
    #[cfg(target_arch = "x86_64")]
    ("the_32_bit_way_in_is_filtered_for_all", filter::the_32_bit_way_in_is_filtered_for_all),
    #[cfg(target_arch = "x86_64")]
    ("setuid_programs_keep_working", filter::setuid_programs_keep_working),
    ("a_terminal_is_the_sandboxs_own", terminal::a_terminal_is_the_sandboxs_own),
    ("what_is_typed_is_read", terminal::what_is_typed_is_read),
    ("an_interrupt_goes_to_the_command_in_front", terminal::an_interrupt_goes_to_the_command_in_front),
    ("a_new_size_is_told", terminal::a_new_size_is_told),
    ("a_user_owns_the_terminal", terminal::a_user_owns_the_terminal),
    ("a_command_that_never_was_has_no_terminal", terminal::a_command_that_never_was_has_no_terminal),
    ("processes_left_behind_do_not_hold_the_terminal", terminal::processes_left_behind_do_not_hold_the_terminal),
    ("layers_hold_what_commands_did", steps::layers_hold_what_commands_did),
    ("the_same_command_makes_the_same_content", steps::the_same_command_makes_the_same_content),
    ("failures_leave_nothing", steps::failures_leave_nothing),
    ("a_failed_step_can_be_entered", steps::a_failed_step_can_be_entered),
    ("layers_can_be_entered", steps::layers_can_be_entered),
    ("users_are_those_of_the_image", steps::users_are_those_of_the_image),
    ("an_empty_root_is_no_input", steps::an_empty_root_is_no_input),
    ("every_kind_of_file_is_kept", steps::every_kind_of_file_is_kept),
];

fn exit_codes_come_back(world: &World) {
    for code in [0, 1, 42, 255] {
        assert_eq!(world.sh(&format!("exit {code}")).code(), code);
    }
}

fn signals_come_back(world: &World) {
    // The first process of a namespace is deaf to its own signals, except those that the kernel sends.
    assert_eq!(world.sh("kill -9 $$; exit 3").code(), 3);
    assert_eq!(world.sh("sh -c 'kill -15 $$'; exit $?").code(), 128 + 15);
}

fn output_is_passed_on_by_stream(world: &World) {
    let outcome = world.sh("echo one; echo two >&2; echo three; printf four");
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("one\nthree\nfour", "two\n"));
    // Each word waits until the one before has come through.
    let (seen, place) = (Mutex::new(Vec::new()), world.directory());
    let on_output = |stream: LogStream, bytes: &[u8]| {
        let mut seen = seen.lock().unwrap();
        seen.push((stream, bytes.to_vec()));
        fs::write(place.join(seen.len().to_string()), "").unwrap();
    };
    let wait = "until [ -e /seen/$n ]; do sleep 0.01; done";
    let script =
        format!("n=0; for i in 1 2 3; do echo out; n=$((n+1)); {wait}; echo err >&2; n=$((n+1)); {wait}; done");
    let mut spec = world.spec(&script);
    let source = MountSource::Directory(place.clone());
    spec.mounts = vec![Mount { destination: "/seen".to_owned(), readonly: true, source }];
    world.sandbox.run(&spec, &on_output, &Cancel::new()).unwrap();
    let expected = [(LogStream::Stdout, b"out\n".to_vec()), (LogStream::Stderr, b"err\n".to_vec())];
    assert_eq!(seen.into_inner().unwrap(), [&expected[..]; 3].concat());
}

fn long_lines_are_whole(world: &World) {
    let outcome = world.sh("head -c 1048576 /dev/zero | tr '\\0' x; echo; echo end >&2");
    assert_eq!(outcome.assert_ok().stdout.len(), 1_048_577);
    assert!(outcome.stdout[..1_048_576].bytes().all(|byte| byte == b'x'));
    assert_eq!(outcome.stderr, "end\n");
}

fn environment_is_exactly_what_was_asked(world: &World) {
    let mut spec = world.command(&["env"]);
    spec.env = vec!["PATH=/bin".into(), "A=b c=d".into(), "EMPTY=".into(), "Ü=ü".into()];
    assert_eq!(world.run(&spec).assert_ok().stdout, "PATH=/bin\nA=b c=d\nEMPTY=\nÜ=ü\n");
}

fn working_directory_is_entered_or_made(world: &World) {
    let mut spec = world.spec("pwd; stat -c '%u:%a' . ..");
    spec.cwd = "/data/old".into();
    assert!(world.run(&spec).assert_ok().stdout.starts_with("/data/old\n"));
    let mut spec = world.spec("pwd; stat -c '%u:%a' . ..");
    spec.cwd = "/new/below".into();
    if !world.single() {
        spec.user = User { uid: 1000, gid: 1000, groups: vec![1000] };
    }
    let uid = spec.user.uid;
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, format!("/new/below\n{uid}:755\n{uid}:755\n"));
    assert_eq!(outcome.changes(), ["new/", "new/below/"]);
    let mut spec = world.spec("pwd");
    spec.cwd = "/data/file/x".into();
    assert!(matches!(world.run(&spec).result, Err(SandboxError::Setup { .. })));
}

fn working_directory_stays_in_the_root(world: &World) {
    let layer = world.layer(|root| {
        symlink("../../../../../..", root.join("up")).unwrap();
        symlink("/proc/self/fd/3", root.join("three")).unwrap();
    });
    let mut spec = world.spec("pwd; ls /");
    spec.root.lowers.push(layer.clone());
    spec.cwd = "/up/data".into();
    assert!(world.run(&spec).assert_ok().stdout.starts_with("/data\n"));
    for fd in 3..20 {
        let mut spec = world.spec("pwd; ls");
        spec.cwd = format!("/proc/self/fd/{fd}");
        let outcome = world.run(&spec);
        assert!(matches!(outcome.result, Err(SandboxError::Setup { .. })), "{outcome:?}");
    }
}

fn user_and_groups_are_set(world: &World) {
    if world.single() {
        assert_eq!(world.says("id -u; id -g"), "0\n0");
        return;
    }
    let mut spec = world.spec(
        "id -u; id -g; id -G; echo x > /tmp/mine; stat -c %u:%g /tmp/mine; echo to > /dev/stdout; \
                               touch /bin/no",
    );
    spec.user = User { uid: 1000, gid: 1001, groups: vec![1001, 50] };
    let outcome = world.run(&spec);
    assert_eq!(outcome.stdout, "1000\n1001\n1001 50\n1000:1001\nto\n");
    assert_eq!(outcome.code(), 1);
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
}

fn unmapped_user_is_a_clear_error(world: &World) {
    if world.identity.in_user_namespace() {
        let mut spec = world.spec("true");
        spec.user = User { uid: 400_000, gid: 400_000, groups: Vec::new() };
        let error = world.run(&spec).result.unwrap_err().to_string();
        assert!(error.contains("gid 400000") && error.contains("hint: "), "{error}");
    }
}

fn capabilities_are_dockers(world: &World) {
    let sets = "while read k v; do case $k in Cap*) echo $k$v;; esac; done < /proc/self/status";
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let expected = |own: &str| format!("CapInh:{none}\nCapPrm:{own}\nCapEff:{own}\nCapBnd:{docker}\nCapAmb:{none}");
    assert_eq!(world.says(sets), expected(docker));
    if !world.single() {
        let mut spec = world.spec(sets);
        spec.user = User { uid: 1000, gid: 1000, groups: vec![1000] };
        assert_eq!(world.run(&spec).assert_ok().stdout.trim_end(), expected(none));
    }
}

fn umask_is_022(world: &World) {
    assert_eq!(world.says("umask; mkdir /d; touch /f; stat -c %a /d /f"), "0022\n755\n644");
}

fn nothing_of_ours_is_left(world: &World) {
    let outcome = world.sh("cat /etc/resolv.conf /etc/hosts; ls /proc /sys /dev > /dev/null");
    assert!(outcome.assert_ok().changes().is_empty(), "{:?}", outcome.changes());
    let outcome = world.sh("echo new > /etc/new; rm -f /etc/hosts; rmdir /proc; rm /dev/null; echo done");
    assert!(outcome.stdout.contains("done"));
    assert_eq!(outcome.changes(), ["etc/", "etc/new"]);
}

fn scratch_has_a_root(world: &World) {
    let mut spec = world.command(&["/bin/true"]);
    spec.root.lowers.clear();
    assert!(matches!(world.run(&spec).result, Err(SandboxError::NotFound { .. })));
    let layer = world.layer(|root| {
        fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    });
    let mut spec = world.command(&["/busybox", "ls", "/", "/etc"]);
    spec.root.lowers = vec![layer];
    let outcome = world.run(&spec);
    let expected = "/:\nbusybox\ndev\netc\nproc\nsys\n\n/etc:\nhosts\nresolv.conf\n";
    assert_eq!(outcome.assert_ok().stdout, expected);
    assert!(outcome.changes().is_empty());
}

/// Ways for an image to hide mount points, and what `/etc/resolv.conf` then is.
fn hidden_mount_points_leave_no_trace(world: &World) {
    let hide: &[(&str, Fill)] = &[
        ("dangling symlink", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink("../run/systemd/stub-resolv.conf", root.join("etc/resolv.conf")).unwrap();
        }),
        ("dangling absolute symlinks", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink("/a/b/c", root.join("etc/resolv.conf")).unwrap();
            symlink("/a/b/d", root.join("etc/hosts")).unwrap();
        }),
        ("symlink loop", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink("resolv.conf", root.join("etc/resolv.conf")).unwrap();
        }),
        ("whole directory is a symlink", |root| symlink("usr/etc", root.join("etc")).unwrap()),
        ("directory in place of a file", |root| fs::create_dir_all(root.join("etc/hosts/x")).unwrap()),
        ("file in place of a directory", |root| fs::write(root.join("proc"), "no").unwrap()),
        ("symlink in place of a directory", |root| symlink("data", root.join("proc")).unwrap()),
        ("file in place of /etc", |root| fs::write(root.join("etc"), "no").unwrap()),
        ("symlinks to where we mount", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink("/dev/x", root.join("etc/hosts")).unwrap();
        }),
    ];
    for (what, fill) in hide {
        let mut spec = world.spec("ls -d /proc/self/exe /dev/null > /dev/null && cat /etc/resolv.conf");
        spec.root.lowers.push(world.layer(fill));
        let outcome = world.run(&spec);
        assert_eq!(outcome.assert_ok().stdout, "nameserver 192.0.2.1\n", "{what}");
        assert!(outcome.changes().is_empty(), "{what}: {:?}", outcome.changes());
    }
    let whiteouts = world.sh("echo x > /etc/x; rm /etc/x; rm -rf /etc /dev /proc /sys; mkdir /opt; true");
    whiteouts.assert_ok();
    // Layers of an image that was made elsewhere may hide the stub's entries by whiteouts and opaque directories.
    let hiding = world.layer(|_| {});
    let mut spec = world.spec("true");
    spec.root.lowers = vec![
        world.base.clone(),
        world.layer(|root| {
            fs::create_dir_all(root.join("sys/x")).unwrap();
            fs::create_dir_all(root.join("dev/x")).unwrap();
        }),
    ];
    spec.root.upper = hiding.clone();
    world.run(&spec).assert_ok();
    opaque(world, &hiding.join("etc"));
    let mut spec = world.spec("cat /etc/resolv.conf; ls /etc");
    spec.root.lowers.push(hiding);
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, "nameserver 192.0.2.1\nhosts\nresolv.conf\n");
    assert!(outcome.changes().is_empty(), "{:?}", outcome.changes());
}

fn opaque(world: &World, directory: &Path) {
    let name = if world.identity.in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    fs::create_dir_all(directory).unwrap();
    rustix::fs::setxattr(directory, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
}

fn replaced_directories_keep_their_metadata(world: &World) {
    let layer = world.layer(|root| {
        fs::create_dir_all(root.join("run/lock")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        symlink("/run/lock/r", root.join("etc/resolv.conf")).unwrap();
        fs::set_permissions(root.join("run/lock"), PermissionsExt::from_mode(0o1777)).unwrap();
        if !world.single() {
            std::os::unix::fs::chown(root.join("run/lock"), Some(7), Some(8)).unwrap();
        }
        let time = rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 5 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        for path in ["run/lock", "run"] {
            rustix::fs::utimensat(rustix::fs::CWD, root.join(path), &times, rustix::fs::AtFlags::empty()).unwrap();
        }
    });
    let mut spec = world.spec("stat -c '%a %u %g %Y' /run/lock; stat -c %Y /run; touch /run/lock/x");
    spec.root.lowers.push(layer);
    let outcome = world.run(&spec);
    let owner = if world.single() { "0 0" } else { "7 8" };
    assert_eq!(outcome.assert_ok().stdout, format!("1777 {owner} 1000000\n1000000\n"));
    assert_eq!(outcome.changes(), ["run/", "run/lock/", "run/lock/x"]);
    assert_eq!(outcome.upper.join("run/lock").metadata().unwrap().mode() & 0o7777, 0o1777);
}

fn hostile_symlinks_stay_in_the_root(world: &World) {
    let outside = world.directory();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let layer = world.layer(|root| {
        symlink(&outside, root.join("etc")).unwrap();
        symlink("../../../../../../../tmp", root.join("proc")).unwrap();
    });
    let mut spec = world.spec("cat /etc/resolv.conf; echo overwritten > /etc/victim");
    spec.root.lowers.push(layer);
    assert_eq!(world.run(&spec).assert_ok().stdout, "nameserver 192.0.2.1\n");
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

fn changes_are_in_overlay_form(world: &World) {
    let script = "rm /data/file; rm -rf /data/gone; mkdir /data/gone; echo new > /data/gone/new; \
                  echo more >> /data/old/file; ln -s a /link; mkdir -p /x/y";
    let outcome = world.sh(script);
    let expected = [
        "data/",
        "data/file whiteout",
        "data/gone/",
        "data/gone/new",
        "data/old/",
        "data/old/file",
        "link",
        "x/",
        "x/y/",
    ];
    assert_eq!(outcome.assert_ok().changes(), expected);
    let name = if world.identity.in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(outcome.upper.join("data/gone"), name, &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"y");
    // The upper directory is the next step's highest layer.
    let mut spec = world.spec("cat /data/old/file; ls /data /data/gone");
    spec.root.lowers.push(outcome.upper);
    assert_eq!(world.run(&spec).assert_ok().stdout, "old\nmore\n/data:\ngone\nold\n\n/data/gone:\nnew\n");
}

fn root_directory_keeps_its_mode(world: &World) {
    let layer = world.layer(|root| fs::set_permissions(root, PermissionsExt::from_mode(0o751)).unwrap());
    let mut spec = world.spec("stat -c %a /");
    spec.root.lowers.push(layer);
    assert_eq!(world.run(&spec).assert_ok().stdout, "751\n");
}

fn no_descriptor_leaks(world: &World) {
    // `ls` has one more for the directory that it lists.
    let outcome = world.run(&world.command(&["ls", "/proc/self/fd"]));
    assert_eq!(outcome.assert_ok().stdout, "0\n1\n2\n3\n");
    let all = world.says("for fd in 0 1 2; do readlink /proc/self/fd/$fd; done");
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines[0] == "/dev/null" && lines[1].starts_with("pipe:") && lines[2].starts_with("pipe:"), "{all}");
}

fn descendants_die_with_the_command(world: &World) {
    let long = long_time();
    let outcome = world.sh(&format!(
        "setsid sh -c 'echo alive; touch /alive; sleep {long}' & (sleep {long} &); \
         until [ -e /alive ]; do sleep 0.01; done; echo end"
    ));
    assert_eq!(outcome.assert_ok().stdout, "alive\nend\n");
    assert_eq!(processes_with(&format!("sleep\0{long}\0")), BTreeSet::new());
}

/// Seconds for a command to sleep that no other process of the machine sleeps.
pub fn long_time() -> String {
    format!("1{:09}", std::process::id())
}

pub fn processes_with(text: &str) -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| fs::read_to_string(process.path().join("cmdline")).is_ok_and(|line| line.contains(text)))
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

fn cancelling_kills(world: &World) {
    let cancel = Cancel::new();
    let on_output = |_: LogStream, _: &[u8]| cancel.request();
    let long = long_time();
    let spec = world.spec(&format!("trap '' TERM INT; (sleep {long} &); echo started; sleep {long}"));
    let error = world.sandbox.run(&spec, &on_output, &cancel).unwrap_err();
    assert!(matches!(error, SandboxError::Cancelled));
    assert_eq!(processes_with(&format!("sleep\0{long}\0")), BTreeSet::new());
}

fn cancelled_before_it_starts(world: &World) {
    let cancel = Cancel::new();
    cancel.request();
    let error = world.sandbox.run(&world.spec("true"), &|_, _| {}, &cancel).unwrap_err();
    assert!(matches!(error, SandboxError::Cancelled));
}

/// A process of its own with a command that would run for ever; see [`dying_takes_everything_along`].
pub fn hang(seconds: &str) -> ExitCode {
    let world = World::new(enter().unwrap());
    let on_output = |_: LogStream, _: &[u8]| println!("started");
    let spec = world.spec(&format!("(setsid sleep {seconds} &); echo; sleep {seconds}"));
    let _ = world.sandbox.run(&spec, &on_output, &Cancel::new());
    ExitCode::SUCCESS
}

/// Waits for something that must come about; whether it did, in a time that no machine takes.
pub fn until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn dying_takes_everything_along(_: &World) {
    let seconds = format!("3{}", std::process::id());
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let mut kiln = Command::new("/proc/self/exe")
        .args(["--hang", &seconds])
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    kiln.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let sleeping = format!("sleep\0{seconds}");
    let started = until(|| processes_with(&sleeping).len() == 2);
    kiln.kill().unwrap();
    kiln.wait().unwrap();
    assert!(started);
    assert!(until(|| processes_with(&sleeping).is_empty()), "still there: {:?}", processes_with(&sleeping));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.path().to_str().unwrap()));
}

fn many_layers_and_long_paths(world: &World) {
    let mut spec = world.spec("ls /layers | wc -l; cat /top");
    for number in 0..130 {
        let deep = world.directory().join("x".repeat(200)).join("y".repeat(100));
        fs::create_dir_all(deep.join("layers")).unwrap();
        fs::write(deep.join("layers").join(number.to_string()), "").unwrap();
        fs::write(deep.join("top"), number.to_string()).unwrap();
        spec.root.lowers.push(deep);
    }
    assert_eq!(world.run(&spec).assert_ok().stdout, "130\n129");
}

fn more_layers_than_one_overlay_takes(world: &World) {
    // Of the first ten files the second ten layers remove one each, and the last layer two more.
    let layer = |number: usize| {
        world.layer(|root| {
            fs::create_dir(root.join("layers")).unwrap();
            match number {
                10..20 => whiteout(&root.join(format!("layers/{}", number - 10))),
                509 => [30, 500].iter().for_each(|gone| whiteout(&root.join(format!("layers/{gone}")))),
                _ => fs::write(root.join("layers").join(number.to_string()), "").unwrap(),
            }
        })
    };
    let layers: Vec<PathBuf> = (0..510).map(layer).collect();
    let mut spec = world.spec("cd layers; ls | wc -l; rm 20 505; ls | wc -l; echo again > 20; ls | wc -l; cat 20");
    spec.root.lowers.extend(layers.clone());
    let outcome = world.run(&spec);
    assert_eq!(outcome.assert_ok().stdout, "487\n485\n486\nagain\n");
    assert!(fs::metadata(outcome.upper.join("layers/20")).unwrap().is_file());
    assert!(fs::metadata(outcome.upper.join("layers/505")).unwrap().file_type().is_char_device());
    // A mounted tree may have as many, and leaves nothing where the next one is made.
    let mut spec = world.spec("ls /a/layers | wc -l; ls /b/layers | wc -l");
    for destination in ["/a", "/b"] {
        let tree = Root { lowers: layers.clone(), traced: None, upper: world.directory(), work: world.directory() };
        let source = MountSource::Layers { tree, selector: "/".to_owned() };
        spec.mounts.push(Mount { destination: destination.to_owned(), readonly: true, source });
    }
    assert_eq!(world.run(&spec).assert_ok().stdout, "487\n487\n");
    let mut spec = world.spec("true");
    spec.root.lowers = vec![world.base.clone(); 999];
    let error = world.run(&spec).result.unwrap_err().to_string();
    assert!(error.contains("(1000 layers)") && error.contains("hint: overlayfs takes no more than 999"), "{error}");
}

fn devices_are_dockers(world: &World) {
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(world.says("ls /dev").split_whitespace().collect::<Vec<_>>().join(" "), expected);
    let kinds = "for d in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$d; done";
    let numbers =
        ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"].map(|number| format!("character special file {number} 666"));
    assert_eq!(world.says(kinds), numbers.join("\n"));
    assert_eq!(world.says("echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c"), "4\n4");
    assert_eq!(world.says("echo a > /dev/shm/x; stat -c %a /dev/shm; echo out > /dev/stdout"), "1777\nout");
    assert_ne!(world.sh("cat < /dev/tty").code(), 0);
    assert_eq!(world.says("readlink /dev/fd; readlink /dev/ptmx"), "/proc/self/fd\npts/ptmx");
}

fn proc_and_sys_are_confined(world: &World) {
    // The first process is the command itself, and no other is in sight.
    assert_eq!(world.says("echo $$; echo /proc/[0-9]*"), "1\n/proc/1");
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/x"] {
        assert_ne!(world.sh(&format!("echo x > {path}")).code(), 0, "{path}");
    }
    let core = "/proc/sys/kernel/core_pattern";
    let before = fs::read_to_string(core).unwrap();
    assert_ne!(world.sh(&format!("echo '|/bin/sh' > {core}")).code(), 0);
    assert_eq!(fs::read_to_string(core).unwrap(), before);
    let masked =
        "for f in kcore keys timer_list interrupts; do test -e /proc/$f && cat /proc/$f; done; ls /sys/firmware";
    assert_eq!(world.says(masked), "");
    assert_eq!(world.says("hostname"), "buildkitsandbox");
    let mut named = world.spec("hostname");
    named.hostname = "builder".to_owned();
    assert_eq!(world.run(&named).assert_ok().stdout, "builder\n");
}

fn the_machine_is_out_of_sight(world: &World) {
    let secret = world.directory().join("secret");
    fs::write(&secret, "secret").unwrap();
    assert_ne!(world.sh(&format!("cat {}", secret.display())).code(), 0);
    let mounts = world.says("while read a b c d e f; do echo $e; done < /proc/self/mountinfo");
    let below = |mount: &str| ["/proc", "/sys", "/dev", "/etc"].iter().any(|top| mount.starts_with(top));
    assert!(mounts.lines().all(|mount| mount == "/" || below(mount)), "{mounts}");
    assert_ne!(world.sh("mount -t tmpfs x /tmp").code(), 0);
    assert_ne!(world.sh("umount /proc/sys").code(), 0);
    assert_ne!(world.sh("mknod /sda b 8 0 && cat /sda").code(), 0);
    assert_eq!(world.says("ls /proc/1/root/ | tr '\\n' ' '"), "bin data dev etc proc sys tmp");
}

fn names_are_resolved_by_given_files(world: &World) {
    assert_eq!(world.says("cat /etc/hosts /etc/resolv.conf"), "127.0.0.1 localhost\nnameserver 192.0.2.1");
    assert_ne!(world.sh("echo x >> /etc/hosts").code(), 0);
    let hosts = String::from_utf8(hosts_with_own_name(b"10.0.0.1 printer")).unwrap();
    assert_eq!(hosts, "10.0.0.1 printer\n127.0.0.1\tbuildkitsandbox\n");
}

fn network_none_has_loopback_alone(world: &World) {
    let mut spec = world.spec("ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'");
    spec.network = Network::None;
    assert_eq!(world.run(&spec).assert_ok().stdout, "lo\n1\n");
}

fn eight_at_once(world: &World) {
    let meeting = world.directory();
    let specs: Vec<_> = (0..8)
        .map(|n| {
            let all = "until [ $(ls /meeting | wc -l) = 8 ]; do sleep 0.01; done";
            let mut spec = world.spec(&format!("touch /meeting/{n}; {all}; echo {n} > /n; cat /n; exit {n}"));
            let source = MountSource::Directory(meeting.clone());
            spec.mounts = vec![Mount { destination: "/meeting".to_owned(), readonly: false, source }];
            spec
        })
        .collect();
    let sandbox = &world.sandbox;
    std::thread::scope(|scope| {
        for (number, spec) in specs.iter().enumerate() {
            scope.spawn(move || {
                let output = Mutex::new(Vec::new());
                let on_output = |_: LogStream, bytes: &[u8]| output.lock().unwrap().extend_from_slice(bytes);
                let status = sandbox.run(spec, &on_output, &Cancel::new()).unwrap();
                assert_eq!(status, ExitStatus::Code(number as i32));
                assert_eq!(output.into_inner().unwrap(), format!("{number}\n").into_bytes());
            });
        }
    });
}

fn missing_programs_are_told_apart(world: &World) {
    let layer = world.layer(|root| {
        fs::write(root.join("plain"), "text").unwrap();
        fs::write(root.join("orphan"), "#!/no/such/interpreter\n").unwrap();
        fs::write(root.join("noise"), "noise").unwrap();
        for name in ["orphan", "noise"] {
            fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
    });
    let error = |program: &str| {
        let mut spec = world.command(&[program]);
        spec.root.lowers.push(layer.clone());
        world.run(&spec).result.unwrap_err()
    };
    let missing = error("nothing");
    assert!(matches!(missing, SandboxError::NotFound { .. }));
    assert_eq!(missing.to_string(), "exec: \"nothing\": executable file not found in $PATH");
    assert_eq!(error("/no/thing").to_string(), "exec: \"/no/thing\": no such file or directory");
    assert!(matches!(error("/orphan"), SandboxError::NotFound { .. }));
    assert!(matches!(error("/plain"), SandboxError::NotExecutable { .. }));
    assert!(matches!(error("/data"), SandboxError::NotExecutable { .. }));
    assert_eq!(error("/noise").to_string(), "exec: \"/noise\": exec format error");
    assert!(matches!(error(""), SandboxError::NotFound { .. }));
}

fn signals_are_at_their_default(world: &World) {
    let outcome = world.run(&world.command(&["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]));
    let none = "0000000000000000";
    assert_eq!(outcome.assert_ok().stdout, format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n"));
}

fn a_missing_layer_is_a_clear_error(world: &World) {
    let mut spec = world.spec("true");
    spec.root.lowers.insert(0, "/no/such/layer".into());
    let error = world.run(&spec).result.unwrap_err().to_string();
    assert!(error.starts_with("cannot mount the root for the sandbox: /no/such/layer"), "{error}");
}

fn a_killed_helper_is_replaced(world: &World) {
    world.sh("true").assert_ok();
    let kill = |_: LogStream, _: &[u8]| {
        for helper in children_named("kiln-sandbox") {
            rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
        }
    };
    let error = world.sandbox.run(&world.spec("echo x; sleep 4000"), &kill, &Cancel::new()).unwrap_err();
    assert!(matches!(error, SandboxError::HelperDied), "{error}");
    world.sh("true").assert_ok();
}

pub fn children_named(name: &str) -> Vec<rustix::process::Pid> {
    let own = format!("/proc/self/task/{}/children", rustix::process::getpid());
    let children = fs::read_to_string(own).unwrap();
    let pids = children.split_whitespace();
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(name)))
        .filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

fn big_requests_arrive(world: &World) {
    let mut spec = world.command(&["sh", "-c", "echo ${#A} $#", "sh"]);
    spec.args.extend((0..5000).map(|n| format!("argument {n}")));
    spec.env.extend(["A", "B", "C", "D"].map(|name| format!("{name}={}", "x".repeat(100_000))));
    assert_eq!(world.run(&spec).assert_ok().stdout, "100000 5000\n");
}

fn the_helpers_file_cannot_be_written_to(world: &World) {
    world.sh("true").assert_ok();
    for helper in children_named("kiln-sandbox") {
        let path = format!("/proc/{}/exe", helper.as_raw_pid());
        let error = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap_err();
        // A file that were merely busy could be written to later.
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }
}
