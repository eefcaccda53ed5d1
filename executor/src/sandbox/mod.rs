//! The sandbox that commands run in: own namespaces over an overlayfs of layers.
//!
//! kiln's own process never forks for a command. [`Sandbox`] starts a small single-threaded helper the first
//! time it is asked to run something: kiln itself once more, under the name [`HELPER_NAME`], which calls
//! [`helper_main`]. Each run has its own socket to the helper, which carries the outcome one way and, by being
//! closed, the wish to kill the command the other way; so that commands die with kiln, however it dies.
//!
//! ```text
//! kiln ──control socket: request (memfd), stdout, stderr, run socket──▶ helper ──clone3──▶ the command, pid 1
//!      ◀─────────────── run socket: outcome · closed: kill ───────────▶
//!      ◀──────────────────────── pipes: output ───────────────────────────────────────────
//! ```
//!
//! It needs Linux 5.12, the first with all of the new mount interface that is used here.
//!
//! | file | |
//! |---|---|
//! | `spec.rs` | what it is asked to run |
//! | `client.rs` | kiln's side: starts the helper, hands it commands |
//! | `run.rs` | a command that runs, for kiln: its output and its end |
//! | `protocol.rs` | what is said on the sockets |
//! | `helper.rs` | the helper: starts, watches and kills commands |
//! | `inherit.rs` | what commands do not inherit |
//! | `seal.rs` | keeps commands from overwriting the helper's file |
//! | `child.rs` | what the new process does to itself before it becomes the command |
//! | `filter/` | which system calls a command may make |
//! | `privilege.rs` | whom it runs as, and with which power |
//! | `groups.rs` | control groups: entering and showing them |
//! | `guard.rs` | which devices a command can open |
//! | `rlimits.rs` | resource limits |
//! | `overlay.rs` | the root file system |
//! | `names.rs` | `/etc/resolv.conf` and `/etc/hosts` |
//! | `points.rs` | where things are mounted in it, without leaving a trace |
//! | `mounts.rs` | what a command asks to be mounted |
//! | `secret.rs` | bytes that are wiped and never shown |
//! | `terminal.rs` | the terminal of a command that wants one |
//! | `trash.rs` | clears away what overlayfs leaves |
//! | `system.rs` | `/proc`, `/sys`, `/dev` and what of them is hidden |
//! | `devices.rs` | more of `/dev`, for commands that may do all |
//! | `sys.rs` | the system calls that rustix does not have; all `unsafe` of this crate |

mod child;
mod client;
mod devices;
mod filter;
mod groups;
mod guard;
mod helper;
mod inherit;
mod mounts;
mod names;
mod overlay;
mod points;
mod privilege;
mod protocol;
pub mod rlimits;
mod run;
mod seal;
mod secret;
mod spec;
pub(crate) mod sys;
mod system;
mod terminal;
mod trash;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rootless::Identity;

pub use client::Sandbox;
pub use helper::helper_main;
pub use names::hosts_with_own_name;
pub use secret::Secret;
pub use spec::{
    ControlGroup, ExitStatus, FileIndex, Limits, Mount, MountSource, Network, Root, RunSpec, Terminal, TerminalSize,
    Ulimit, User,
};
pub use terminal::TerminalSocket;

/// The name (`argv[0]`) under which kiln must call [`helper_main`] and nothing else.
pub const HELPER_NAME: &str = "kiln-sandbox";

/// The host name that commands see: BuildKit's, which some build scripts test for.
pub const HOSTNAME: &str = "buildkitsandbox";

/// What a [`Sandbox`] needs to know once.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// What this process is, as [`crate::rootless::enter`] found out.
    pub identity: Identity,
    /// A directory of the sandbox's own, on any file system that overlayfs takes as a lower one. It must outlive
    /// the sandbox.
    pub directory: PathBuf,
    /// What commands in the host's network, or in none, read as `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// What commands in a network of their own read as `/etc/resolv.conf`; see [`crate::network::dns`].
    pub own_resolv_conf: Vec<u8>,
    /// What commands read as `/etc/hosts`; see [`hosts_with_own_name`].
    pub hosts: Vec<u8>,
}

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program is not there (a shell would exit with 127).
    #[error("exec: \"{program}\": {reason}")]
    NotFound {
        /// As asked for.
        program: String,
        /// What is missing.
        reason: String,
    },
    /// The program is there, but cannot be executed (a shell would exit with 126).
    #[error("exec: \"{program}\": {reason}")]
    NotExecutable {
        /// As asked for.
        program: String,
        /// Why not.
        reason: String,
    },
    /// The sandbox could not be put together.
    #[error("cannot {phase} for the sandbox: {what}: {source}{}", hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default())]
    Setup {
        /// What was being done, such as `mount the root`.
        phase: Phase,
        /// The path or the thing that it failed for, with what more the kernel said.
        what: String,
        /// How it failed.
        source: io::Error,
        /// What may help.
        hint: Option<&'static str>,
    },
    /// The command was killed because the build was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The command was killed because it ran longer than it may.
    #[error("killed: it ran longer than {0:?}")]
    TimedOut(Duration),
    /// The helper could not be started or spoken to.
    #[error("cannot start the sandbox helper: {what}: {source}")]
    Helper {
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
    /// The helper died under a running command, which it took along.
    #[error("the sandbox helper died while the command ran")]
    HelperDied,
}

/// What was being done when the sandbox could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Moving the helper to where no command can write to it.
    Seal,
    /// Making the namespaces.
    Namespaces,
    /// Entering control groups.
    ControlGroup,
    /// Mounting overlayfs.
    Root,
    /// Finding or making a place to mount something at.
    MountPoint,
    /// Mounting what the command asks for.
    Mount,
    /// Mounting `/proc`, `/sys` or `/dev`, or hiding parts of them.
    System,
    /// Making the mounted root the root.
    Pivot,
    /// Entering the network, or bringing loopback up.
    Network,
    /// Entering the working directory.
    WorkingDirectory,
    /// Setting resource limits.
    Limits,
    /// Filtering system calls.
    Filter,
    /// Becoming the user.
    User,
    /// Dropping capabilities.
    Capabilities,
    /// Handing over standard input, output and error.
    Descriptors,
    /// Making the command's terminal.
    Terminal,
    /// Executing the program.
    Exec,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Seal => "seal the program",
            Self::Namespaces => "make namespaces",
            Self::ControlGroup => "enter a control group",
            Self::Root => "mount the root",
            Self::MountPoint => "make a mount point",
            Self::Mount => "mount what is asked for",
            Self::System => "mount system directories",
            Self::Pivot => "change the root",
            Self::Network => "set up the network",
            Self::WorkingDirectory => "enter the working directory",
            Self::Limits => "set limits",
            Self::Filter => "filter system calls",
            Self::User => "become the user",
            Self::Capabilities => "drop capabilities",
            Self::Descriptors => "hand over standard input and output",
            Self::Terminal => "make a terminal",
            Self::Exec => "execute the program",
        })
    }
}
