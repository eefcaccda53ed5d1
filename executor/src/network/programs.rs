//! The programs that join a network namespace to the machine's network, and what they are told.

use std::path::PathBuf;

use super::NetworkSettings;
use super::launcher::{EXTRA, STDOUT};

/// The interface of a command, as under Docker.
const INTERFACE: &str = "eth0";

/// What joins a namespace to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the package `passt`.
    Pasta,
    /// Of the package of that name.
    Slirp4netns,
    /// Nothing: the namespace has loopback alone.
    Nothing,
}

/// A program that was found.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
}

impl Program {
    /// Those that are installed, the better ones first; a machine that reaches nothing gets by without, if one of
    /// them is there but cannot work.
    pub(super) fn all(settings: &NetworkSettings, online: bool) -> Vec<Self> {
        let find = |kind: Kind, name: &str| (settings.find)(name).map(|path| Self { kind, path });
        let mut found: Vec<Self> =
            [find(Kind::Pasta, "pasta"), find(Kind::Slirp4netns, "slirp4netns")].into_iter().flatten().collect();
        if !online && !found.is_empty() {
            // pasta would look for a route to copy in vain.
            found.retain(|program| program.kind != Kind::Pasta);
            found.push(Self { kind: Kind::Nothing, path: PathBuf::new() });
        }
        found
    }

    /// The file descriptor that it says that it is ready on. slirp4netns writes warnings to standard output, and pasta
    /// closes all others.
    pub(super) fn ready(&self) -> i32 {
        if self.kind == Kind::Slirp4netns { EXTRA } else { STDOUT }
    }

    /// Its arguments. Its standard input is the network namespace.
    pub(super) fn arguments(&self, settings: &NetworkSettings) -> Vec<String> {
        match self.kind {
            Kind::Pasta => pasta(settings),
            Kind::Slirp4netns => slirp4netns(settings),
            Kind::Nothing => Vec::new(),
        }
    }
}

/// See pasta(1).
fn pasta(settings: &NetworkSettings) -> Vec<String> {
    let NetworkSettings { subnet, .. } = settings;
    let (own, gateway, resolver) = (subnet.own().to_string(), subnet.gateway().to_string(), subnet.resolver());
    let mut arguments = strings(&["--quiet", "--foreground", "--netns", "/proc/self/fd/0", "--netns-only"]);
    arguments.extend(strings(&["--config-net", "--ns-ifname", INTERFACE]));
    // It writes its process ID when it is ready.
    arguments.extend(["--pid".to_owned(), format!("/proc/self/fd/{STDOUT}")]);
    // Neither way any port, and no address that means the machine's loopback.
    arguments.extend(strings(&["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]));
    // Addresses of its own, so that those of the machine are the machine's. IPv6 is as on the machine.
    arguments.extend(strings(&["--address", &own, "--netmask", "24", "--gateway", &gateway]));
    if settings.forward_dns {
        arguments.extend(["--dns-forward".to_owned(), resolver.to_string()]);
    }
    arguments
}

/// See slirp4netns(1).
fn slirp4netns(settings: &NetworkSettings) -> Vec<String> {
    let mut arguments = strings(&["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-ipv6"]);
    arguments.extend(strings(&["--enable-sandbox", "--enable-seccomp", "--netns-type=path"]));
    arguments.push(format!("--ready-fd={EXTRA}"));
    arguments.push(format!("--cidr={}", settings.subnet.cidr()));
    if !settings.forward_dns {
        arguments.push("--disable-dns".to_owned());
    }
    arguments.extend(strings(&["/proc/self/fd/0", INTERFACE]));
    arguments
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
