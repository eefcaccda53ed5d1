//! The mount that the kernel sends requests about, and the thread that answers them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::protocol::{Agreement, Reply, Request, operation};
use super::server::Server;
use super::{TraceError, Untraceable};

/// Requests carry a name or two; the kernel wants room for the least write (4 KiB) and 8 KiB at least.
const LONGEST_REQUEST: usize = 64 << 10;
/// How long the thread looks out for the next request before it sleeps. A command that walks a tree asks again within a
/// few microseconds, and to wake a sleeping processor takes longer than to answer: in a virtual machine, much longer.
const LOOKOUT: Duration = Duration::from_micros(30);

/// A mounted server. One thread answers: more only take requests away from each other's warm caches, and an answer
/// seldom waits for the disk.
pub(super) struct Connection {
    mount: OwnedFd,
    /// Readable once the thread shall end.
    stop: OwnedFd,
    service: Arc<Mutex<Service>>,
}

/// What the thread works with, one request after the other.
enum Service {
    On(Box<Server>),
    /// Nobody wants to know any more what is looked at: requests come to nothing.
    Over,
    Failed(Errno),
}

impl Connection {
    /// Mounts a union, attached nowhere, and begins to serve it.
    pub(super) fn open(mut server: Server) -> Result<Self, Untraceable> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(Untraceable::device)?;
        let mount = mount(&device).map_err(Untraceable::mount)?;
        shake_hands(&device, &mut server)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(Untraceable::mount)?;
        let stopped = stop.try_clone().map_err(Untraceable::Thread)?;
        let mounted = mount.try_clone().map_err(Untraceable::Thread)?;
        let service = Arc::new(Mutex::new(Service::On(Box::new(server))));
        let served = service.clone();
        let thread = thread::Builder::new().name("trace".to_owned());
        let serve = move || {
            serve(&served, &device, &stopped);
            // The thread alone has the device. However it ends, the connection ends with it, and whoever waits for an
            // answer gets an error. It takes the kernel a while to take the mount down: that is done here, too.
            drop((device, mounted));
        };
        thread.spawn(serve).map_err(Untraceable::Thread)?;
        Ok(Self { mount, stop, service })
    }

    /// The root of the mount.
    pub(super) fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// Ends the service. What is still mounted anywhere gives nothing but errors from now on.
    pub(super) fn close(self) -> Result<Server, TraceError> {
        let service = self.service.lock().map(|mut service| std::mem::replace(&mut *service, Service::Over));
        match service {
            Ok(Service::On(server)) => Ok(*server),
            Ok(Service::Failed(error)) => Err(TraceError::Connection(error.into())),
            Ok(Service::Over) | Err(_) => Err(TraceError::Died),
        }
    }
}

impl Drop for Connection {
    /// Nobody needs to wait for the thread, which holds on to nothing but the connection.
    fn drop(&mut self) {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Service::Over;
        // It fails only when it is readable already.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

/// Answers requests until the union is unmounted or the service ended.
fn serve(service: &Mutex<Service>, device: &OwnedFd, stop: &OwnedFd) {
    if let Err(error) = answer_all(service, device, stop) {
        // Poisoned or not: what was noted may not be all.
        let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*service, Service::On(_)) {
            *service = Service::Failed(error);
        }
    }
}

fn answer_all(service: &Mutex<Service>, device: &OwnedFd, stop: &OwnedFd) -> Result<(), Errno> {
    let mut request = vec![0; LONGEST_REQUEST];
    let mut reply = Vec::with_capacity(4096);
    let mut idle_since = None;
    loop {
        match rustix::io::read(device, &mut request[..]) {
            Ok(length) => {
                idle_since = None;
                let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
                let Service::On(server) = &mut *service else { return Ok(()) };
                answer(server, device, request.get(..length).unwrap_or_default(), &mut reply)?;
            }
            // It was taken back.
            Err(Errno::NOENT | Errno::INTR) => {}
            // Others go first.
            Err(Errno::AGAIN) if idle_since.get_or_insert_with(Instant::now).elapsed() < LOOKOUT => thread::yield_now(),
            Err(Errno::AGAIN) => {
                if wait(device, stop)? {
                    return Ok(());
                }
            }
            // It is mounted nowhere any more.
            Err(Errno::NODEV) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits for a request; whether the service ended instead.
fn wait(device: &OwnedFd, stop: &OwnedFd) -> Result<bool, Errno> {
    let mut set = [PollFd::new(device, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    match poll(&mut set, None) {
        Ok(_) => Ok(!set[1].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

fn answer(server: &mut Server, device: &OwnedFd, request: &[u8], bytes: &mut Vec<u8>) -> Result<(), Errno> {
    let request = Request::parse(request).ok_or(Errno::PROTO)?;
    if request.is_message() {
        return Ok(());
    }
    let mut reply = Reply::new(&request, bytes);
    server.answer(&request, &mut reply, device.as_fd());
    reply.finish();
    send(device, bytes)
}

fn send(device: &OwnedFd, reply: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(device, reply) {
            // Whoever asked has been killed.
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A mount of the connection: read-only, and for all users of this user namespace.
fn mount(device: &OwnedFd) -> Result<OwnedFd, Errno> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let number = device.as_raw_fd().to_string();
    let options = [("source", "kiln"), ("fd", &number), ("rootmode", "40755"), ("user_id", "0"), ("group_id", "0")];
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), name, value)?;
    }
    fsconfig_set_flag(context.as_fd(), "allow_other")?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The kernel's first request came with the mount.
fn shake_hands(device: &OwnedFd, server: &mut Server) -> Result<(), Untraceable> {
    let mut bytes = vec![0; LONGEST_REQUEST];
    let length = rustix::io::read(device, &mut bytes[..]).map_err(Untraceable::mount)?;
    let request = Request::parse(bytes.get(..length).unwrap_or_default());
    let request = request.filter(|request| request.operation == operation::INIT).ok_or(Untraceable::Kernel)?;
    let agreement = Agreement::new(&request).ok_or(Untraceable::Kernel)?;
    if agreement.has_passthrough() {
        server.allow_passthrough();
    }
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&request, &mut bytes);
    agreement.reply(&mut reply);
    reply.finish();
    send(device, &bytes).map_err(Untraceable::mount)
}
