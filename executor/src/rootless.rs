//! Running as an ordinary user: moving into a user namespace where that user is root.
//!
//! The user becomes id 0 there. Ids 1 and up are the ranges that `/etc/subuid` and `/etc/subgid` grant, entered
//! by the setuid programs `newuidmap` and `newgidmap`; without those there is no other id. The namespace is made
//! once for a kiln process, and everything that it starts lives in it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, getegid, geteuid, getpid};
use rustix::thread::UnshareFlags;

use crate::sandbox::sys::{self, Cloned};

/// What this process is, and so what its sandboxes can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The machine's root.
    Root,
    /// An ordinary user, root of a user namespace that has a range of further ids.
    UserRange,
    /// An ordinary user, root of a user namespace that has no id but that one. Files keep no other owner.
    UserSingle {
        /// Why there are no more ids.
        why: String,
    },
    /// Root of a user namespace that somebody else made, such as that of a container.
    NestedRoot,
}

/// Why a process could not move into a user namespace.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// The kernel refused.
    #[error("cannot {what}: {source}\nhint: {hint}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// How.
        source: io::Error,
        /// What to enable.
        hint: String,
    },
    /// What it takes to ask the kernel could not be done.
    #[error("cannot {what}: {source}")]
    Prepare {
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
}

impl Identity {
    /// Whether it lives in a user namespace: overlayfs keeps its marks in `user.*` attributes there.
    pub fn in_user_namespace(&self) -> bool {
        !matches!(self, Self::Root)
    }
}

/// Finds out what this process is; as an ordinary user, moves it into a user namespace and a mount namespace of
/// its own. To be called once, first thing, while the process has a single thread.
///
/// # Errors
/// When the kernel does not let ordinary users make user namespaces, with what to do about it.
pub fn enter() -> Result<Identity, RootlessError> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        return Ok(match () {
            () if is_full_map(&map) => Identity::Root,
            () if is_single_map(&map) => {
                Identity::UserSingle { why: "this user namespace has no other ids".to_owned() }
            }
            () => Identity::NestedRoot,
        });
    }
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    let mapper = match Ranges::of(uid, gid) {
        Ok(ranges) => Ok(Mapper::start(&ranges).map_err(prepare("start another process"))?),
        Err(why) => Err(why),
    };
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|error| refused("make a user namespace", error))?;
    let mapped = match mapper {
        Ok(mapper) => mapper.map().map_err(prepare("speak to another process"))?,
        Err(why) => Err(why),
    };
    let identity = match mapped {
        Ok(()) => Identity::UserRange,
        Err(why) => {
            map_single(uid, gid).map_err(|error| refused("map a user into a namespace", from_io(&error)))?;
            Identity::UserSingle { why }
        }
    };
    // The machine's mounts still come in; none of ours gets out.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| refused("use a mount namespace", error))?;
    Ok(identity)
}

fn prepare(what: &'static str) -> impl FnOnce(io::Error) -> RootlessError {
    move |source| RootlessError::Prepare { what, source }
}

fn from_io(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn is_full_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether somebody has moved an ordinary user into a namespace as [`map_single`] makes it.
fn is_single_map(map: &str) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    matches!(fields[..], ["0", _, "1"])
}

fn refused(what: &'static str, error: Errno) -> RootlessError {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let hint = if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        "let ordinary users make user namespaces: `sysctl kernel.unprivileged_userns_clone=1`"
    } else if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") || error == Errno::NOSPC {
        "allow more user namespaces: `sysctl user.max_user_namespaces=15000`"
    } else if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "AppArmor restricts user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give kiln a \
         profile with `userns`"
    } else {
        "user namespaces are off in this kernel or forbidden here (by a container's seccomp profile?); run kiln as root"
    };
    RootlessError::Refused { what, source: error.into(), hint: hint.to_owned() }
}

