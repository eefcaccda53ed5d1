//! Other processes.

use libc::{EBADF, ENOTDIR, EPERM, ESRCH};

use kiln_executor::sandbox::{Mount, MountSource, RunSpec};

use super::{Attempt, Ground, program, special};

pub const ALL: &[Attempt] = &[
    program("killing", &["kill", "{pid}"], &[ESRCH]),
    program("killing_everybody", &["kill-everybody"], &[ESRCH]),
    program("killing_a_thread", &["tgkill", "{pid}"], &[ESRCH]),
    program("queueing_a_signal", &["sigqueue", "{pid}"], &[ESRCH]),
    program("tracing", &["ptrace", "{pid}"], &[ESRCH]),
    program("seizing", &["ptrace-seize", "{pid}"], &[ESRCH]),
    program("opening", &["pidfd-open", "{pid}"], &[ESRCH]),
    program("taking_a_descriptor", &["pidfd-getfd"], &[EPERM]),
    program("limiting", &["prlimit", "{pid}"], &[ESRCH]),
    program("slowing_down", &["setpriority", "{pid}"], &[ESRCH]),
    program("scheduling", &["setscheduler", "{pid}"], &[ESRCH]),
    program("pinning", &["setaffinity", "{pid}"], &[ESRCH]),
    program("comparing", &["kcmp", "{pid}"], &[EPERM]),
    program("migrating", &["migrate-pages", "{pid}"], &[EPERM, ESRCH]),
    program("finding_the_parent", &["parent"], &[ESRCH]),
    program("waving_a_call_through", &["wave-through"], &[EPERM]),
    #[cfg(target_arch = "x86_64")]
    program("changing_a_call", &["change-call"], &[EPERM]),
    program("inherited_descriptors", &["descriptor"], &[EBADF]),
    program("inherited_directories", &["directory"], &[EBADF, ENOTDIR]),
    special("memory_of_this_process", memory_of_this_process),
    special("memory_in_proc", memory_in_proc),
    special("signals_to_the_own_group", signals_to_the_own_group),
    special("two_steps", two_steps),
];

fn memory_of_this_process(ground: &Ground<'_>) {
    let pid = std::process::id().to_string();
    for way in ["vm-read", "vm-write"] {
        ground.is_stopped(&ground.spec(&[way, &pid, "{address}"]), &[ESRCH]);
    }
}

fn memory_in_proc(ground: &Ground<'_>) {
    for pid in [std::process::id(), ground.machine.victim(), std::os::unix::process::parent_id()] {
        for file in ["mem", "maps", "environ", "root", "cwd", "exe", "fd/0", "ns/mnt"] {
            let path = format!("/proc/{pid}/{file}");
            ground.is_stopped(&ground.spec(&["open-read", &path]), &[libc::ENOENT]);
        }
    }
}

/// What goes to the whole group or session does not reach the helper.
fn signals_to_the_own_group(ground: &Ground<'_>) {
    let script = "trap '' TERM INT HUP; kill -TERM 0; kill -INT 0; kill -HUP 0; kill -TERM -1; exit 3";
    assert_eq!(ground.world.sh(script).code(), 3);
    ground.world.sh("true").assert_ok();
}

/// Steps that run at the same time do not see each other.
fn two_steps(ground: &Ground<'_>) {
    let world = ground.world;
    let meeting = MountSource::Directory(world.directory());
    let mounts = vec![Mount { destination: "/meeting".to_owned(), readonly: false, source: meeting }];
    // The shell itself counts, so nothing but the shell is there to be counted.
    let script = |me: &str, other: &str| RunSpec {
        mounts: mounts.clone(),
        ..world.spec(&format!(
            "touch /mine /meeting/{me}; until [ -e /meeting/{other} ]; do sleep 0.01; done; \
             set -- /proc/[0-9]*; echo $#; kill -9 -1 2>/dev/null; \
             touch /meeting/{me}-counted; until [ -e /meeting/{other}-counted ]; do sleep 0.01; done; ls -d /mi*"
        ))
    };
    let specs = [script("one", "other"), script("other", "one")];
    let sandbox = &world.sandbox;
    let outputs = std::thread::scope(|scope| {
        let runs = [&specs[0], &specs[1]].map(|spec| {
            scope.spawn(move || {
                let output = std::sync::Mutex::new(Vec::new());
                let on_output =
                    |_: kiln_solver::LogStream, bytes: &[u8]| output.lock().unwrap().extend_from_slice(bytes);
                sandbox.run(spec, &on_output, &kiln_solver::Cancel::new()).unwrap();
                String::from_utf8(output.into_inner().unwrap()).unwrap()
            })
        });
        runs.map(|run| run.join().unwrap())
    });
    assert_eq!(outputs, ["1\n/mine\n", "1\n/mine\n"]);
}
