//! Networks of commands: namespaces of their own that reach out through a user-mode network stack.
//!
//! A network namespace with its `pasta` (or `slirp4netns`) takes some 10 ms to make, more than the rest of a step, so
//! [`Networks`] keeps those of a build and lends each to one command at a time. They end with the build, however that
//! ends: the program asks the kernel to be killed with kiln.
//!
//! ```text
//! kiln ──starts──▶ kiln, as LAUNCHER_NAME: makes the namespaces ──becomes──▶ pasta
//!      ◀────────── the network namespace ──────────┘                          │
//!      ◀────────── ready ─────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing comes in from outside, and the machine's own loopback is out of reach: see [`shield`].
//!
//! | file | |
//! |---|---|
//! | `pool.rs` | lends networks, and falls back to the host's |
//! | `uplink.rs` | one namespace with its program, from kiln's side |
//! | `programs.rs` | the programs and what they are told |
//! | `launcher.rs` | what makes the namespaces and becomes the program |
//! | `shield.rs` | keeps packets for the machine's loopback from the program |
//! | `address.rs` | which addresses a namespace has, and which the machine |
//! | `dns.rs` | what `/etc/resolv.conf` says |

mod address;
pub mod dns;
mod launcher;
mod pool;
mod programs;
mod shield;
mod uplink;

use std::path::PathBuf;

pub use address::{Subnet, host_address};
pub use launcher::launcher_main;
pub use pool::Networks;
pub(crate) use pool::{Borrowed, Pending};

/// The name (`argv[0]`) under which kiln must call [`launcher_main`] and nothing else.
pub const LAUNCHER_NAME: &str = "kiln-network";

/// Finds the file of a program by its name.
pub type Find = Box<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// What [`Networks`] needs to know.
pub struct NetworkSettings {
    /// Whether this process is root of the machine: then the programs run as nobody, in a user namespace.
    pub root: bool,
    /// The addresses of namespaces.
    pub subnet: Subnet,
    /// Whether names are asked for at [`Subnet::resolver`]; see [`dns::Resolver`].
    pub forward_dns: bool,
    /// Finds a program by its name. Asked when the first network is needed.
    pub find: Find,
}
