//! The network of a command, and the names that it knows.

use std::net::IpAddr;

use kiln_solver::{self as solver, Cancel, Exec, Host, Security};

use super::ExecError;
use crate::Executor;
use crate::network::{Borrowed, Pending};
use crate::sandbox::{Network, RunSpec, SandboxError};

/// The network of one command. It must outlive the command.
pub(super) enum Access {
    /// Given by what the step says.
    Fixed(Network),
    /// Lent.
    Borrowed(Borrowed),
}

/// A network that may still be in the making.
pub(super) enum Begun {
    Fixed(Network),
    Pending(Pending),
}

/// Begins to make what the step needs, in the background.
pub(super) fn begin(executor: &Executor, exec: &Exec) -> Begun {
    match (exec.network, executor.networks()) {
        (solver::Network::None, _) => Begun::Fixed(Network::None),
        (solver::Network::Default, Some(networks)) => {
            // What has all power may leave anything behind.
            Begun::Pending(networks.begin(exec.security == Security::Insecure))
        }
        (solver::Network::Host | solver::Network::Default, _) => Begun::Fixed(Network::Host),
    }
}

/// Begins to make what a step will need, if that can be made before the step is there.
pub(super) fn expect(executor: &Executor, exec: &Exec) {
    if let (solver::Network::Default, Security::Sandbox, Some(networks)) =
        (exec.network, exec.security, executor.networks())
    {
        networks.expect();
    }
}

impl Begun {
    /// Waits until it is there.
    pub(super) fn wait(self, cancel: &Cancel) -> Result<Access, ExecError> {
        match self {
            Self::Fixed(network) => Ok(Access::Fixed(network)),
            Self::Pending(pending) => {
                let borrowed = pending.wait(cancel).ok_or(ExecError::Sandbox(SandboxError::Cancelled))?;
                Ok(Access::Borrowed(borrowed))
            }
        }
    }
}

impl Access {
    /// Puts the command into it.
    pub(super) fn give(&self, spec: &mut RunSpec) {
        spec.network = match self {
            Self::Fixed(network) => *network,
            Self::Borrowed(borrowed) => borrowed.network(&mut spec.files),
        };
    }

    /// Nobody else gets it: there is no saying what has become of the command.
    pub(super) fn discard(&mut self) {
        if let Self::Borrowed(borrowed) = self {
            borrowed.discard();
        }
    }

    /// What people should know of it.
    pub(super) fn note(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Borrowed(borrowed) => borrowed.note(),
        }
    }
}

/// The lines of `/etc/hosts`, which a name must not break out of.
pub(super) fn hosts(hosts: &[Host]) -> Result<Vec<(String, IpAddr)>, ExecError> {
    let is_name =
        |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    hosts
        .iter()
        .map(|Host { name, address }| match is_name(name) {
            true => Ok((name.clone(), *address)),
            false => Err(ExecError::Malformed("the name of a host has no letters, or a space or `#` in it")),
        })
        .collect()
}
