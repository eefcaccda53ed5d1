//! Keeps a command from the machine's own loopback.
//!
//! A network stack in user space makes of each packet a connection of its own, from the machine's network. So a
//! packet to 127.0.0.1 that reaches it would become a connection to the machine's loopback. Routing does not stop
//! such a packet: a command may bind a socket to the interface (`SO_BINDTODEVICE`), and root may write whole frames
//! (`CAP_NET_RAW`). Therefore a filter sits where frames leave the namespace: on the tap device, from the side of
//! the program that reads it, where nothing inside gets at it and nothing gets around it.

use std::os::fd::{AsFd, OwnedFd};

use libc::{
    BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    BPF_RSH, BPF_W, sock_filter,
};
use rustix::fs::{FileType, makedev};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd};

use super::Subnet;
use crate::sandbox::sys;

/// `/dev/net/tun`.
const TUN: (u32, u32) = (10, 200);

/// Where things are in an Ethernet frame without tags.
const ETHER_TYPE: u32 = 12;
const PAYLOAD: u32 = 14;
const IPV4_FRAGMENT: u32 = PAYLOAD + 6;
const IPV4_PROTOCOL: u32 = PAYLOAD + 9;
const IPV4_DESTINATION: u32 = PAYLOAD + 16;
const IPV6_DESTINATION: u32 = PAYLOAD + 24;
/// Of TCP and UDP alike, behind the IPv4 header.
const DESTINATION_PORT: u32 = 2;

/// What a frame may be: ARP, IPv4 or IPv6.
const ARP: u32 = 0x0806;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;

/// Puts the filter on the tap device that a process has open.
pub(super) fn raise(process: Pid, handle: &OwnedFd, subnet: Subnet) -> Result<(), Errno> {
    let tap = pidfd_getfd(handle, find_tap(process)?, PidfdGetfdFlags::empty())?;
    sys::filter_tap(tap.as_fd(), &program(subnet))
}

/// The number of the file descriptor.
fn find_tap(process: Pid) -> Result<i32, Errno> {
    let directory = format!("/proc/{}/fd", process.as_raw_pid());
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    for entry in std::fs::read_dir(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have been closed by now.
        let Ok(stat) = rustix::fs::stat(format!("{directory}/{number}")) else { continue };
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if is_device && stat.st_rdev == makedev(TUN.0, TUN.1) {
            return Ok(number);
        }
    }
    Err(Errno::NODEV)
}

/// The filter: what goes to loopback by any of its names, or to an address that the program gives a meaning of its
/// own, is dropped. Name servers that it forwards to are an exception, for names alone.
fn program(subnet: Subnet) -> Vec<sock_filter> {
    let mut program = Assembler::default();
    program.load(BPF_H, ETHER_TYPE);
    program.accept_if(ARP);
    let ipv4 = ipv4(subnet);
    program.skip_unless(IPV4, ipv4.len());
    program.0.extend(ipv4);
    program.skip_unless(IPV6, ipv6().len());
    program.0.extend(ipv6());
    program.give(false);
    program.0
}

fn ipv4(subnet: Subnet) -> Vec<sock_filter> {
    let mut program = Assembler::default();
    program.load(BPF_W, IPV4_DESTINATION);
    for refused in [subnet.gateway().into(), u32::MAX] {
        program.refuse_if(refused);
    }
    let mut names = Assembler::default();
    names.only_names();
    program.skip_unless(subnet.resolver().into(), names.0.len());
    program.0.extend(names.0);
    // 0.0.0.0/8 means this machine, and 127.0.0.0/8 its loopback.
    program.shift_right(24);
    program.refuse_if(0);
    program.refuse_if(127);
    program.give(true);
    program.0
}

fn ipv6() -> Vec<sock_filter> {
    // ::1 and ::, and IPv4 addresses in either form (::/96 and ::ffff:0:0/96); fd00::/64 is slirp4netns's own.
    let mut zero = Assembler::default();
    zero.load(BPF_W, IPV6_DESTINATION + 4);
    let mut low = Assembler::default();
    low.load(BPF_W, IPV6_DESTINATION + 8);
    low.refuse_if(0);
    low.refuse_if(0xffff);
    zero.skip_unless(0, low.0.len());
    zero.0.extend(low.0);
    zero.give(true);
    let mut program = Assembler::default();
    program.load(BPF_W, IPV6_DESTINATION);
    program.skip_unless(0, zero.0.len());
    program.0.extend(zero.0);
    let mut local = Assembler::default();
    local.load(BPF_W, IPV6_DESTINATION + 4);
    local.refuse_if(0);
    program.skip_unless(0xfd00_0000, local.0.len());
    program.0.extend(local.0);
    program.give(true);
    program.0
}

/// Puts a classic BPF program together. The kernel sees to it that jumps lead forward and somewhere.
#[derive(Default)]
struct Assembler(Vec<sock_filter>);

impl Assembler {
    fn push(&mut self, code: u32, k: u32, jt: u8, jf: u8) {
        // Codes have 16 bits.
        self.0.push(sock_filter { code: code as u16, jt, jf, k });
    }

    fn load(&mut self, size: u32, offset: u32) {
        self.push(BPF_LD | size | BPF_ABS, offset, 0, 0);
    }

    fn shift_right(&mut self, bits: u32) {
        self.push(BPF_ALU | BPF_RSH | BPF_K, bits, 0, 0);
    }

