//! The network of RUN, as far as it does not depend on that of this machine: the rest is among the sandbox's cases.

use kiln_tests::World;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where programs for networks are not found.
const NOWHERE: &str = "/nonexistent";

fn own_namespace() -> String {
    std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string()
}

#[test]
fn steps_have_a_network_of_their_own() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN readlink /proc/self/ns/net > /one\nRUN readlink /proc/self/ns/net > /two\n\
         RUN --network=none readlink /proc/self/ns/net > /none\nRUN ls /sys/class/net > /interfaces\n",
    )]);
    let tree = world.tree(&project);
    let [one, two, none] = ["one", "two", "none"].map(|name| tree.text(name).trim().to_owned());
    assert_eq!(one, two, "it is used again");
    assert!(one != own_namespace() && none != own_namespace() && none != one, "{one} {none}");
    assert!(["eth0\nlo\n", "lo\n"].contains(&&*tree.text("interfaces")), "{}", tree.text("interfaces"));
}

#[test]
fn the_network_of_the_machine_is_for_those_who_may() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN readlink /proc/self/ns/net > /which\n")]);
    let image = world.image(&project, &["--network=host", "--allow=network.host"]);
    assert_eq!(image.tree().text("which").trim(), own_namespace());
}

/// Something of this machine's that nobody else is to reach.
fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, visits) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counter = visits.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.unwrap().write_all(b"reached");
        }
    });
    (port, visits)
}

#[test]
fn loopback_of_the_machine_is_out_of_reach() {
    let world = World::new();
    let (port, visits) = listener();
    let addresses = ["127.0.0.1", "10.0.2.2", "localhost"];
    let tries: Vec<String> =
        addresses.iter().map(|address| format!("! nc -w 1 {address} {port} < /dev/null")).collect();
    let project = world.project(&[("Dockerfile", &format!("FROM busybox\nRUN {}\n", tries.join(" && ")))]);
    world.build(&project).succeeds();
    assert_eq!(visits.load(Ordering::SeqCst), 0);
    // Where there is but the machine's network, it is reached.
    let project = world.project(&[("Dockerfile", &format!("FROM busybox\nRUN nc 127.0.0.1 {port} < /dev/null\n"))]);
    world.build(&project).env("PATH", NOWHERE).succeeds().says("reached");
    assert_eq!(visits.load(Ordering::SeqCst), 1);
}

#[test]
fn without_programs_for_it_the_network_is_shared_with_a_note() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN readlink /proc/self/ns/net\nRUN readlink /proc/self/ns/net > /which\n",
    )]);
    let outcome = world.build(&project).env("PATH", NOWHERE).succeeds();
    outcome.says(&own_namespace());
    let note =
        "note: commands share the host's network: neither `pasta` (package `passt`) nor `slirp4netns` is installed";
    assert_eq!(outcome.stderr.matches(note).count(), 1, "{outcome}");
}

#[test]
fn names_are_looked_up_as_the_configuration_says() {
    let world = World::new();
    let configuration = std::fs::read_to_string(world.path().join("kiln.toml")).unwrap();
    let dns = "[dns]\nnameservers = [\"192.0.2.53\"]\noptions = [\"ndots:3\"]\nsearchDomains = [\"kiln.example\"]\n";
    world.configure(&format!("{configuration}\n{dns}"));
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN cat /etc/resolv.conf > /resolved\nRUN grep -e kiln-host /etc/hosts > /hosts\n",
    )]);
    let image = world.image(&project, &["--add-host=kiln-host:192.0.2.7", "--add-host=kiln-host6=2001:db8::7"]);
    let tree = image.tree();
    let resolved = tree.text("resolved");
    let servers: Vec<&str> = resolved.lines().filter(|line| line.starts_with("nameserver")).collect();
    assert_eq!(servers, ["nameserver 192.0.2.53"]);
    assert!(resolved.contains("search kiln.example\n") && resolved.contains("options ndots:3\n"), "{resolved}");
    assert_eq!(tree.text("hosts"), "192.0.2.7\tkiln-host\n2001:db8::7\tkiln-host6\n");
}

/// The processes below this one, by number.
fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let parent = |process: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let mut above = parent(process);
        while let Some(next) = above.filter(|next| *next > 1 && *next != ancestor) {
            above = parent(next);
        }
        if above == Some(ancestor) {
            all.insert(process);
        }
    }
    all
}

#[test]
fn nothing_of_a_network_outlives_a_killed_kiln() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo started-$((1+1)); sleep 1000\n")]);
    let mut running = world.build(&project).start();
    running.wait_for("started-2");
    let all = descendants(running.id());
    assert!(all.len() >= 2, "the helper and the step: {all:?}");
    running.signal(Signal::KILL);
    running.finish();
    let deadline = Instant::now() + Duration::from_secs(120);
    let is_alive = |process: &&u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        Path::new(&format!("/proc/{process}")).exists() && !stat.contains(") Z ")
    };
    while let Some(left) = all.iter().find(is_alive) {
        assert!(Instant::now() < deadline, "{left} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
