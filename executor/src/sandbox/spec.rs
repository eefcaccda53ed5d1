//! What a sandbox is asked to run.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Secret;

/// One command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Its root.
    pub root: Root,
    /// What is mounted in it, each where the ones before leave a place for it: outer ones come first.
    pub mounts: Vec<Mount>,
    /// The program, looked up in the `PATH` of `env` where it has no slash, and its arguments.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Its working directory, absolute; made (and given to `user`) where it is missing.
    pub cwd: String,
    /// Whom it runs as.
    pub user: User,
    /// Which network it sees.
    pub network: Network,
    /// The name of the machine that it sees; [`super::HOSTNAME`] where empty.
    pub hostname: String,
    /// What it finds in `/etc/hosts`, beside what is there for all.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whether it keeps all power that there is: every capability, no system call filtered, nothing of the kernel
    /// hidden (`--security=insecure`).
    pub insecure: bool,
    /// What it may use of the machine.
    pub limits: Limits,
    /// Whether its standard input, output and error are a terminal of its own, which it controls; else it has nothing
    /// to read and pipes to write to.
    pub terminal: Option<Terminal>,
    /// Open files that the rest refers to, and others that shall stay open for as long as the command runs, even
    /// if kiln dies before it: those that carry locks.
    #[serde(skip)]
    pub files: Vec<Arc<OwnedFd>>,
}

/// A terminal that is made for a command, in the `/dev/pts` of its sandbox: see [`super::terminal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The socket that the other end of the terminal is sent over.
    pub socket: FileIndex,
    /// How large it is at first.
    pub size: TerminalSize,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// How many lines it has.
    pub rows: u16,
    /// How many characters a line has.
    pub columns: u16,
}

/// A place in [`RunSpec::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIndex(pub u32);

/// A tree of layers that can be written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The layers, the lowest first, as directories in overlayfs form. There may be none.
    #[serde(with = "paths")]
    pub lowers: Vec<PathBuf>,
    /// A mount, attached nowhere, that is one more layer, above all of them: see [`crate::trace`]. It is used up.
    pub traced: Option<FileIndex>,
    /// Takes what is changed: an empty directory.
    #[serde(with = "path")]
    pub upper: PathBuf,
    /// An empty directory on the file system of `upper`; it is empty again afterwards.
    #[serde(with = "path")]
    pub work: PathBuf,
}

/// Something mounted in the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where: absolute; symlinks are followed inside the root.
    pub destination: String,
    /// Whether writing to it fails.
    pub readonly: bool,
    /// What it shows.
    pub source: MountSource,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory or a file of a tree of layers. What is written to it goes to the tree's upper directory, and is
    /// the caller's to throw away.
    Layers {
        /// The tree.
        tree: Root,
        /// The path in it; symlinks are followed inside the tree.
        selector: String,
    },
    /// A directory or a file of the machine (of a cache mount, say); what is mounted below it is not shown.
    Directory(#[serde(with = "path")] PathBuf),
    /// An empty directory in memory that may hold so many bytes.
    Tmpfs {
        /// As many as the kernel allows where absent.
        size: Option<u64>,
    },
    /// A file that lives in memory alone.
    Secret {
        /// What it holds.
        content: Secret,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// A socket of the machine.
    Socket(#[serde(with = "path")] PathBuf),
}

/// Whom a command runs as, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// Which network a command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The one that kiln is in.
    #[default]
    Host,
    /// Loopback alone.
    None,
    /// The network namespace at this place of [`RunSpec::files`].
    Namespace(FileIndex),
}

/// What a command may use of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// The control groups that its processes are put into, one for each hierarchy. They are its own: nothing else is
    /// in them, and they are removed with it should kiln be killed.
    pub cgroups: Vec<ControlGroup>,
    /// How long it may run before it is killed; as long as it likes where absent.
    pub time: Option<Duration>,
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlGroup {
    /// Where it is.
    #[serde(with = "path")]
    pub directory: PathBuf,
    /// What its hierarchy controls, if that is one of version 1.
    pub controllers: Vec<String>,
}

/// One resource limit (`setrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The number of the resource (`RLIMIT_*`).
    pub resource: u32,
    /// The limit that is in force; `u64::MAX` is none.
    pub soft: u64,
    /// How far the command itself may raise it; `u64::MAX` is as far as it likes.
    pub hard: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// Killed by the signal of this number.
    Signal(i32),
}

/// Paths are bytes.
pub(super) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

mod paths {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| path.as_os_str().as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let paths: Vec<Vec<u8>> = Vec::deserialize(deserializer)?;
        Ok(paths.into_iter().map(|path| OsString::from_vec(path).into()).collect())
    }
}
