//! The sandbox, with real namespaces and a real root. The helper is this very program, called by another name, so
//! there is no test harness here that would start threads before it is known which of the two it is.
//!
//! Started as root, it runs every case as root and then, as further processes of itself, as an ordinary user with
//! and without a range of ids. Arguments choose cases by parts of their names; `--bench` times a step instead.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is a test through and through, which clippy only sees of functions marked so"
)]

mod bench;
mod cases;
mod devices;
mod escapes;
mod faults;
#[cfg(target_arch = "x86_64")]
mod filter;
mod groups;
mod inherit;
mod insecure;
mod limits;
mod mounted;
mod mounts;
mod network;
mod rootless;
mod steps;
mod terminal;
mod trace;
mod world;

use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use kiln_executor::network::{LAUNCHER_NAME, launcher_main};
use kiln_executor::rootless::{Identity, enter};
use kiln_executor::sandbox::{HELPER_NAME, helper_main};

use world::World;

/// Names the control group that such a process may use.
const GROUPS: &str = "--groups=";

/// Marks a process that another one of these has started as an ordinary user.
const INNER: &str = "--inner";

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_bytes() == HELPER_NAME.as_bytes() {
        helper_main();
    }
    if name.as_bytes() == LAUNCHER_NAME.as_bytes() {
        launcher_main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--hang") {
        return cases::hang(&arguments[1]);
    }
    if arguments.first().is_some_and(|first| first == "--hang-in-groups") {
        return steps::hang_in_groups(&arguments[1], &arguments[2]);
    }
    if arguments.first().is_some_and(|first| first == "--in-own-groups") {
        return groups::in_own_groups();
    }
    if arguments.first().is_some_and(|first| first == "--show") {
        return inherit::show(arguments[1].as_ref());
    }
    if arguments.first().is_some_and(|first| first == "--hang-in-network") {
        return network::hang(&arguments[1]);
    }
    let identity = match enter() {
        Ok(identity) => identity,
        Err(error) => {
            println!("no user namespace: {error}");
            return ExitCode::FAILURE;
        }
    };
    let inner = arguments.iter().any(|argument| argument == INNER);
    let filters: Vec<&str> = arguments.iter().filter(|a| !a.starts_with("--")).map(String::as_str).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--bench-trace") {
        trace::bench::bench(&World::new(identity), &filters);
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--bench") {
        bench::run(&World::new(identity.clone()));
        if !inner && identity == Identity::Root {
            println!(
                "\nas an ordinary user with a range of ids:\n{}",
                rootless::output(rootless::Kind::Range, rootless::Place::Here, &["--bench"]).0
            );
        }
        return ExitCode::SUCCESS;
    }
    let groups = arguments.iter().find_map(|argument| argument.strip_prefix(GROUPS)).map(str::to_owned);
    let delegated = (!inner && identity == Identity::Root).then(|| groups::Delegated::make("root", None));
    let groups = groups.or(delegated.as_ref().and_then(groups::Delegated::name));
    let is_given = |place: &&rootless::Place| arguments.iter().any(|argument| argument == place.flag());
    let place = rootless::PLACES.iter().find(is_given).copied().unwrap_or(rootless::Place::Here);
    let (mut passed, mut failed) = run_cases(&identity, groups, place, &filters);
    if !inner && identity == Identity::Root {
        let (kinds, places) = (rootless::KINDS, rootless::PLACES);
        for (kind, place) in places.iter().flat_map(|place| kinds.iter().map(move |kind| (*kind, *place))) {
            let (more_passed, more_failed) = rootless::run(kind, place, &filters);
            passed += more_passed;
            failed += more_failed;
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases for where this process is.
fn cases_of(place: rootless::Place) -> Vec<&'static (&'static str, cases::Case)> {
    let lists: &[&[_]] = match place {
        rootless::Place::Online => &[network::ONLINE],
        rootless::Place::Offline => &[network::OFFLINE],
        rootless::Place::Unified => &[devices::ALL, devices::UNIFIED],
        rootless::Place::Unguarded => &[devices::UNGUARDED],
        rootless::Place::Here => &[
            cases::ALL,
            devices::ALL,
            limits::ALL,
            faults::ALL,
            groups::ALL,
            inherit::ALL,
            insecure::ALL,
            mounts::ALL,
            mounted::ALL,
            trace::ALL,
        ],
    };
    lists.iter().flat_map(|list| list.iter()).collect()
}

fn run_cases(identity: &Identity, groups: Option<String>, place: rootless::Place, filters: &[&str]) -> (u32, u32) {
    let mode = match identity {
        Identity::Root => "root",
        Identity::UserRange => "range",
        Identity::UserSingle { .. } => "single",
        Identity::NestedRoot => "nested",
    };
    let (mut passed, mut failed) = (0, 0);
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let mut run = |name: &str, case: &dyn Fn()| {
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(case));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {mode}::{name} ... {verdict} ({} ms)", start.elapsed().as_millis());
        if outcome.is_ok() { passed += 1 } else { failed += 1 }
    };
    let world = World::new(identity.clone()).in_groups(groups);
    for (name, case) in cases_of(place).into_iter().filter(|(name, _)| chosen(name)) {
        run(name, &|| case(&world));
    }
    let mut ground = None;
    for (theme, attempt) in escapes::all().filter(|(theme, _)| place.has_escapes(theme)) {
        let name = format!("escapes::{theme}::{}", attempt.name);
        if chosen(&name) {
            let ground = ground.get_or_insert_with(|| escapes::Ground::new(&world));
            run(&name, &|| ground.make(attempt));
        }
    }
    (passed, failed)
}
