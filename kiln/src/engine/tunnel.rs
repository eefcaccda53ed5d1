//! The way to a daemon on another machine: `ssh` forwards a socket here to the one there.
//!
//! It is begun before kiln may enter a user namespace, in which ssh would look for the keys of the wrong user.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::program::is_program;
use crate::error;

/// Where Docker's daemon listens on other machines, where nothing else is said.
const SOCKET: &str = "/var/run/docker.sock";
/// How long a login may take, as with `docker`.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the socket is there: ssh cannot say so.
const PAUSE: Duration = Duration::from_millis(10);

/// A forwarded socket, until this is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    ssh: Child,
    directory: TempDir,
}

/// `[USER@]HOST[:PORT][/SOCKET]`, in words for ssh.
#[derive(Debug, PartialEq, Eq)]
struct Destination<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    socket: String,
}

impl Tunnel {
    /// Has ssh log in; `destination` is what comes behind `ssh://`.
    pub(super) fn open(destination: &str, path: &OsStr) -> Result<Self, String> {
        let destination = Destination::parse(destination)?;
        if !is_program("ssh", path) {
            return Err("`ssh` is not installed".to_owned());
        }
        let directory = tempfile::Builder::new().prefix("kiln-ssh-").tempdir();
        let directory = directory.map_err(|error| format!("cannot make a directory: {}", error::plain_io(&error)))?;
        let mut command = Command::new("ssh");
        command.args(["-N", "-T", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=30", "-L"]);
        command.arg(format!("{}:{}", directory.path().join("docker.sock").display(), destination.socket));
        command.args(destination.user.map(|user| ["-l", user]).iter().flatten());
        command.args(destination.port.map(|port| ["-p", port]).iter().flatten());
        command.arg("--").arg(destination.host);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let ssh = command.spawn().map_err(|error| format!("cannot run `ssh`: {}", error::plain_io(&error)))?;
        let mut tunnel = Self { ssh, directory };
        tunnel.wait()?;
        Ok(tunnel)
    }

    /// Its end here.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn wait(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while !self.socket().exists() {
            if self.ssh.try_wait().is_ok_and(|ended| ended.is_some()) {
                let mut said = String::new();
                let _ = self.ssh.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                let last = said.lines().last().unwrap_or("it did not say why").trim().to_owned();
                return Err(format!("`ssh` failed: {last}"));
            }
            if began.elapsed() > PATIENCE {
                return Err("`ssh` takes too long to log in".to_owned());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

impl<'a> Destination<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let (authority, socket) = text.split_once('/').unwrap_or((text, ""));
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_wrong = host.is_empty() || user.is_some_and(|user| user.is_empty() || user.contains(':'));
        if is_wrong || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(format!("`ssh://{text}` is not of the form `ssh://[USER@]HOST[:PORT][/SOCKET]`"));
        }
        let socket = if socket.is_empty() { SOCKET.to_owned() } else { format!("/{socket}") };
        Ok(Self { user, host, port, socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_those_of_docker() {
        let parsed = |text| Destination::parse(text).unwrap();
        let plain = Destination { user: None, host: "h", port: None, socket: SOCKET.to_owned() };
        assert_eq!(parsed("h"), plain);
        let full = Destination { user: Some("me"), host: "::1", port: Some("22"), socket: "/run/x.sock".to_owned() };
        assert_eq!(parsed("me@[::1]:22/run/x.sock"), full);
        for text in ["", "@h", "me:secret@h", "h:x", "me@:22"] {
            assert!(Destination::parse(text).unwrap_err().contains("is not of the form"), "{text}");
        }
    }
}
