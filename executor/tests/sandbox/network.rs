//! Networks of commands' own. The machine's network is one that this test makes: `Place::Online` of `rootless.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_executor::network::dns::{DnsSettings, Resolver};
use kiln_executor::network::{NetworkSettings, Networks, Subnet, host_address};
use kiln_executor::rootless::{Identity, enter};
use kiln_solver::{Exec, Host, LogStream, Network, Output, Security};

use crate::cases::{Case, until};
use crate::inherit::compile;
use crate::steps::{Steps, shell};
use crate::world::World;

/// The cases for a machine whose network is as `rootless.rs` makes it.
pub const ONLINE: &[(&str, Case)] = &[
    ("others_are_reached_by_pasta", |world| others_are_reached(world, "pasta")),
    ("others_are_reached_by_slirp4netns", |world| others_are_reached(world, "slirp4netns")),
    ("loopback_is_out_of_reach_by_pasta", |world| loopback_is_out_of_reach(world, "pasta")),
    ("loopback_is_out_of_reach_by_slirp4netns", |world| loopback_is_out_of_reach(world, "slirp4netns")),
    ("names_are_asked_for", names_are_asked_for),
    ("steps_after_each_other_share_a_network", steps_after_each_other_share_a_network),
    ("steps_at_once_do_not_share_one", steps_at_once_do_not_share_one),
    ("the_host_is_asked_for_by_name", the_host_is_asked_for_by_name),
    ("a_killed_program_is_replaced", a_killed_program_is_replaced),
    ("programs_die_with_kiln", programs_die_with_kiln),
    ("a_program_that_fails_is_told_of_once", a_program_that_fails_is_told_of_once),
];

/// The cases for a machine without a network.
pub const OFFLINE: &[(&str, Case)] = &[("without_a_way_out_there_is_loopback", without_a_way_out_there_is_loopback)];

/// An address of the machine that is not loopback.
const HOST: &str = "198.51.100.1";
const HOST_IPV6: &str = "2001:db8:1::1";

/// Where the machine's name server listens.
const STUB: &str = "127.0.0.53";

/// What it takes to run steps in networks of their own.
struct Net {
    steps: Steps,
    reach: PathBuf,
}

impl Net {
    fn new(world: &World, programs: &'static [&'static str]) -> Self {
        let find = move |name: &str| {
            let place = programs.iter().find(|program| program.rsplit('/').next() == Some(name))?;
            let places = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(place));
            places.into_iter().find(|path| path.exists())
        };
        Self::finding(world, Box::new(find))
    }

    fn finding(world: &World, find: kiln_executor::network::Find) -> Self {
        let subnet = Subnet::choose("", "");
        let machine = format!("nameserver {STUB}\n");
        let resolver = Resolver::new(&machine, &|| None, &DnsSettings::default(), subnet);
        let root = world.identity == Identity::Root;
        let networks = Networks::new(NetworkSettings { root, subnet, forward_dns: resolver.forwarded, find });
        assert_eq!(resolver.own, b"nameserver 10.0.2.3\n", "what the sandbox of all cases has");
        let steps = Steps::over(world, BTreeMap::new(), |executor| executor.with_networks(networks));
        let reach = compile(&world.directory(), "reach", include_str!("programs/reach.c"));
        Self { steps, reach }
    }

    /// What a step prints, on both streams.
    fn run(&self, exec: Exec) -> (String, String) {
        let layer = self.steps.layer(|root| {
            fs::create_dir(root.join("bin")).unwrap();
            fs::copy(&self.reach, root.join("bin/reach")).unwrap();
        });
        let (outputs, log) = self.steps.run(&[Output::Layers(vec![self.steps.base, layer])], exec);
        let texts = (log.text(LogStream::Stdout), log.text(LogStream::Stderr));
        assert!(outputs.is_ok(), "{outputs:?} {texts:?}");
        texts
    }

    fn says(&self, script: &str) -> String {
        let (stdout, stderr) = self.run(shell(script));
        assert_eq!(stderr, "", "{stdout}");
        stdout
    }

    /// What tells one network namespace from another.
    fn namespace(&self) -> String {
        self.says(NAMESPACE)
    }
}

