//! A command that runs: its output is passed on until it ends, by itself or for being told to.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_solver::{Cancel, LogStream};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, Shutdown};

use super::SandboxError;
use super::protocol::Reply;

/// kiln's ends of one running command.
pub(super) struct Run {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Brings the outcome; closed, it has the command killed.
    pub(super) socket: OwnedFd,
}

impl Run {
    /// Passes output on until the command has ended, by itself or for being told to, and nothing is left of it.
    pub(super) fn pump(
        self,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
        time: Option<Duration>,
    ) -> Result<Reply, SandboxError> {
        let deadline = time.and_then(|time| Some((Instant::now().checked_add(time)?, time)));
        let broken = |error: Errno| SandboxError::Helper { what: "its run socket", source: error.into() };
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(broken)?);
        let armed = wake.clone();
        let _hook = cancel.on_request(move || {
            let _ = rustix::io::write(&*armed, &1_u64.to_ne_bytes());
        });
        let mut output = [Some((LogStream::Stdout, self.stdout)), Some((LogStream::Stderr, self.stderr))];
        let mut buffer = vec![0; 64 * 1024];
        let mut stopped = None;
        let reply = loop {
            let watched = stopped.is_none().then_some(&*wake);
            let until = deadline.filter(|_| stopped.is_none()).map(|(end, _)| end);
            let ready = wait(&output, &self.socket, watched, until).map_err(broken)?;
            for (source, ready) in output.iter_mut().zip(ready.output) {
                if ready && pass_on(source, &mut buffer, on_output) == Passed::End {
                    *source = None;
                }
            }
            if stopped.is_none() {
                stopped = match deadline {
                    _ if ready.cancelled => Some(SandboxError::Cancelled),
                    Some((end, time)) if Instant::now() >= end => Some(SandboxError::TimedOut(time)),
                    _ => None,
                };
                if stopped.is_some() {
                    rustix::net::shutdown(&self.socket, Shutdown::Write).map_err(broken)?;
                }
            }
            if ready.reply {
                let mut bytes = [0; Reply::MAX];
                let (length, _) = retry_on_intr(|| rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::empty()))
                    .map_err(broken)?;
                break Reply::decode(&bytes[..length]).ok_or(SandboxError::HelperDied)?;
            }
        };
        for source in &mut output {
            drain(source, &mut buffer, on_output);
        }
        stopped.map_or(Ok(reply), Err)
    }
}

type Source = Option<(LogStream, OwnedFd)>;

struct Ready {
    output: [bool; 2],
    reply: bool,
    cancelled: bool,
}

/// Waits until something happens or this time has come.
fn wait(
    output: &[Source; 2],
    socket: &OwnedFd,
    wake: Option<&OwnedFd>,
    until: Option<Instant>,
) -> Result<Ready, Errno> {
    let mut set = vec![PollFd::new(socket, PollFlags::IN)];
    let wake_at = wake.map(|wake| {
        set.push(PollFd::new(wake, PollFlags::IN));
        set.len() - 1
    });
    let output_at = output.each_ref().map(|source| {
        source.as_ref().map(|(_, pipe)| {
            set.push(PollFd::new(pipe, PollFlags::IN));
            set.len() - 1
        })
    });
    let left = until.map(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())));
    match poll(&mut set, left.and_then(Result::ok).as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready { output: [false; 2], reply: false, cancelled: false }),
        Err(error) => return Err(error),
    }
    let happened = |position: Option<usize>| position.is_some_and(|position| !set[position].revents().is_empty());
    Ok(Ready { output: output_at.map(happened), reply: happened(Some(0)), cancelled: happened(wake_at) })
}

#[derive(PartialEq, Eq)]
enum Passed {
    Some,
    Nothing,
    End,
}

fn pass_on(source: &Source, buffer: &mut [u8], on_output: &(dyn Fn(LogStream, &[u8]) + Sync)) -> Passed {
    let Some((stream, pipe)) = source else { return Passed::End };
    match rustix::io::read(pipe, &mut *buffer) {
        Ok(0) => Passed::End,
        Ok(length) => {
            on_output(*stream, &buffer[..length]);
            Passed::Some
        }
        Err(Errno::INTR) => Passed::Some,
        Err(Errno::AGAIN) => Passed::Nothing,
        Err(_) => Passed::End,
    }
}

/// Passes on what is left in a pipe, without waiting for those who may still hold it open: the command is dead.
fn drain(source: &Source, buffer: &mut [u8], on_output: &(dyn Fn(LogStream, &[u8]) + Sync)) {
    let Some((_, pipe)) = source else { return };
    if rustix::io::ioctl_fionbio(pipe, true).is_ok() {
        while pass_on(source, buffer, on_output) == Passed::Some {}
    }
}
