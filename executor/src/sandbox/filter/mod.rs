//! The system call filter (seccomp) that commands run under: Docker's default profile.
//!
//! It is one BPF program for all the ways in which programs can call this kernel, so that 32-bit programs work and
//! are filtered alike. The helper makes it once; each command installs it while it still has `CAP_SYS_ADMIN`, for
//! that allows it to go without `no_new_privs`: setuid programs work, as they do with Docker.
//!
//! | file | |
//! |---|---|
//! | `calls.rs` | which calls are allowed, by name and number |
//! | `profile.rs` | what else the profile says, and what it comes to for each number |
//! | `program.rs` | the BPF program for that |

mod calls;
mod profile;
mod program;

use rustix::io::Errno;

use super::sys;

/// A filter ready to be installed.
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// The filter for the machine's own architecture and those that its kernel runs besides.
    pub(super) fn native() -> Result<Self, Errno> {
        let sections = profile::native().ok_or(Errno::NOSYS)?;
        Ok(Self(program::generate(&sections)))
    }

    /// Puts this process and all that come from it under the filter, for ever.
    pub(super) fn install(&self) -> Result<(), Errno> {
        sys::install_filter(&self.0)
    }
}

#[cfg(test)]
mod tests;
