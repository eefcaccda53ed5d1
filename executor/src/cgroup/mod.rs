//! Control groups: what the commands of a build may use of memory, processors and processes together.
//!
//! A step gets groups of its own only where a limit or a parent was asked for, or where it may do all, for it may want
//! to make more below them; processes end with their process namespace anyway. Both versions are known: the one hierarchy of version 2, also where systemd has delegated a part
//! of it to an ordinary user, and the hierarchies of version 1, one for each controller.
//!
//! ```text
//! parent                the group asked for, or the nearest one to kiln's own that can have groups below it
//! ├── kiln-PID-NUMBER   one step; kiln holds a lock on the directory, so the next kiln knows what nobody owns
//! └── kiln-PID-NUMBER   kiln itself, where its own group is the parent: version 2 has processes in leaves alone
//! ```
//!
//! | file | |
//! |---|---|
//! | `resources.rs` | what can be asked for |
//! | `settings.rs` | what that comes to in each version |
//! | `machine.rs` | which hierarchies there are, and where this process is in them |
//! | `parents.rs` | below which groups those of steps are made |
//! | `unified.rs` | what version 2 asks for: controllers that are enabled on the way down, processes in leaves |
//! | `group.rs` | the groups of one step |
//! | `directory.rs` | making, locking and removing a group |

mod directory;
mod group;
mod machine;
mod parents;
mod resources;
mod settings;
mod unified;

use std::io;
use std::path::PathBuf;

pub(crate) use directory::{Directory, remove, sweep};
pub(crate) use group::MemoryKill;
pub(crate) use machine::own_unified;
pub(crate) use parents::Groups;
pub use resources::{CpuTime, ResourceError, Resources, Swap};

/// How an ordinary user gets groups.
const DELEGATE: &str = "as an ordinary user, let systemd give kiln a group of its own: \
                        `systemd-run --user --scope -p Delegate=yes kiln build …`";

/// Why a step could not get the groups that it should have.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// What was asked for makes no sense.
    #[error(transparent)]
    Resources(#[from] ResourceError),
    /// Nothing is mounted.
    #[error(
        "there are no control groups on this machine, so memory, processors and processes cannot be limited\n\
         hint: mount them, as in `mount -t cgroup2 none /sys/fs/cgroup`, or leave the limits out"
    )]
    None,
    /// A controller is not there.
    #[error(
        "there is no controller `{controller}` in the control groups of this machine{}\nhint: {hint}",
        within.as_ref().map(|path| format!(" at `{}`", path.display())).unwrap_or_default()
    )]
    NoController {
        /// Its name.
        controller: &'static str,
        /// The topmost group that lacks it.
        within: Option<PathBuf>,
        /// What may help.
        hint: String,
    },
    /// No group can have groups of steps below it.
    #[error("no control group can be made below that of kiln, `{}`: {reason}\nhint: {hint}", own.display())]
    NoParent {
        /// The group that kiln is in.
        own: PathBuf,
        /// Why it cannot, and all above it neither.
        reason: String,
        /// What may help.
        hint: String,
    },
    /// The name of a parent is none.
    #[error("`{0}` cannot be the parent of control groups: it must be a path without `..`")]
    InvalidParent(String),
    /// The kernel refused.
    #[error("cannot {what} the control group `{}`: {source}{}", path.display(), hint_for(.source))]
    Refused {
        /// What was tried, such as `make`.
        what: String,
        /// The group.
        path: PathBuf,
        /// How it was refused.
        source: io::Error,
    },
    /// It could not be found out what there is.
    #[error("cannot read `{file}`: {source}")]
    Unreadable {
        /// Which of the kernel's files.
        file: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn hint_for(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied { format!("\nhint: {DELEGATE}") } else { String::new() }
}

impl CgroupError {
    fn refused(what: impl Into<String>, path: &std::path::Path, source: impl Into<io::Error>) -> Self {
        Self::Refused { what: what.into(), path: path.to_owned(), source: source.into() }
    }
}
