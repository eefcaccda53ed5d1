//! Real commands over a traced union, and exactly what is observed of them.
//!
//! The base is this machine's own root, or busybox for an ordinary user, and what is written goes to a tmpfs that only the command's mount namespace has.

pub mod bench;
mod commands;
mod edits;
mod service;
mod table;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::{Store, StoredLayer, Whiteouts};
use kiln_executor::trace::{Fact, Kind, Mismatch, Observations, Tracing, Union};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::FdFlags;
use tempfile::TempDir;

use crate::world::World;

type Case = fn(&World);

pub const ALL: &[(&str, Case)] = &[
    ("trace_reading", commands::reading),
    ("trace_looking", commands::looking),
    ("trace_listing", commands::listing),
    ("trace_links", commands::links),
    ("trace_programs", commands::programs),
    ("trace_changing", commands::changing),
    ("trace_busybox", commands::busybox),
    ("trace_attributes", commands::attributes),
    ("trace_hiding_the_base", commands::hiding_the_base),
    ("trace_what_was_removed_is_not_listed", commands::what_was_removed_is_not_listed),
    ("trace_edits_miss_or_hit", edits::edits_miss_or_hit),
    ("trace_commands_run_again_or_stay_cached", table::commands_run_again_or_stay_cached),
    ("trace_the_docs_show_the_table", table::docs::the_docs_show_the_table),
    ("trace_random_edits_are_never_a_wrong_hit", edits::random_edits_are_never_a_wrong_hit),
    ("trace_contents_are_whole", service::contents_are_whole),
    ("trace_huge_directories", service::huge_directories),
    ("trace_many_at_once", service::many_at_once),
    ("trace_cannot_be_written_to", service::cannot_be_written_to),
    ("trace_a_dead_server_is_an_error", service::a_dead_server_is_an_error),
    ("trace_an_abandoned_service_ends", service::an_abandoned_service_ends),
    ("trace_in_the_sandbox", service::in_the_sandbox),
    ("trace_an_attached_mount_is_a_layer_too", service::an_attached_mount_is_a_layer_too),
];

/// Mounts an overlay over `$1`, a lower directory, and `$6`, the base; runs `$3` in it. What it printed is followed
/// by how it ended and what it changed, where `$5` says so.
const RUN: &str = r#"
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1:$6,upperdir=$2/upper,workdir=$2/work$4" "$2/root"
mount --rbind /dev "$2/root/dev"
[ ! -d "$2/root/proc" ] || mount --rbind /proc "$2/root/proc"
chroot "$2/root" sh -c "$3" && code=0 || code=$?
if [ "$5" ]; then
    echo "code $code"
    cd "$2/upper" && find . -mindepth 1 -type d -printf '%p %M\n' -o -mindepth 1 -printf '%p %M %s %l\n' | sort
    find . -type f | sort | xargs -rd '\n' sha256sum
fi
exit $code
"#;

/// A store, and commands over its layers.
struct Place<'w> {
    world: &'w World,
    store: Store,
    base: PathBuf,
    directory: TempDir,
}

/// What came of a traced command.
struct Traced {
    output: Output,
    observations: Observations,
}

impl<'w> Place<'w> {
    fn new(world: &'w World) -> Self {
        // Not below the base: overlayfs takes no layer that lies within another.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let whiteouts = if world.identity.in_user_namespace() { Whiteouts::User } else { Whiteouts::Trusted };
        let store = Store::open(&directory.path().join("store"), whiteouts).unwrap();
        let base = if world.identity.in_user_namespace() {
            // The mounts on the machine's root cannot be taken off by an ordinary user, so it is no layer for one.
            make_base(&directory.path().join("base"))
        } else {
            PathBuf::from("/")
        };
        Self { world, store, base, directory }
    }

    /// Whether the base has compilers and such: all of this machine.
    fn is_machine(&self) -> bool {
        self.base == Path::new("/")
    }

    fn filled(&self, fill: impl FnOnce(&Path)) -> StoredLayer {
        let draft = self.store.begin_layer().unwrap();
        fill(draft.files());
        draft.commit(SystemTime::UNIX_EPOCH).unwrap()
    }

    /// A layer of these: `name/` a directory, `name/ opaque` too, `name -> target` a symbolic link, `name = target` a
    /// hard link, `-name` a whiteout, anything else a file with its name in it, or with what follows a `: `.
    fn layer(&self, things: &[&str]) -> StoredLayer {
        self.filled(|root| things.iter().for_each(|thing| self.make(root, thing)))
    }

