//! What a new process does to itself before it becomes the command. It runs in the copied memory of the helper,
//! which has one thread, so all of Rust may be used.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::filter::Filter;
use super::guard::Devices;
use super::mounts::{self, Staged};
use super::overlay::{Overlay, WorkDirectories};
use super::points::{self, Points, make_patch};
use super::protocol::{Channels, Failure, Request, errno, failed};
use super::{HOSTNAME, Network, Phase, Root, RunSpec, Terminal, User, groups, privilege, rlimits, sys, system};

/// Becomes the command, in the namespaces that it was made in.
pub(super) fn become_command(request: &Request, channels: &Channels, filter: &Filter) -> Result<Infallible, Failure> {
    let Request { spec, house, devices } = request;
    let own_network = spec.network != Network::Host;
    // Before /sys is mounted, which shows the network of whom mounts it.
    enter_network(spec)?;
    let _ = rustix::process::setsid();
    // Modes are given as they shall be.
    rustix::process::umask(Mode::empty());
    groups::enter(&spec.limits.cgroups, *devices)?;
    let mounts = mounts::stage(request)?;
    attach_traced(request, &spec.root).map_err(failed(Phase::Root, "the layers that are observed"))?;
    let root = mount_root(request)?;
    {
        let points = find_points(request, root, &mounts)?;
        system::mount(&points.1, request, own_network)?;
        groups::mount(&points.0, &spec.limits.cgroups, spec.insecure, *devices)?;
        system::bind_file(house.resolv_conf(spec.network), &points.1.resolv_conf)
            .map_err(failed(Phase::System, "/etc/resolv.conf"))?;
        system::bind_file(&house.hosts, &points.1.hosts).map_err(failed(Phase::System, "/etc/hosts"))?;
        mounts::attach_all(&points.0, &mounts)?;
        pivot(&points.0).map_err(failed(Phase::Pivot, "/"))?;
    }
    let hostname = if spec.hostname.is_empty() { HOSTNAME } else { &spec.hostname };
    rustix::system::sethostname(hostname.as_bytes()).map_err(failed(Phase::Namespaces, "host name"))?;
    if spec.network == Network::None {
        loopback_up().map_err(failed(Phase::Network, "loopback"))?;
    }
    match &spec.terminal {
        None => hand_over(channels).map_err(failed(Phase::Descriptors, "/dev/null"))?,
        Some(terminal) => {
            hand_over_terminal(terminal, spec).map_err(failed(Phase::Terminal, "/dev/pts"))?;
        }
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    enter_directory(&spec.cwd, &spec.user).map_err(failed(Phase::WorkingDirectory, &spec.cwd))?;
    give_output(channels, &spec.user);
    // While there is the power to set them, and as late as can be: nothing is opened from here on.
    rlimits::apply(&spec.limits.ulimits)?;
    privilege::settle(spec, house.single_id, filter)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed(Phase::Exec, "parent death signal"))?;
    Err(execute(&spec.args, &spec.env))
}

/// The overlay's root, mounted over the stub.
fn mount_root(request: &Request) -> Result<OwnedFd, Failure> {
    let WorkDirectories { overlay: work, .. } = WorkDirectories::of(&request.spec, &request.spec.root);
    overlay(request, None, &work)
}

/// Gives the traced layers of a tree a place: kernels before 6.15 take no lower directory from a mount that is nowhere.
pub(super) fn attach_traced(Request { spec, house, .. }: &Request, tree: &Root) -> Result<(), Errno> {
    let Some(index) = tree.traced else { return Ok(()) };
    let mount = spec.files.get(index.0 as usize).ok_or(Errno::BADF)?;
    system::attach_at(mount, CWD, &house.traced)
}

/// The mount points of `root`, or of a root that has them all in its place.
fn find_points(request: &Request, root: OwnedFd, mounts: &[Staged<'_>]) -> Result<(OwnedFd, Points), Failure> {
    let wanted = mounts::points_of(mounts);
    let missing = match Points::find(&root, &wanted)? {
        Ok(points) => return Ok((root, points)),
        Err(missing) => missing,
    };
    let WorkDirectories { patch, overlay: work, .. } = WorkDirectories::below(&request.spec.root.work);
    rustix::fs::mkdir(&patch, Mode::from_raw_mode(0o755))
        .map_err(failed(Phase::MountPoint, patch.to_string_lossy()))?;
    make_patch(&root, &patch, &missing)?;
    drop(root);
    let stub = &request.house.stub;
    rustix::mount::unmount(stub, UnmountFlags::DETACH).map_err(failed(Phase::Root, stub.to_string_lossy()))?;
    renew_work(&work)?;
    let root = overlay(request, Some(&patch), &work)?;
    match Points::find(&root, &wanted)? {
        Ok(points) => Ok((root, points)),
        Err(missing) => {
            let what = missing.first().map_or("", |point| point.path);
            Err(Failure { phase: Phase::MountPoint, what: what.to_owned(), error: Errno::NOENT })
        }
    }
}

/// overlayfs does not take a work directory again that a volatile mount has used.
fn renew_work(work: &Path) -> Result<(), Failure> {
    let removed = match std::fs::remove_dir_all(work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir(work),
    };
    removed.map_err(|error| failed(Phase::Root, work.to_string_lossy())(errno(&error)))
}

fn overlay(request: &Request, patch: Option<&Path>, work: &Path) -> Result<OwnedFd, Failure> {
    let Request { spec, house, devices } = request;
    let lowers = spec.root.lowers.iter().rev().map(|lower| lower.as_path());
    let WorkDirectories { stub, .. } = WorkDirectories::below(&spec.root.work);
    let traced = spec.root.traced.is_some().then_some(house.traced.as_path());
    let own_stub = (!spec.mounts.is_empty()).then_some(stub.as_path());
    let overlay = Overlay {
        lowers: patch.into_iter().chain(traced).chain(lowers).chain(own_stub).chain([house.stub.as_path()]).collect(),
        upper: &spec.root.upper,
        work,
        user_attributes: house.user_namespace,
        devices: *devices != Devices::Mounted,
    };
    overlay.mount(&house.stub)
}

/// Makes `root` the root and lets go of the old one.
fn pivot(root: &OwnedFd) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Enters the network namespace that the request came with, if it did.
fn enter_network(spec: &RunSpec) -> Result<(), Failure> {
    let Network::Namespace(index) = spec.network else { return Ok(()) };
    let namespace = spec.files.get(index.0 as usize).ok_or(Errno::BADF);
    namespace
        .and_then(|namespace| move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)))
        .map_err(failed(Phase::Network, "the network namespace"))
}

fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(socket.as_fd())
}

fn hand_over(channels: &Channels) -> Result<(), Errno> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&channels.stdout)?;
    rustix::stdio::dup2_stderr(&channels.stderr)
}

fn hand_over_terminal(terminal: &Terminal, spec: &RunSpec) -> Result<(), Errno> {
    let terminal = super::terminal::make(terminal, &spec.files)?;
    // As for pipes: an id that is not there is refused elsewhere.
    let _ = rustix::fs::fchown(&terminal, Some(Uid::from_raw(spec.user.uid)), None);
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    rustix::stdio::dup2_stderr(&terminal)
}

/// Enters the working directory, made for the user where it is missing. A magic link of `/proc` could lead out
/// of the root as long as the helper's file descriptors are open, so none is followed.
fn enter_directory(path: &str, user: &User) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let open = |path: &Path| points::open(&root, path, OFlags::DIRECTORY);
    let path = Path::new(path);
    let mut parent = match open(path) {
        Ok(directory) => return rustix::process::fchdir(directory),
        Err(Errno::NOENT) => open(Path::new("/"))?,
        Err(error) => return Err(error),
    };
    let ancestors: Vec<&Path> = path.ancestors().collect();
    for prefix in ancestors.iter().rev() {
        parent = match (open(prefix), prefix.file_name()) {
            (Err(Errno::NOENT), Some(name)) => {
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                open(prefix)?
            }
            (opened, _) => opened?,
        };
    }
    rustix::process::fchdir(parent)
}

/// A user can open `/dev/stdout` only if the pipe behind it is that user's own. An id that this namespace does not
/// have is refused when the user is entered, with an error of its own.
fn give_output(channels: &Channels, user: &User) {
    for pipe in [&channels.stdout, &channels.stderr] {
        let _ = rustix::fs::fchown(pipe, Some(Uid::from_raw(user.uid)), None);
    }
}

/// Executes the program, found as a shell would find it. Returns why it could not.
fn execute(args: &[String], env: &[String]) -> Failure {
    let failure = |error, reason: String| Failure { phase: Phase::Exec, what: reason, error };
    let texts =
        |texts: &[String]| texts.iter().map(|text| CString::new(text.as_bytes())).collect::<Result<Vec<_>, _>>();
    let (Ok(arguments), Ok(environment)) = (texts(args), texts(env)) else {
        return failure(Errno::INVAL, "an argument or variable has a NUL character".to_owned());
    };
    let Some(program) = arguments.first() else {
        return failure(Errno::INVAL, "no command".to_owned());
    };
    if program.as_bytes().contains(&b'/') {
        let error = sys::execute(program, &arguments, &environment);
        return failure(error, describe(program, error));
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
    let mut refused = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty() && !args[0].is_empty()) {
        let Ok(candidate) = CString::new(format!("{directory}/{}", args[0])) else { continue };
        match sys::execute(&candidate, &arguments, &environment) {
            Errno::NOENT | Errno::NOTDIR if !exists(&candidate) => {}
            Errno::ACCESS => refused = refused.or(Some(Errno::ACCESS)),
            error => return failure(error, describe(&candidate, error)),
        }
    }
    match refused {
        Some(error) => failure(error, describe(program, error)),
        None => failure(Errno::NOENT, "executable file not found in $PATH".to_owned()),
    }
}

fn exists(path: &CString) -> bool {
    rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty()).is_ok()
}

fn describe(program: &CString, error: Errno) -> String {
    match error {
        Errno::NOENT if exists(program) => "no such file or directory: its interpreter is missing".to_owned(),
        Errno::NOENT | Errno::NOTDIR => "no such file or directory".to_owned(),
        Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        Errno::AGAIN => "the user runs as many processes already as the limit `nproc` allows".to_owned(),
        Errno::TOOBIG => "argument list too long".to_owned(),
        _ => std::io::Error::from(error).to_string(),
    }
}