/// Maps nothing but the user itself. The kernel asks for `setgroups` to be given up for it.
fn map_single(uid: u32, gid: u32) -> io::Result<()> {
    let unmapped = |path: &str| fs::read_to_string(path).map(|map| map.trim().is_empty());
    if unmapped("/proc/self/gid_map")? {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    if unmapped("/proc/self/uid_map")? {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    Ok(())
}

/// The further ids of a user, and the programs that enter them.
struct Ranges {
    uids: Map,
    gids: Map,
}

/// How the ids of one kind are mapped, and by which program.
struct Map {
    program: PathBuf,
    /// Threes of first id inside, first id outside, count.
    arguments: Vec<String>,
}

impl Ranges {
    fn of(uid: u32, gid: u32) -> Result<Self, String> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = user_name(&passwd, uid);
        let map = |program: &str, file: &str, own: u32| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let ranges = granted(&text, name, uid);
            if ranges.is_empty() {
                let user = name.map_or_else(|| uid.to_string(), str::to_owned);
                return Err(format!("`{file}` grants user `{user}` no range of ids"));
            }
            Ok(Map { program: find(program)?, arguments: arguments(own, &ranges) })
        };
        Ok(Self { uids: map("newuidmap", "/etc/subuid", uid)?, gids: map("newgidmap", "/etc/subgid", gid)? })
    }
}

fn find(program: &str) -> Result<PathBuf, String> {
    let directories = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/usr/sbin", "/sbin"];
    let mut candidates = directories.iter().map(|directory| Path::new(directory).join(program));
    candidates
        .find(|candidate| candidate.exists())
        .ok_or_else(|| format!("`{program}` is not installed (package `uidmap` or `shadow-utils`)"))
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The ranges that a text like `/etc/subuid` grants a user, by name or number: first id and count.
fn granted(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        ((Some(owner) == name || owner == number) && range.1 > 0).then_some(range)
    };
    text.lines().filter_map(range).collect()
}

/// Id 0 inside is `own` outside, then come the ranges, one after the other.
fn arguments(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut arguments = vec![0, own, 1];
    let mut next: u32 = 1;
    for &(first, count) in ranges {
        arguments.extend([next, first, count]);
        next = next.saturating_add(count);
    }
    arguments.iter().map(u32::to_string).collect()
}

/// A process outside the namespace to be: the ids of a namespace are entered from outside.
struct Mapper {
    process: OwnedFd,
    go: fs::File,
    result: fs::File,
}

impl Mapper {
    fn start(ranges: &Ranges) -> io::Result<Self> {
        let pid = getpid();
        let (waiting, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (result, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        match sys::clone(0)? {
            Cloned::Parent(process) => Ok(Self { process, go: go.into(), result: result.into() }),
            Cloned::Child => {
                drop((go, result));
                let asked = fs::File::from(waiting).read(&mut [0]).is_ok_and(|length| length == 1);
                if asked {
                    let outcome =
                        [&ranges.uids, &ranges.gids].into_iter().try_for_each(|map| map.apply(pid.as_raw_pid()));
                    if let Err(why) = outcome {
                        let _ = fs::File::from(tell).write_all(why.as_bytes());
                    }
                }
                sys::exit_now(0)
            }
        }
    }

    /// Lets it do its work; why the ids could not be entered, if so.
    fn map(mut self) -> io::Result<Result<(), String>> {
        self.go.write_all(b"g")?;
        // Its copy of the writing end is the last one once this process has closed its own.
        let mut why = String::new();
        self.result.read_to_string(&mut why)?;
        waitid_done(&self.process)?;
        Ok(if why.is_empty() { Ok(()) } else { Err(why) })
    }
}

fn waitid_done(process: &OwnedFd) -> io::Result<()> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            // A parent that ignores the end of its children has left nothing to wait for.
            Ok(_) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Map {
    fn apply(&self, pid: i32) -> Result<(), String> {
        let program = self.program.display();
        let output = Command::new(&self.program)
            .arg(pid.to_string())
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{program}` failed: {}", said.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nada:100000:65536\n# note\n1000:300000:10\nada:bad:1\nada:5:0\n";
        assert_eq!(granted(text, Some("ada"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(granted(text, None, 7), []);
    }

    #[test]
    fn ranges_follow_each_other() {
        let arguments = arguments(1000, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(arguments.join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
    }

    #[test]
    fn only_the_whole_map_is_the_machines_own() {
        assert!(is_full_map("         0          0 4294967295\n"));
        assert!(!is_full_map("         0       1000          1\n"));
        assert!(!is_full_map("0 0 1000\n1000 1000 5\n"));
        assert!(is_single_map("         0       1000          1\n"));
        assert!(!is_single_map("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn names_are_looked_up_by_id() {
        assert_eq!(user_name("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n", 1000), Some("ada"));
        assert_eq!(user_name("broken\n", 1000), None);
    }
}
