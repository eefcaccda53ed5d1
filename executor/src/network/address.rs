//! Addresses: of network namespaces, which must not hide what the machine reaches, and of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The networks to choose from, all of 256 addresses. The first is what slirp4netns has by default.
const CANDIDATES: [[u8; 3]; 6] =
    [[10, 0, 2], [10, 213, 2], [172, 30, 213], [192, 168, 213], [100, 100, 213], [10, 87, 45]];

/// The IPv4 addresses of a network namespace: 256 of them, of which slirp4netns gives meaning to a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet([u8; 3]);

impl Subnet {
    /// One that hides nothing that the machine is said to reach: by the lines of `/proc/net/route` and the name
    /// servers of its `/etc/resolv.conf`.
    pub fn choose(routes: &str, resolv_conf: &str) -> Self {
        let routes: Vec<Route> = routes.lines().filter_map(Route::parse).filter(|route| route.mask != 0).collect();
        let is_free = |subnet: &Self| {
            !routes.iter().any(|route| route.overlaps(*subnet))
                && !super::dns::nameservers(resolv_conf).any(|server| subnet.has(server))
        };
        let all = || CANDIDATES.into_iter().map(Self);
        all().find(is_free).unwrap_or(Self(CANDIDATES[0]))
    }

    fn address(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }

    fn has(self, address: &str) -> bool {
        address.parse::<Ipv4Addr>().is_ok_and(|address| address.octets()[..3] == self.0)
    }

    /// In the form `10.0.2.0/24`.
    pub(super) fn cidr(self) -> String {
        format!("{}/24", self.address(0))
    }

    /// The command's own address.
    pub fn own(self) -> Ipv4Addr {
        self.address(100)
    }

    /// Where everything else is reached through.
    pub fn gateway(self) -> Ipv4Addr {
        self.address(2)
    }

    /// Where names can be asked for: what comes there goes to the machine's own name server.
    pub fn resolver(self) -> Ipv4Addr {
        self.address(3)
    }
}

/// A line of `/proc/net/route`. Numbers are in the byte order of the network, printed as those of the machine.
struct Route {
    destination: u32,
    mask: u32,
}

impl Route {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |field: &str| u32::from_str_radix(field, 16).map(u32::from_be).ok();
        Some(Self { destination: number(fields.get(1)?)?, mask: number(fields.get(7)?)? })
    }

    fn overlaps(&self, subnet: Subnet) -> bool {
        let mask = self.mask & 0xffff_ff00;
        u32::from(subnet.address(0)) & mask == self.destination & mask
    }
}

/// Whether the machine has a way to others, by `/proc/net/route` and `/proc/net/ipv6_route`.
pub(super) fn is_online(routes: &str, ipv6_routes: &str) -> bool {
    let ipv4 = routes.lines().filter_map(Route::parse).any(|route| route.mask == 0);
    // Destination and prefix length come first; a machine without IPv6 has a default route by `lo`, which refuses all.
    let ipv6 = ipv6_routes
        .lines()
        .any(|line| line.starts_with("00000000000000000000000000000000 00 ") && !line.trim_end().ends_with(" lo"));
    ipv4 || ipv6
}

/// The address that the machine has to others, which its own services can be reached by; none where it has none.
/// Nothing is sent for it.
pub fn host_address() -> Option<IpAddr> {
    // Addresses for documentation: any would do that is on no network of the machine.
    let ipv4 = || source_address((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(203, 0, 113, 1), 9).into());
    let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
    let ipv6 = || source_address((Ipv6Addr::UNSPECIFIED, 0).into(), (documentation, 9).into());
    ipv4().or_else(ipv6)
}

fn source_address(any: SocketAddr, other: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(other).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified() && !own.is_loopback()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    /// A line as a little-endian machine prints it.
    fn route(destination: [u8; 4], mask: [u8; 4]) -> String {
        let number = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", number(destination), number(mask))
    }

    #[test]
    fn the_subnet_hides_nothing() {
        let default = route([0; 4], [0; 4]);
        let choose = |routes: &str, resolv: &str| Subnet::choose(&format!("{HEADER}{default}{routes}"), resolv).cidr();
        assert_eq!(choose("", "nameserver 192.0.2.1\n"), "10.0.2.0/24");
        assert_eq!(choose(&route([10, 0, 2, 0], [255, 255, 255, 0]), ""), "10.213.2.0/24");
        assert_eq!(choose(&route([10, 0, 2, 128], [255, 255, 255, 128]), ""), "10.213.2.0/24");
        assert_eq!(choose(&route([10, 0, 0, 0], [255, 0, 0, 0]), ""), "172.30.213.0/24");
        assert_eq!(choose("", "nameserver 10.0.2.3\n"), "10.213.2.0/24");
        assert_eq!(choose("garbage\n\n", ""), "10.0.2.0/24");
    }

    #[test]
    fn a_default_route_is_a_way_out() {
        assert!(is_online(&route([0; 4], [0; 4]), ""));
        assert!(!is_online(&format!("{HEADER}{}", route([10, 0, 0, 0], [255, 0, 0, 0])), ""));
        let zero = "0".repeat(32);
        let line =
            |device: &str| format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {device:>8}\n");
        assert!(is_online("", &line("eth0")));
        assert!(!is_online("", &line("lo")));
    }
}