const NAMESPACE: &str = "readlink /proc/self/ns/net";

fn own_namespace() -> String {
    fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap().to_owned() + "\n"
}

/// Counts who comes, and says something to each.
struct Server {
    address: std::net::SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Server {
    fn tcp(address: &str, says: &'static str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = visits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 5]);
                let _ = stream.write_all(says.as_bytes());
            }
        });
        Self { address, visits }
    }

    /// Says `go` to all as soon as so many have come.
    fn meeting(address: &str, size: usize) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = visits.clone();
        std::thread::spawn(move || {
            let mut here = Vec::new();
            for stream in listener.incoming().take(size) {
                counter.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 5]);
                here.push(stream);
            }
            here.iter_mut().for_each(|stream| stream.write_all(b"go").unwrap());
        });
        Self { address, visits }
    }

    fn udp(address: &str, port: u16, says: &'static str) -> Self {
        let socket = UdpSocket::bind((address, port)).unwrap();
        let (address, visits) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = visits.clone();
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 512]) {
                counter.fetch_add(1, Ordering::SeqCst);
                socket.send_to(says.as_bytes(), from).unwrap();
            }
        });
        Self { address, visits }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

fn others_are_reached(world: &World, program: &'static str) {
    let net = Net::new(world, program_of(program));
    let (tcp, udp) = (Server::tcp(HOST, "by tcp"), Server::udp(HOST, 0, "by udp"));
    let script = format!("reach tcp {HOST} {}; reach udp {HOST} {}", tcp.port(), udp.port());
    assert_eq!(net.says(&script), "by tcp\nby udp\n");
    let interfaces = "for i in /sys/class/net/*; do echo ${i##*/}; done; ip -4 address | grep -o 'inet [0-9.]*'";
    assert_eq!(net.says(interfaces), "eth0\nlo\ninet 127.0.0.1\ninet 10.0.2.100\n");
    // Of all that the machine has, that is.
    assert!(Path::new("/sys/class/net/lo").exists());
    assert_ne!(net.namespace(), own_namespace());
    if Path::new("/proc/net/if_inet6").exists() {
        let six = Server::tcp(HOST_IPV6, "by six");
        // slirp4netns announces its addresses like a router, which the kernel listens to once the link is up.
        let script = format!("for i in $(seq 600); do reach tcp {HOST_IPV6} {} && exit; sleep 0.1; done", six.port());
        assert!(net.says(&script).ends_with("by six\n"));
    }
}

fn program_of(name: &str) -> &'static [&'static str] {
    if name == "pasta" { &["pasta"] } else { &["slirp4netns"] }
}

