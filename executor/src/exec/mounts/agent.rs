//! The socket of an ssh agent as a step sees it: one of kiln's own, so that it can have any owner and mode, which
//! passes each connection on to the agent and ends with the step.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kiln_cache::{Scratch, Store};
use kiln_solver::Credential;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::MountError;

/// The name of the socket in its directory.
const SOCKET: &str = "agent";

/// A socket that is passed on for as long as this lives.
pub(super) struct Forwarding {
    listener: UnixListener,
    connections: Arc<Connections>,
    accepting: Option<JoinHandle<()>>,
    directory: Scratch,
}

/// What has to be shut down for the threads to end.
#[derive(Default)]
struct Connections(Mutex<Open>);

#[derive(Default)]
struct Open {
    stopped: bool,
    next: u64,
    streams: HashMap<u64, [UnixStream; 2]>,
}

impl Forwarding {
    /// Begins to listen.
    pub(super) fn start(store: &Store, wanted: &Credential, agent: &Path) -> Result<Self, MountError> {
        let directory = store.scratch()?;
        let failed = |action| {
            let id = wanted.id.clone();
            move |source| MountError::Agent { action, id, source }
        };
        // Nobody to talk to is better told before the command than by it.
        UnixStream::connect(agent).map_err(failed("connect to its socket"))?;
        let listener = listen(directory.path(), wanted).map_err(failed("make a socket"))?;
        let connections = Arc::new(Connections::default());
        let (accepting, agent, open) = (listener.try_clone(), agent.to_owned(), connections.clone());
        let accepting = accepting.map_err(failed("make a socket"))?;
        let thread = std::thread::Builder::new().spawn(move || accept(&accepting, &agent, &open));
        let accepting = Some(thread.map_err(failed("start a thread"))?);
        Ok(Self { listener, connections, accepting, directory })
    }

    /// Where the socket is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.connections.stop();
        // A listener that is shut down accepts nothing more, which wakes its thread.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

/// The path of a socket must be short, that of the store may be long: it goes by the directory's descriptor.
fn listen(directory: &Path, wanted: &Credential) -> io::Result<UnixListener> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    let owner = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid)));
    rustix::fs::chownat(&directory, SOCKET, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&directory, SOCKET, Mode::from_raw_mode(wanted.mode), AtFlags::empty())?;
    Ok(listener)
}

/// Accepts until the listener is shut down; returns when every connection has ended.
fn accept(listener: &UnixListener, agent: &Path, connections: &Connections) {
    std::thread::scope(|scope| {
        loop {
            match listener.accept() {
                Ok((client, _)) => {
                    // Without a thread there is no connection, which the command hears of.
                    let pass_on = move || pass_on(&client, agent, connections);
                    let _ = std::thread::Builder::new().spawn_scoped(scope, pass_on);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if connections.is_stopped() => return,
                // Out of descriptors, it may be: not a reason to be busy.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    });
}

/// One connection, both ways, to its end.
fn pass_on(client: &UnixStream, agent: &Path, connections: &Connections) {
    let Ok(agent) = UnixStream::connect(agent) else { return };
    let Some(number) = connections.add(client, &agent) else { return };
    std::thread::scope(|scope| {
        let back = std::thread::Builder::new().spawn_scoped(scope, || {
            let _ = io::copy(&mut &agent, &mut &*client);
            let _ = client.shutdown(Shutdown::Both);
        });
        if back.is_ok() {
            let _ = io::copy(&mut &*client, &mut &agent);
        }
        let _ = agent.shutdown(Shutdown::Write);
    });
    connections.remove(number);
}

impl Connections {
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where there shall be no more.
    fn add(&self, client: &UnixStream, agent: &UnixStream) -> Option<u64> {
        let streams = [client.try_clone().ok()?, agent.try_clone().ok()?];
        let mut open = self.open();
        if open.stopped {
            return None;
        }
        open.next += 1;
        let number = open.next;
        open.streams.insert(number, streams);
        Some(number)
    }

    fn remove(&self, number: u64) {
        self.open().streams.remove(&number);
    }

    fn stop(&self) {
        let mut open = self.open();
        open.stopped = true;
        for stream in open.streams.values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn is_stopped(&self) -> bool {
        self.open().stopped
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use kiln_cache::Whiteouts;

    use super::*;

    fn wanted(mode: u32) -> Credential {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Credential { id: "default".to_owned(), required: true, uid, gid, mode }
    }

    fn connect(path: &Path) -> io::Result<UnixStream> {
        let directory = std::fs::File::open(path.parent().unwrap())?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
    }

    /// An agent that sends back what it is sent, and the store in a place too long for the path of a socket.
    fn with_echo(test: impl FnOnce(&Store, &Path)) {
        let (short, long) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(&long.path().join("long".repeat(30)), Whiteouts::Trusted).unwrap();
        let agent = short.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok((client, _)) = listener.accept() {
                    scope.spawn(move || io::copy(&mut &client, &mut &client));
                }
            });
            test(&store, &agent);
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        });
    }

    #[test]
    fn connections_are_passed_on_both_ways() {
        with_echo(|store, agent| {
            let forwarding = Forwarding::start(store, &wanted(0o640), agent).unwrap();
            assert_eq!(forwarding.path().metadata().unwrap().permissions().mode() & 0o7777, 0o640);
            for number in 0..50_u8 {
                let (mut one, mut two) = (connect(&forwarding.path()).unwrap(), connect(&forwarding.path()).unwrap());
                let text = vec![number; 100_000];
                let mut back = vec![0; text.len()];
                std::thread::scope(|scope| {
                    let mut writer = one.try_clone().unwrap();
                    scope.spawn(move || writer.write_all(&text).unwrap());
                    one.read_exact(&mut back).unwrap();
                });
                assert!(back.iter().all(|byte| *byte == number));
                two.write_all(b"x").unwrap();
                two.shutdown(Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                two.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"x");
            }
        });
    }

    #[test]
    fn nothing_outlives_the_step() {
        with_echo(|store, agent| {
            let forwarding = Forwarding::start(store, &wanted(0o600), agent).unwrap();
            let path = forwarding.path();
            let mut open = connect(&path).unwrap();
            open.write_all(b"x").unwrap();
            open.read_exact(&mut [0]).unwrap();
            drop(forwarding);
            assert_eq!(open.read(&mut [0]).unwrap(), 0, "it is closed");
            assert!(!path.exists());
        });
    }

    #[test]
    fn no_agent_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Whiteouts::Trusted).unwrap();
        let error = Forwarding::start(&store, &wanted(0o600), &directory.path().join("none")).err().unwrap();
        assert!(error.to_string().contains("the ssh agent `default`: cannot connect to its socket"), "{error}");
    }
}
