//! Resource limits (`setrlimit(2)`): their names, and setting them.

use rustix::process::{Resource, Rlimit, setrlimit};

use super::protocol::{Failure, failed};
use super::{Phase, Ulimit};

/// The limits that Docker has names for, in the order of the alphabet.
const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The number of the resource with this name, as Docker has it.
pub fn resource(name: &str) -> Option<u32> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource as u32)
}

/// All names of resources, for people to read.
pub fn names() -> String {
    NAMES.map(|(name, _)| format!("`{name}`")).join(", ")
}

/// Puts this process under these limits.
pub(super) fn apply(limits: &[Ulimit]) -> Result<(), Failure> {
    let finite = |limit| (limit != u64::MAX).then_some(limit);
    for Ulimit { resource, soft, hard } in limits {
        let Some((name, resource)) = NAMES.iter().find(|(_, known)| *known as u32 == *resource) else {
            return Err(failed(Phase::Limits, format!("resource {resource}"))(rustix::io::Errno::INVAL));
        };
        setrlimit(*resource, Rlimit { current: finite(*soft), maximum: finite(*hard) })
            .map_err(failed(Phase::Limits, format!("`{name}`")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        assert_eq!(resource("nofile"), Some(libc::RLIMIT_NOFILE));
        assert_eq!(resource("core"), Some(libc::RLIMIT_CORE));
        assert_eq!(resource("rttime"), Some(libc::RLIMIT_RTTIME));
        assert_eq!((resource("NOFILE"), resource("as"), resource("")), (None, None, None));
        assert!(names().starts_with("`core`, `cpu`, ") && names().ends_with(", `stack`"));
    }
}