fn loopback_is_out_of_reach(world: &World, program: &'static str) {
    let net = Net::new(world, program_of(program));
    let mut servers: Vec<Server> = ["127.0.0.1", STUB, "0.0.0.0"]
        .iter()
        .flat_map(|address| [Server::tcp(address, "tcp"), Server::udp(address, 0, "udp")])
        .collect();
    if Path::new("/proc/net/if_inet6").exists() {
        servers.extend([Server::tcp("::1", "tcp"), Server::udp("::1", 0, "udp")]);
    }
    let mut script = String::new();
    for port in servers.iter().map(Server::port) {
        for to in ["127.0.0.1", STUB, "0.0.0.0", "127.255.255.254", "10.0.2.2", "10.0.2.3", "::1", "::"] {
            script += &format!("reach tcp {to} {port} eth0 & reach udp {to} {port} eth0 &\n");
            if !to.contains(':') {
                script += &format!("reach raw {to} {port} eth0 &\n");
            }
        }
        script += &format!("reach tcp 127.0.0.1 {port}; reach udp 127.0.0.1 {port}; reach tcp ::1 {port}\n");
    }
    let said = net.says(&(script + "wait"));
    assert!(!said.contains("tcp\n") && !said.contains("udp\n"), "{said}");
    assert!(said.contains("sent\n"), "frames can be sent: {said}");
    // What was sent has arrived by the time that something sent afterwards has.
    let (last, udp) = (Server::tcp(HOST, "last"), Server::udp(HOST, 0, "last"));
    let reached = net.says(&format!("reach tcp {HOST} {}; reach udp {HOST} {}", last.port(), udp.port()));
    assert_eq!(reached, "last\nlast\n");
    for server in &servers {
        assert_eq!(server.visits.load(Ordering::SeqCst), 0, "{}: {said}", server.address);
    }
    // The machine's unix sockets without a file belong to its network, too.
    let name = format!("kiln-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(net.says(&format!("reach unix {name} || true")), "connect: Connection refused\n");
}

fn names_are_asked_for(world: &World) {
    let stub = Server::udp(STUB, 53, "a name");
    let slirp4netns = Net::new(world, &["slirp4netns"]);
    let net = Net::new(world, &["pasta"]);
    for (net, visits) in [(&slirp4netns, 1), (&net, 2)] {
        assert_eq!(net.says("cat /etc/resolv.conf; reach udp 10.0.2.3 53"), "nameserver 10.0.2.3\na name\n");
        assert_eq!(stub.visits.load(Ordering::SeqCst), visits);
    }
    let mut host = shell("cat /etc/resolv.conf");
    host.network = Network::Host;
    assert_eq!(net.run(host).0, "nameserver 192.0.2.1\n");
}

fn steps_after_each_other_share_a_network(world: &World) {
    let net = Net::new(world, &["pasta"]);
    let first = net.namespace();
    // What listens does not stay.
    assert_eq!(net.says("nc -l -p 9000 > /dev/null & sleep 0.1"), "");
    assert_eq!(net.says("reach tcp 127.0.0.1 9000 || true"), "connect: Connection refused\n");
    assert_eq!(net.namespace(), first);
    let insecure = || net.run(Exec { security: Security::Insecure, ..shell(NAMESPACE) }).0;
    let (one, other) = (insecure(), insecure());
    assert!(one != first && other != first && one != own_namespace(), "{first} {one} {other}");
    assert_eq!(net.namespace(), first);
    for (network, same) in [(Network::Host, true), (Network::None, false)] {
        let (said, _) = net.run(Exec { network, ..shell(NAMESPACE) });
        assert_eq!(said == own_namespace(), same);
        assert_ne!(said, first);
    }
}

fn steps_at_once_do_not_share_one(world: &World) {
    let net = Net::new(world, &["pasta"]);
    // Each stays until all are there.
    let meeting = Server::meeting(HOST, 3);
    let script = format!("{NAMESPACE}; reach tcp {HOST} {}", meeting.port());
    let said: Vec<String> = std::thread::scope(|scope| {
        let steps: Vec<_> = (0..3).map(|_| scope.spawn(|| net.says(&script))).collect();
        steps.into_iter().map(|step| step.join().unwrap()).collect()
    });
    let namespaces: BTreeSet<&str> = said.iter().filter_map(|said| said.lines().next()).collect();
    assert!(namespaces.len() == 3 && !namespaces.contains(own_namespace().trim_end()), "{said:?}");
    assert!(said.iter().all(|said| said.ends_with("go\n")), "{said:?}");
}

fn the_host_is_asked_for_by_name(world: &World) {
    let net = Net::new(world, &["pasta"]);
    let everywhere = Server::tcp("0.0.0.0", "the host");
    let address = host_address().unwrap();
    assert_eq!(address.to_string(), "192.0.2.2");
    let hosts = vec![
        Host { name: "gateway".to_owned(), address },
        Host { name: "localhost".to_owned(), address: [192, 0, 2, 9].into() },
    ];
    let script = format!("grep -E 'gateway|localhost' /etc/hosts; reach tcp {address} {}", everywhere.port());
    let (said, _) = net.run(Exec { hosts, ..shell(&script) });
    let expected = "192.0.2.2\tgateway\n192.0.2.9\tlocalhost\n127.0.0.1 localhost\nthe host\n";
    assert_eq!(said, expected);
    assert_eq!(net.says("grep -c gateway /etc/hosts || true"), "0\n");
    let hosts = vec![Host { name: "a\n127.0.0.1 b".to_owned(), address }];
    let base = [Output::Layers(vec![net.steps.base])];
    assert!(net.steps.run(&base, Exec { hosts, ..shell("true") }).0.is_err());
}

/// The processes that were started by one of these.
fn children_of(parents: &BTreeSet<u32>) -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    numbers.filter(|process| parent(process).is_some_and(|parent| parents.contains(&parent))).collect()
}

