//! kiln's side of the sandbox: starts the helper and hands it commands.

use std::borrow::Cow;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Gid, MemfdFlags, Mode, Stat, Uid};
use rustix::io::{Errno, IoSlice, retry_on_intr};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use rustix::pipe::{PipeFlags, pipe_with};

use kiln_solver::{Cancel, LogStream};

use super::names::{self, HostsFiles};
use super::overlay::WorkDirectories;
use super::protocol::{Channels, Failure, House, MAX_FILES, Reply, Request, errno};
use super::run::Run;
use super::trash::Trash;
use super::{ExitStatus, HELPER_NAME, MountSource, Phase, Root, RunSpec, SandboxError, SandboxSettings, points};
use crate::rootless::Identity;

/// Runs commands, any number at once.
pub struct Sandbox {
    settings: SandboxSettings,
    helper: Mutex<Option<Helper>>,
    trash: Trash,
}

/// The helper process.
struct Helper {
    control: OwnedFd,
    process: Child,
    house: House,
    hosts: HostsFiles,
}

impl Sandbox {
    /// A sandbox that has not started anything yet.
    pub fn new(settings: SandboxSettings) -> Self {
        let trash = Trash::new(settings.directory.join("trash"));
        Self { settings, helper: Mutex::new(None), trash }
    }

    /// Sees to it that the next command need not wait for the helper to start. Should that fail, the command will say
    /// so.
    pub(crate) fn warm_up(&self) {
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        if helper.is_none() {
            *helper = self.start_helper().ok();
        }
    }

    /// Runs a command to its end and tells `on_output` what it prints, as it comes. When this returns, every
    /// process of the command is dead and nothing of it is mounted.
    ///
    /// # Errors
    /// When the sandbox cannot be put together, the program cannot be executed, the build is cancelled or the time is
    /// over.
    pub fn run(
        &self,
        spec: &RunSpec,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        self.run_in(spec, State::New, on_output, cancel)
    }