    fn make(&self, root: &Path, thing: &str) {
        let at = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        if let Some(name) = thing.strip_prefix('-') {
            rustix::fs::mknodat(CWD, at(name), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        } else if let Some((name, target)) = thing.split_once(" -> ") {
            symlink(target, at(name)).unwrap();
        } else if let Some((name, target)) = thing.split_once(" = ") {
            fs::hard_link(root.join(target), at(name)).unwrap();
        } else if let Some(name) = thing.strip_suffix("/ opaque") {
            fs::create_dir_all(at(name)).unwrap();
            let nested = self.world.identity.in_user_namespace();
            let mark = if nested { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
            rustix::fs::setxattr(at(name), mark, b"y", XattrFlags::empty()).unwrap();
        } else if let Some(name) = thing.strip_suffix('/') {
            fs::create_dir_all(at(name)).unwrap();
        } else {
            let (name, content) = thing.split_once(": ").unwrap_or((thing, thing));
            fs::write(at(name), content).unwrap();
            fs::set_permissions(at(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
    }

    fn union(&self, layers: &[&[&str]]) -> Arc<Union> {
        Arc::new(Union::new(&layers.iter().map(|things| self.layer(things)).collect::<Vec<_>>()))
    }

    /// Runs a script over a lower directory; what it changed is part of the output if asked for.
    fn run(&self, lower: &str, script: &str, with_changes: bool) -> Output {
        let options = if self.world.identity.in_user_namespace() { ",userxattr" } else { "" };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", RUN, "sh", lower]).arg(self.world.directory());
        command.args([script, options, if with_changes { "changes" } else { "" }]).arg(&self.base);
        command.env_clear().env("PATH", programs()).env("LC_ALL", "C").output().unwrap()
    }

    fn over(&self, tracing: &Tracing, script: &str, with_changes: bool) -> Output {
        self.run(&format!("/proc/self/fd/{}", inherit(tracing.mount())), script, with_changes)
    }

    fn traced(&self, union: &Arc<Union>, script: &str, with_changes: bool) -> Traced {
        let tracing = Tracing::start(union.clone()).unwrap();
        let output = self.over(&tracing, script, with_changes);
        Traced { output, observations: tracing.finish().unwrap() }
    }

    /// What a script that succeeds is seen to look at below `work`, in words.
    fn seen(&self, things: &[&str], script: &str) -> Vec<String> {
        let traced = self.traced(&self.union(&[things]), script, false);
        assert!(traced.output.status.success(), "{script}: {:?}", traced.output);
        traced.below("traced")
    }

    /// A new empty directory that is no part of the base.
    fn empty(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Traced {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// The facts at and below a path, in words.
    fn below(&self, path: &str) -> Vec<String> {
        let is_below = |fact: &Fact| Path::new(&*String::from_utf8_lossy(&fact.path)).starts_with(path);
        self.observations.facts().filter(is_below).map(|fact| describe(&fact)).collect()
    }
}

/// Where the programs of this machine are, this very toolchain's too.
fn programs() -> String {
    let toolchain = Path::new(env!("CARGO")).parent().unwrap();
    format!("/usr/sbin:/usr/bin:/sbin:/bin:{}", toolchain.display())
}

/// A fact that no longer holds, in words.
fn told(mismatch: &Mismatch) -> String {
    kiln_solver::Mismatch::from(mismatch).to_string()
}

/// A fact in words: the path, what is not there or how more than a look was taken.
fn describe(fact: &Fact) -> String {
    let mut words = vec![String::from_utf8_lossy(&fact.path).into_owned()];
    match fact.seen.kind {
        Kind::Absent | Kind::Removed => words.push(fact.seen.kind.to_string()),
        _ => {}
    }
    words.extend(fact.seen.content.map(|_| "read".to_owned()));
    words.extend(fact.seen.listing.as_ref().map(|_| "listed".to_owned()));
    words.extend(fact.seen.xattrs.as_ref().map(|_| "xattrs".to_owned()));
    words.join(" ")
}

/// A root that has busybox alone.
fn make_base(base: &Path) -> PathBuf {
    for directory in ["bin", "dev", "etc/apt", "tmp"] {
        fs::create_dir_all(base.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    let install = Command::new("/bin/busybox").args(["--install", "-s"]).arg(base.join("bin")).status().unwrap();
    assert!(install.success());
    for program in fs::read_dir(base.join("bin")).unwrap() {
        let path = program.unwrap().path();
        if path.is_symlink() {
            fs::remove_file(&path).unwrap();
            symlink("busybox", &path).unwrap();
        }
    }
    for file in ["etc/hostname", "etc/passwd", "etc/apt/base"] {
        fs::write(base.join(file), file).unwrap();
    }
    base.to_owned()
}

/// Gives children of this process the file descriptor too.
fn inherit(fd: BorrowedFd<'_>) -> i32 {
    rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::empty()).unwrap();
    fd.as_raw_fd()
}