fn name_of(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn programs_of(kiln: u32) -> BTreeSet<u32> {
    let is_program = |process: &u32| ["pas", "slirp"].iter().any(|name| name_of(*process).starts_with(name));
    children_of(&BTreeSet::from([kiln])).into_iter().filter(is_program).collect()
}

fn a_killed_program_is_replaced(world: &World) {
    let net = Net::new(world, &["pasta"]);
    let before = programs_of(std::process::id());
    net.namespace();
    let all = programs_of(std::process::id());
    let mut own = all.difference(&before);
    let (Some(&program), None) = (own.next(), own.next()) else { panic!("{before:?} {all:?}") };
    rustix::process::kill_process(pid(program), rustix::process::Signal::KILL).unwrap();
    assert!(until(|| !programs_of(std::process::id()).contains(&program)));
    // The new namespace may have the number of the old one, which is gone.
    assert_ne!(net.namespace(), own_namespace());
    let now = programs_of(std::process::id());
    let mut own = now.difference(&before);
    assert!(own.next().is_some_and(|other| *other != program) && own.next().is_none(), "{before:?} {now:?}");
    drop(net);
    assert!(until(|| programs_of(std::process::id()).is_subset(&before)), "they end with the build");
}

fn pid(number: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(number.cast_signed()).unwrap()
}

/// A process that runs a step for ever, in a network of its own.
pub fn hang(program: &str) -> ExitCode {
    let world = World::new(enter().unwrap());
    let net = Net::new(&world, program_of(program));
    net.says("echo; nc -l -p 9000 > /dev/null & sleep 0.1");
    println!("started");
    net.says("sleep 1000");
    ExitCode::SUCCESS
}

fn programs_die_with_kiln(_: &World) {
    for program in ["pasta", "slirp4netns"] {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let mut kiln = Command::new("/proc/self/exe")
            .args(["--hang-in-network", program])
            .env("TMPDIR", place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        kiln.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let programs = programs_of(kiln.id());
        kiln.kill().unwrap();
        kiln.wait().unwrap();
        assert_eq!(programs.len(), 1, "{program}");
        let gone = |process: &u32| !Path::new(&format!("/proc/{process}")).exists();
        assert!(until(|| programs.iter().all(gone)), "{program} is still there");
    }
}

fn a_program_that_fails_is_told_of_once(world: &World) {
    let none = Net::new(world, &[]);
    let (said, note) = none.run(shell(NAMESPACE));
    assert_eq!(said, own_namespace());
    let expected = "note: commands share the host's network: neither `pasta` (package `passt`) nor `slirp4netns` is \
                    installed\n";
    assert_eq!(note, expected);
    assert_eq!(none.namespace(), own_namespace());
    let broken = Net::finding(world, Box::new(|_| Some("/bin/false".into())));
    let (said, note) = broken.run(shell(NAMESPACE));
    assert_eq!(said, own_namespace());
    let why = "`/bin/false`: it ended at once";
    assert_eq!(note, format!("note: commands share the host's network: {why}; {why}\n"));
    assert_eq!(broken.namespace(), own_namespace());
    // One that works is as good as another.
    let second = Net::finding(
        world,
        Box::new(|name| Some(if name == "pasta" { "/bin/false" } else { "/usr/bin/slirp4netns" }.into())),
    );
    assert_ne!(second.namespace(), own_namespace());
}

fn without_a_way_out_there_is_loopback(world: &World) {
    let net = Net::new(world, &["pasta"]);
    let before = net.namespace();
    assert_ne!(before, own_namespace());
    let script = "for i in /sys/class/net/*; do echo ${i##*/}; done; reach tcp 192.0.2.1 9 || true; \
                  reach tcp 127.0.0.1 9 || true";
    // Loopback answers, if only that nobody listens.
    assert_eq!(net.says(script), "lo\nconnect: Network is unreachable\nconnect: Connection refused\n");
    assert_eq!(net.namespace(), before);
    assert!(programs_of(std::process::id()).is_empty());
    assert_eq!(host_address(), None);
}