    /// As [`Sandbox::run`], where a command has run before: the upper directories are as that has left them.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn run_again(
        &self,
        spec: &RunSpec,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        self.run_in(spec, State::Used, on_output, cancel)
    }

    fn run_in(
        &self,
        spec: &RunSpec,
        state: State,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        if cancel.is_requested() {
            return Err(SandboxError::Cancelled);
        }
        for tree in trees(spec) {
            prepare(spec, tree, state).map_err(|source| SandboxError::Setup {
                phase: Phase::Root,
                what: tree.upper.display().to_string(),
                source,
                hint: None,
            })?;
        }
        let ended = self.start(spec).and_then(|(command, helper)| {
            let ended = command.pump(on_output, cancel, spec.limits.time);
            if matches!(ended, Err(SandboxError::HelperDied)) {
                self.bury(helper);
            }
            ended
        });
        let cleaned = clean(spec, &self.trash);
        let reply = ended?;
        cleaned.map_err(|source| SandboxError::Helper { what: "the work directory cannot be emptied", source })?;
        match reply {
            Reply::Ended(status) => Ok(status),
            Reply::Failed(failure) => Err(self.explain(failure, spec)),
        }
    }

    /// Starts a command; yields the process of its helper, too.
    fn start(&self, spec: &RunSpec) -> Result<(Run, u32), SandboxError> {
        let failed = |what| move |error: Errno| SandboxError::Helper { what, source: error.into() };
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe"))?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe"))?;
        let (socket, their_socket) = socket_pair().map_err(failed("socket pair"))?;
        let channels = Channels { stdout: their_stdout, stderr: their_stderr, run: their_socket };
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = match &mut *helper {
            Some(helper) => helper.send(spec, &channels).map(|()| helper.process.id()),
            None => Err(Errno::PIPE),
        };
        if sent == Err(Errno::PIPE) || sent == Err(Errno::CONNRESET) {
            // Not started yet, or killed by somebody.
            let started = helper.insert(self.start_helper()?);
            sent = started.send(spec, &channels).map(|()| started.process.id());
        }
        let process = sent.map_err(failed("its control socket"))?;
        Ok((Run { stdout, stderr, socket }, process))
    }

    /// Sees to it that nobody asks a helper that is dying: it may lose the sockets of its commands before its own.
    fn bury(&self, process: u32) {
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        helper.take_if(|helper| helper.process.id() == process);
    }

    fn start_helper(&self) -> Result<Helper, SandboxError> {
        let failed = |what| move |source| SandboxError::Helper { what, source };
        let house = self.furnish().map_err(failed("its directory"))?;
        let (control, theirs) = socket_pair().map_err(|error| failed("socket pair")(error.into()))?;
        let process = Command::new("/proc/self/exe")
            .arg0(HELPER_NAME)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed("`/proc/self/exe`"))?;
        let hosts = HostsFiles::new(&self.settings.directory, &self.settings.hosts);
        Ok(Helper { control, process, house, hosts })
    }

    /// Puts the stub and the files that every command sees into the sandbox's directory.
    fn furnish(&self) -> io::Result<House> {
        let SandboxSettings { identity, directory, resolv_conf, own_resolv_conf, hosts } = &self.settings;
        let house = House {
            stub: directory.join("stub"),
            traced: directory.join("traced"),
            resolv_conf: directory.join("resolv.conf"),
            own_resolv_conf: directory.join("own-resolv.conf"),
            hosts: directory.join("hosts"),
            user_namespace: identity.in_user_namespace(),
            single_id: matches!(identity, Identity::UserSingle { .. }),
        };
        make_readable_directory(directory)?;
        make_readable_directory(&house.stub)?;
        make_readable_directory(&house.traced)?;
        std::fs::create_dir_all(self.trash.directory())?;
        points::make_stub(&house.stub)?;
        let resolvers = [(&house.resolv_conf, resolv_conf), (&house.own_resolv_conf, own_resolv_conf)];
        for (path, contents) in resolvers.into_iter().chain([(&house.hosts, hosts)]) {
            names::write_readable(path, contents)?;
        }
        Ok(house)
    }

    fn explain(&self, failure: Failure, spec: &RunSpec) -> SandboxError {
        let Failure { phase, what, error } = failure;
        let program = spec.args.first().cloned().unwrap_or_default();
        match (phase, error) {
            (Phase::Exec, Errno::NOENT | Errno::NOTDIR) => SandboxError::NotFound { program, reason: what },
            (Phase::Exec, _) => SandboxError::NotExecutable { program, reason: what },
            _ => SandboxError::Setup { phase, what, source: error.into(), hint: self.hint(phase, error) },
        }
    }

    fn hint(&self, phase: Phase, error: Errno) -> Option<&'static str> {
        let nested = self.settings.identity.in_user_namespace();
        match (phase, error) {
            (Phase::Namespaces | Phase::Root | Phase::System, Errno::PERM) if !nested => Some(
                "kiln needs `CAP_SYS_ADMIN` here; run it as an ordinary user, or the container with `--privileged`",
            ),
            (Phase::System, Errno::PERM) => {
                Some("this container hides parts of `/proc`; run it with `--security-opt systempaths=unconfined`")
            }
            (Phase::Namespaces, Errno::NOSPC) => Some("raise `sysctl user.max_user_namespaces` and its siblings"),
            (Phase::Root, Errno::TOOBIG) => Some(
                "overlayfs takes no more than 999 layers: a stage of `FROM scratch` and `COPY --from=STAGE / /` has one",
            ),
            (Phase::Root, Errno::PERM | Errno::INVAL) if nested => {
                Some("overlayfs in a user namespace needs Linux 5.11 or newer and a store not itself on overlayfs")
            }
            (Phase::Root, Errno::INVAL) => Some("the store may be on a file system that overlayfs cannot write to"),
            (Phase::Limits, Errno::PERM) if nested => {
                Some("an ordinary user cannot have more than the hard limits that kiln has itself: `ulimit -H -a`")
            }
            (Phase::Limits, Errno::PERM) => Some("no more files than `sysctl fs.nr_open` can be open"),
            (Phase::Filter, Errno::INVAL | Errno::NOSYS) => {
                Some("kiln needs a kernel with `CONFIG_SECCOMP_FILTER` on x86-64 or AArch64")
            }
            (Phase::User | Phase::WorkingDirectory | Phase::Mount, Errno::INVAL) if nested => {
                Some("this user namespace does not have that id; add a range to `/etc/subuid` and `/etc/subgid`")
            }
            _ => None,
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let helper = self.helper.get_mut().unwrap_or_else(PoisonError::into_inner);
        helper.take();
    }
}

