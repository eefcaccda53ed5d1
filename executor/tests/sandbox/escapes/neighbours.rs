//! What processes of the machine offer each other.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::Arc;

use kiln_executor::sandbox::{FileIndex, Network, RunSpec};
use libc::{ECONNREFUSED, EIDRM, EINVAL, ENOENT, EPERM};

use super::{Attempt, Ground, offline, program, special};

pub const ALL: &[Attempt] = &[
    special("shared_memory", shared_memory),
    special("queue", queue),
    special("abstract_socket", abstract_socket),
    special("socket_in_a_directory", socket_in_a_directory),
    special("loopback_of_the_machine", loopback_of_the_machine),
    program("interface_down", &["interface", "lo", "0"], &[EPERM]),
    program("buffers_beyond_all_limits", &["force-buffer"], &[EPERM]),
    offline("own_interface_down", &["interface", "lo", "0"], &[EPERM]),
    special("sockets_of_the_machine_in_proc", sockets_of_the_machine_in_proc),
];

/// The same command in the networks that are not the machine's: none, and one that it was given.
fn elsewhere(spec: &RunSpec) -> [RunSpec; 2] {
    let none = RunSpec { network: Network::None, ..spec.clone() };
    let given = RunSpec {
        network: Network::Namespace(FileIndex(0)),
        files: vec![Arc::new(namespace().into())],
        ..spec.clone()
    };
    [none, given]
}

/// A network namespace with loopback alone.
fn namespace() -> File {
    let script = "ip link set lo up && echo ready && cat";
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    namespace
}

/// Makes something with `ipcmk`; its key and id.
fn make(option: &str, more: &[&str]) -> (String, String) {
    let output = Command::new("ipcmk").arg(option).args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let id = text.split_whitespace().last().unwrap().to_owned();
    let table = match option {
        "--shmem" => "shm",
        "--semaphore" => "sem",
        _ => "msg",
    };
    let table = std::fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap();
    let mut rows = table.lines().skip(1).map(|line| line.split_whitespace());
    let key = rows.find_map(|mut row| {
        let key = row.next();
        key.filter(|_| row.next() == Some(&id))
    });
    let key = key.unwrap().to_owned();
    (key, id)
}

fn shared_memory(ground: &Ground<'_>) {
    for (option, more, way, remove) in [
        ("--shmem", &["4096"] as &[&str], "shm", "--shmem-id"),
        ("--semaphore", &["1"], "sem", "--semaphore-id"),
        ("--queue", &[], "msg", "--queue-id"),
    ] {
        let (key, id) = make(option, more);
        let by_key = ground.run(&[way, &key]);
        let by_id = ground.run(&["shmat", &id]);
        let removed = Command::new("ipcrm").args([remove, &id]).status().unwrap();
        assert_eq!(by_key.code(), ENOENT, "{way}");
        assert!([EINVAL, EIDRM].contains(&by_id.code()), "{by_id:?}");
        assert!(removed.success(), "{way} of the machine is gone");
    }
}

fn queue(ground: &Ground<'_>) {
    // What the machine has would be seen in its own mount of queues.
    ground.is_stopped(&ground.spec(&["mq", "/kiln-escape"]), &[ENOENT]);
    assert_eq!(ground.world.says("ls /dev/mqueue; echo x > /dev/mqueue/mine; ls /dev/mqueue"), "mine");
    assert_eq!(ground.world.says("ls /dev/mqueue"), "");
}

fn abstract_socket(ground: &Ground<'_>) {
    let name = format!("kiln-neighbour-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    for spec in elsewhere(&ground.spec(&["abstract-socket", &name])) {
        ground.is_stopped(&spec, &[ECONNREFUSED]);
    }
    drop(listener);
}

fn socket_in_a_directory(ground: &Ground<'_>) {
    let path = ground.world.directory().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    for way in [path.to_str().unwrap(), "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket"] {
        ground.is_stopped(&ground.spec(&["socket-file", way]), &[ENOENT]);
    }
}

fn loopback_of_the_machine(ground: &Ground<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for spec in elsewhere(&ground.spec(&["loopback", &port])) {
        ground.is_stopped(&spec, &[ECONNREFUSED]);
    }
}

fn sockets_of_the_machine_in_proc(ground: &Ground<'_>) {
    for spec in elsewhere(&ground.world.spec("cat /proc/net/unix /proc/net/tcp | grep -vc 'Inode\\|inode'")) {
        assert_eq!(ground.world.run(&spec).stdout, "0\n");
    }
}