    /// Ends, with the frame kept whole or dropped.
    fn give(&mut self, accept: bool) {
        self.push(BPF_RET | BPF_K, if accept { u32::MAX } else { 0 }, 0, 0);
    }

    fn accept_if(&mut self, value: u32) {
        self.push(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
        self.give(true);
    }

    fn refuse_if(&mut self, value: u32) {
        self.push(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
        self.give(false);
    }

    /// Skips as many instructions if what was loaded is anything else. There are never as many as 255.
    fn skip_unless(&mut self, value: u32, count: usize) {
        self.push(BPF_JMP | BPF_JEQ | BPF_K, value, 0, u8::try_from(count).unwrap_or(u8::MAX));
    }

    /// Accepts UDP and TCP to port 53 and refuses all else. A fragment without a port is refused.
    fn only_names(&mut self) {
        self.load(BPF_B, IPV4_PROTOCOL);
        self.push(BPF_JMP | BPF_JEQ | BPF_K, libc::IPPROTO_UDP as u32, 2, 0);
        self.push(BPF_JMP | BPF_JEQ | BPF_K, libc::IPPROTO_TCP as u32, 1, 0);
        self.give(false);
        self.load(BPF_H, IPV4_FRAGMENT);
        self.push(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 0, 1);
        self.give(false);
        self.push(BPF_LDX | BPF_B | BPF_MSH, PAYLOAD, 0, 0);
        self.push(BPF_LD | BPF_H | BPF_IND, PAYLOAD + DESTINATION_PORT, 0, 0);
        self.accept_if(53);
        self.give(false);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Sees which of these frames get through, in the kernel itself: a socket takes the same filters as a tap device.
    fn passed(frames: &[Vec<u8>]) -> Vec<bool> {
        let (from, to) = UnixDatagram::pair().unwrap();
        sys::filter_socket(to.as_fd(), &program(Subnet::choose("", ""))).unwrap();
        to.set_nonblocking(true).unwrap();
        let passes = |frame: &Vec<u8>| {
            // What a filter drops is an error for who sends it.
            let _ = from.send(frame);
            to.recv(&mut [0; 256]).is_ok_and(|length| length == frame.len())
        };
        frames.iter().map(passes).collect()
    }

    fn frame(kind: u32, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 12][..], &(kind as u16).to_be_bytes(), payload].concat()
    }

    /// A packet with so many bytes of options.
    fn ipv4(to: [u8; 4], protocol: u8, fragment: u16, options: usize, port: u16) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 2, 100]);
        packet[16..20].copy_from_slice(&to);
        packet.extend([0x0f, 0xa0]);
        packet.extend(port.to_be_bytes());
        packet.extend([0; 16]);
        frame(IPV4, &packet)
    }

    fn tcp(to: [u8; 4]) -> Vec<u8> {
        ipv4(to, 6, 0, 0, 80)
    }

    fn ipv6(to: &str) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[24..40].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
        frame(IPV6, &packet)
    }

    #[test]
    fn others_are_reached() {
        let ends = [[192, 0, 2, 1], [1, 0, 0, 1], [126, 255, 255, 255], [128, 0, 0, 1], [10, 0, 2, 4], [224, 0, 0, 1]];
        let mut frames: Vec<Vec<u8>> = ends.into_iter().map(tcp).collect();
        frames.extend(["2001:db8::1", "fe80::2", "ff02::1", "::1:0:0:1", "0:0:0:1::1", "fd00:1::1"].map(ipv6));
        frames.push(frame(ARP, &[0; 28]));
        assert_eq!(passed(&frames), vec![true; frames.len()]);
    }

    #[test]
    fn loopback_by_any_name_is_not() {
        let gateway = Ipv4Addr::new(10, 0, 2, 2).octets();
        let ends =
            [[127, 0, 0, 1], [127, 0, 0, 53], [127, 255, 255, 255], [0, 0, 0, 0], [0, 1, 2, 3], [255; 4], gateway];
        let mut frames: Vec<Vec<u8>> = ends.into_iter().map(tcp).collect();
        frames.extend(ends.into_iter().map(|to| ipv4(to, 1, 0, 40, 0)));
        frames.extend(["::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "fd00::2", "fd00::3"].map(ipv6));
        // What is wrapped, tagged or cut short is nothing that programs should have to understand.
        let tagged = [&[0xff; 12][..], &[0x81, 0, 0, 1], &tcp([127, 0, 0, 1])[12..]].concat();
        frames.extend([tagged, frame(0x9000, &[0; 40]), frame(IPV4, &[0x45; 10]), frame(IPV6, &[0; 30]), vec![0; 3]]);
        assert_eq!(passed(&frames), vec![false; frames.len()]);
    }

    #[test]
    fn the_name_server_is_asked_for_names_alone() {
        let server = [10, 0, 2, 3];
        let names = [ipv4(server, 17, 0, 0, 53), ipv4(server, 6, 0, 0, 53), ipv4(server, 17, 0x4000, 12, 53)];
        assert_eq!(passed(&names), [true; 3]);
        let others = [
            ipv4(server, 17, 0, 0, 54),
            ipv4(server, 6, 0, 0, 22),
            ipv4(server, 1, 0, 0, 53),
            ipv4(server, 17, 0x2001, 0, 53),
            ipv4(server, 6, 0, 4, 0x0035_u16.swap_bytes()),
        ];
        assert_eq!(passed(&others), [false; 5]);
    }
}