impl Helper {
    fn send(&mut self, spec: &RunSpec, channels: &Channels) -> Result<(), Errno> {
        let own_hosts = self.hosts.of(&spec.hosts).map_err(|error| errno(&error))?;
        let text = rustix::fs::memfd_create("kiln-request", MemfdFlags::CLOEXEC)?;
        let house = match own_hosts {
            None => Cow::Borrowed(&self.house),
            Some(hosts) => Cow::Owned(House { hosts, ..self.house.clone() }),
        };
        let encoded = Request::encode(spec, &house)?;
        let mut bytes = &encoded[..];
        let mut offset = 0;
        while !bytes.is_empty() {
            let written = rustix::io::pwrite(&text, bytes, offset)?;
            offset += written as u64;
            bytes = &bytes[written..];
        }
        let mut files = vec![text.as_fd(), channels.stdout.as_fd(), channels.stderr.as_fd(), channels.run.as_fd()];
        files.extend(spec.files.iter().map(|file| file.as_fd()));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(Errno::TOOBIG);
        }
        let message = [IoSlice::new(b"r")];
        retry_on_intr(|| rustix::net::sendmsg(&self.control, &message, &mut ancillary, SendFlags::NOSIGNAL)).map(drop)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its end of the socket tells it to kill what still runs, and to go.
        let _ = rustix::net::shutdown(&self.control, Shutdown::Both);
        let _ = self.process.wait();
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// What the upper directories hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing.
    New,
    /// What an earlier command changed.
    Used,
}

/// All that the command can write to by way of overlayfs.
fn trees(spec: &RunSpec) -> impl Iterator<Item = &Root> {
    let mounted = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Layers { tree, .. } => Some(tree),
        _ => None,
    });
    std::iter::once(&spec.root).chain(mounted)
}

/// The upper directory's own owner and mode are the root's; overlayfs takes them from nowhere else.
fn prepare(spec: &RunSpec, tree: &Root, state: State) -> io::Result<()> {
    if state == State::Used {
        // They may have been changed.
    } else if let Some(stat) = top(spec, tree)? {
        rustix::fs::chown(&tree.upper, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::chmod(&tree.upper, Mode::from_raw_mode(stat.st_mode))?;
    } else {
        rustix::fs::chmod(&tree.upper, Mode::from_raw_mode(0o755))?;
    }
    let WorkDirectories { overlay, .. } = WorkDirectories::of(spec, tree);
    if overlay == tree.work { Ok(()) } else { std::fs::create_dir(overlay) }
}

/// The root of the highest layer, where there is one.
fn top(spec: &RunSpec, tree: &Root) -> io::Result<Option<Stat>> {
    if let Some(index) = tree.traced {
        let mount = spec.files.get(index.0 as usize).ok_or(Errno::BADF)?;
        return Ok(Some(rustix::fs::fstat(mount)?));
    }
    Ok(tree.lowers.last().map(rustix::fs::stat).transpose()?)
}

/// Empties the work directories again.
fn clean(spec: &RunSpec, trash: &Trash) -> io::Result<()> {
    for tree in trees(spec) {
        WorkDirectories::all(&tree.work).iter().try_for_each(|directory| trash.take(directory))?;
    }
    Ok(())
}

fn make_readable_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o755))?)
}
