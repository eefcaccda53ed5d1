//! Where commands look names up: `/etc/resolv.conf` and `/etc/hosts`, as files that are shown to them.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::protocol::House;
use super::{HOSTNAME, Network};

/// A machine that a command finds in `/etc/hosts`: its name and address.
type Host = (String, IpAddr);

/// The hosts files of commands that ask for more machines than others, each written once.
pub(super) struct HostsFiles {
    directory: PathBuf,
    /// What all of them end with.
    common: Vec<u8>,
    written: Vec<(Vec<Host>, PathBuf)>,
}

impl HostsFiles {
    /// Files to be written to this directory.
    pub(super) fn new(directory: &Path, common: &[u8]) -> Self {
        Self { directory: directory.to_owned(), common: common.to_owned(), written: Vec::new() }
    }

    /// The file for a command with these machines; none where the one for all will do. What a command asks for
    /// comes first: most look no further than the first line that fits.
    pub(super) fn of(&mut self, hosts: &[Host]) -> io::Result<Option<PathBuf>> {
        if hosts.is_empty() {
            return Ok(None);
        }
        if let Some((_, path)) = self.written.iter().find(|(written, _)| written == hosts) {
            return Ok(Some(path.clone()));
        }
        let path = self.directory.join(format!("hosts-{}", self.written.len() + 1));
        let mut text: Vec<u8> =
            hosts.iter().flat_map(|(name, address)| format!("{address}\t{name}\n").into_bytes()).collect();
        text.extend_from_slice(&self.common);
        write_readable(&path, &text)?;
        self.written.push((hosts.to_vec(), path.clone()));
        Ok(Some(path))
    }
}

impl House {
    /// The file that a command in this network reads as `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self, network: Network) -> &Path {
        match network {
            Network::Namespace(_) => &self.own_resolv_conf,
            Network::Host | Network::None => &self.resolv_conf,
        }
    }
}

/// Writes a file that everybody may read.
pub(super) fn write_readable(path: &Path, contents: &[u8]) -> io::Result<()> {
    std::fs::write(path, contents)?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o644))?)
}

/// The hosts file of the machine, grown by the name that commands have ([`HOSTNAME`]).
pub fn hosts_with_own_name(machine: &[u8]) -> Vec<u8> {
    let mut hosts = machine.to_vec();
    if hosts.last().is_some_and(|&last| last != b'\n') {
        hosts.push(b'\n');
    }
    if hosts.is_empty() {
        hosts.extend_from_slice(b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    hosts.extend_from_slice(format!("127.0.0.1\t{HOSTNAME}\n").as_bytes());
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_hosts_come_first_and_are_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = HostsFiles::new(directory.path(), b"127.0.0.1\tlocalhost\n");
        assert_eq!(files.of(&[]).unwrap(), None);
        let hosts =
            [("db".to_owned(), [10, 0, 0, 1].into()), ("six".to_owned(), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))];
        let path = files.of(&hosts).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "10.0.0.1\tdb\n::1\tsix\n127.0.0.1\tlocalhost\n");
        assert_eq!(files.of(&hosts).unwrap(), Some(path.clone()));
        assert_ne!(files.of(&hosts[..1]).unwrap(), Some(path));
    }
}
