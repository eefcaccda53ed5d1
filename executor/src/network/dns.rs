//! What `/etc/resolv.conf` says (resolv.conf(5)), by the rules of BuildKit: the machine's, or what the configuration
//! says, and in a network of a command's own without name servers that only the machine reaches.

use super::Subnet;

/// The file of systemd-resolved with the name servers of the network; `/etc/resolv.conf` then has its own address
/// alone.
pub const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// What a configuration says in the place of the machine's `/etc/resolv.conf`. An empty list says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// Options, as in `ndots:1`.
    pub options: Vec<String>,
    /// Domains to look names up in that have none.
    pub search_domains: Vec<String>,
}

/// The contents of `/etc/resolv.conf` of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// In the network of the machine.
    pub host: Vec<u8>,
    /// In a network of the command's own.
    pub own: Vec<u8>,
    /// Whether that one names [`Subnet::resolver`], because only the machine itself reaches its name servers.
    pub forwarded: bool,
}

impl Resolver {
    /// From the machine's `/etc/resolv.conf`; `systemd` reads [`SYSTEMD_RESOLV_CONF`], and is asked where that
    /// counts.
    pub fn new(machine: &str, systemd: &dyn Fn() -> Option<String>, settings: &DnsSettings, subnet: Subnet) -> Self {
        let host = apply(machine, settings);
        let is_stub = nameservers(machine).eq(["127.0.0.53"]);
        let own = match is_stub.then(systemd).flatten() {
            Some(text) => apply(&text, settings),
            None => host.clone(),
        };
        let forwarded = nameservers(&own).next().is_some() && nameservers(&own).all(is_local);
        let own = reachable(&own, forwarded.then(|| subnet.resolver().to_string()));
        Self { host: host.into_bytes(), own: own.into_bytes(), forwarded }
    }
}

/// The addresses of the name servers that a text names.
pub(super) fn nameservers(resolv_conf: &str) -> impl Iterator<Item = &str> {
    resolv_conf.lines().filter_map(|line| value(line, "nameserver"))
}

/// The value of a line with this keyword.
fn value<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    (words.next() == Some(keyword)).then(|| words.next()).flatten()
}

/// What the settings say replaces what the text says of the same thing.
fn apply(text: &str, settings: &DnsSettings) -> String {
    let DnsSettings { nameservers, options, search_domains } = settings;
    let replaced = |keyword: &str| match keyword {
        "nameserver" => !nameservers.is_empty(),
        "options" => !options.is_empty(),
        "search" | "domain" => !search_domains.is_empty(),
        _ => false,
    };
    let kept = text.lines().filter(|line| !line.split_whitespace().next().is_some_and(replaced));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    if !search_domains.is_empty() {
        lines.push(format!("search {}", search_domains.join(" ")));
    }
    lines.extend(nameservers.iter().map(|server| format!("nameserver {server}")));
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    joined(lines)
}

/// The text without name servers that only the machine reaches, with this one in the place of all.
fn reachable(text: &str, forward: Option<String>) -> String {
    let is_unreachable = |line: &&str| value(line, "nameserver").is_some_and(is_local);
    let kept = text.lines().filter(|line| !is_unreachable(line)).map(str::to_owned);
    joined(kept.chain(forward.map(|server| format!("nameserver {server}"))).collect())
}

/// Whether only the machine itself reaches a name server: by loopback, or by the name of an interface.
fn is_local(server: &str) -> bool {
    let loopback = server.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    loopback || server.contains('%')
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(machine: &str, systemd: Option<&str>, settings: &DnsSettings) -> (String, String, bool) {
        let systemd = || systemd.map(str::to_owned);
        let Resolver { host, own, forwarded } = Resolver::new(machine, &systemd, settings, Subnet::choose("", ""));
        (String::from_utf8(host).unwrap(), String::from_utf8(own).unwrap(), forwarded)
    }

    #[test]
    fn what_all_reach_is_kept() {
        let text = "# by hand\nsearch a.example b.example\nnameserver 192.0.2.1\noptions ndots:2\n";
        assert_eq!(resolver(text, None, &DnsSettings::default()), (text.into(), text.into(), false));
        assert_eq!(resolver("", None, &DnsSettings::default()), (String::new(), String::new(), false));
        let two = "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n";
        assert_eq!(resolver(two, None, &DnsSettings::default()), (two.into(), "nameserver 192.0.2.1\n".into(), false));
    }

    #[test]
    fn behind_systemds_stub_is_the_network() {
        let stub = "nameserver 127.0.0.53\noptions edns0\nsearch lan\n";
        let real = "nameserver 192.0.2.9\nsearch lan\n";
        assert_eq!(resolver(stub, Some(real), &DnsSettings::default()), (stub.into(), real.into(), false));
        let expected = "options edns0\nsearch lan\nnameserver 10.0.2.3\n";
        assert_eq!(resolver(stub, None, &DnsSettings::default()), (stub.into(), expected.into(), true));
        // A name server of one's own that listens on loopback, too, is not systemd's.
        let both = "nameserver 127.0.0.1\n";
        assert_eq!(
            resolver(both, Some(real), &DnsSettings::default()),
            (both.into(), "nameserver 10.0.2.3\n".into(), true)
        );
    }

    #[test]
    fn the_configuration_replaces_what_it_names() {
        let machine = "domain old.example\nnameserver 127.0.0.53\noptions edns0\n";
        let settings =
            DnsSettings { nameservers: vec!["192.0.2.7".into(), "2001:db8::7".into()], ..DnsSettings::default() };
        let expected = "domain old.example\noptions edns0\nnameserver 192.0.2.7\nnameserver 2001:db8::7\n";
        assert_eq!(resolver(machine, None, &settings), (expected.into(), expected.into(), false));
        let settings = DnsSettings {
            options: vec!["ndots:1".into(), "timeout:1".into()],
            search_domains: vec!["new.example".into()],
            ..DnsSettings::default()
        };
        let (host, own, forwarded) = resolver(machine, Some("nameserver 192.0.2.9\n"), &settings);
        assert_eq!(host, "nameserver 127.0.0.53\nsearch new.example\noptions ndots:1 timeout:1\n");
        assert_eq!(own, "nameserver 192.0.2.9\nsearch new.example\noptions ndots:1 timeout:1\n");
        assert!(!forwarded);
    }
}
