//! What kiln and its helper say to each other. Both are the same program, so the form needs no version.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::guard::Devices;
use super::spec::path;
use super::{ExitStatus, Phase, RunSpec};

/// A command to run and all that the helper must know for it.
#[derive(Deserialize)]
pub(super) struct Request {
    pub(super) spec: RunSpec,
    pub(super) house: House,
    /// For the helper to say.
    #[serde(skip)]
    pub(super) devices: Devices,
}

/// What is the same for every command of one [`super::Sandbox`].
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct House {
    /// The lowest layer of every root: empty mount points.
    #[serde(with = "path")]
    pub(super) stub: PathBuf,
    /// An empty directory, where each command attaches the layer that is a mount of its own, in its own namespace.
    #[serde(with = "path")]
    pub(super) traced: PathBuf,
    /// The file shown as `/etc/resolv.conf` in the host's network and in none.
    #[serde(with = "path")]
    pub(super) resolv_conf: PathBuf,
    /// The file shown as `/etc/resolv.conf` in a network of the command's own.
    #[serde(with = "path")]
    pub(super) own_resolv_conf: PathBuf,
    /// The file shown as `/etc/hosts`.
    #[serde(with = "path")]
    pub(super) hosts: PathBuf,
    /// Whether this is a user namespace: no device can be made there, and `trusted.*` attributes are out of reach.
    pub(super) user_namespace: bool,
    /// Whether that has one id alone: no group can be set there.
    pub(super) single_id: bool,
}

/// File descriptors that go with a request.
pub(super) struct Channels {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// The run socket.
    pub(super) run: OwnedFd,
}

/// How many files can go with a request: what is in `Channels`, the text of it, and its own.
/// The kernel's own limit (`SCM_MAX_FD`).
pub(super) const MAX_FILES: usize = 253;

/// What came of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Ended(ExitStatus),
    Failed(Failure),
}

/// Why a command was never executed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) what: String,
    #[serde(with = "number")]
    pub(super) error: Errno,
}

/// Turns an error into a [`Failure`] of this phase.
pub(super) fn failed<W: Into<String>>(phase: Phase, what: W) -> impl FnOnce(Errno) -> Failure {
    move |error| Failure { phase, what: what.into(), error }
}

/// The number of an error of the standard library.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Request {
    /// Wiped when it is dropped: there may be secrets in it. It is written to memory that is large enough from the
    /// start, and so never moved.
    pub(super) fn encode(spec: &RunSpec, house: &House) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let size = postcard::experimental::serialized_size(&(spec, house)).map_err(|_| Errno::NOMEM)?;
        let mut bytes = Zeroizing::new(vec![0; size]);
        postcard::to_slice(&(spec, house), &mut bytes).map_err(|_| Errno::NOMEM)?;
        Ok(bytes)
    }

    /// `None` for what is no request.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Reply {
    /// More than the longest reply takes.
    pub(super) const MAX: usize = 8192;

    /// More than that of a failure is left out.
    const LONGEST: usize = Self::MAX - 64;

    pub(super) fn encode(self) -> Vec<u8> {
        let whole = match self {
            Self::Failed(failure) if failure.what.len() > Self::LONGEST => {
                let start = &failure.what.as_bytes()[..Self::LONGEST];
                Self::Failed(Failure { what: String::from_utf8_lossy(start).into_owned(), ..failure })
            }
            short => short,
        };
        // Nothing at all is read as the helper's death.
        postcard::to_stdvec(&whole).unwrap_or_default()
    }

    /// `None` for what is no reply.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Errors by their number.
mod number {
    use rustix::io::Errno;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
    pub(super) fn serialize<S: Serializer>(error: &Errno, serializer: S) -> Result<S::Ok, S::Error> {
        error.raw_os_error().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Errno, D::Error> {
        Ok(Errno::from_raw_os_error(i32::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::sandbox::{FileIndex, Limits, Mount, MountSource, Network, Root, User};

    #[test]
    fn a_request_survives_the_way() {
        let request = Request {
            spec: RunSpec {
                root: Root {
                    lowers: vec!["/a".into(), OsString::from_vec(vec![b'/', 0xff]).into()],
                    traced: Some(FileIndex(1)),
                    upper: "/u".into(),
                    work: "/w".into(),
                },
                mounts: vec![Mount {
                    destination: "/c".into(),
                    readonly: true,
                    source: MountSource::Directory(OsString::from_vec(vec![0xff]).into()),
                }],
                args: vec!["sh".into(), "-c".into(), String::new()],
                env: vec!["A=ü".into()],
                cwd: "/".into(),
                user: User { uid: 1, gid: 2, groups: vec![3, 4] },
                network: Network::Namespace(FileIndex(0)),
                hostname: "builder".into(),
                hosts: vec![("db".into(), [10, 0, 0, 1].into())],
                insecure: false,
                limits: Limits::default(),
                terminal: None,
                files: Vec::new(),
            },
            house: House {
                stub: "/stub".into(),
                traced: "/traced".into(),
                resolv_conf: "/r".into(),
                own_resolv_conf: "/o".into(),
                hosts: "/h".into(),
                user_namespace: true,
                single_id: false,
            },
            devices: Devices::default(),
        };
        let bytes = Request::encode(&request.spec, &request.house).unwrap();
        let back = Request::decode(&bytes).unwrap();
        assert_eq!(format!("{:?}", back.spec), format!("{:?}", request.spec));
        assert_eq!(Request::encode(&back.spec, &back.house).unwrap(), bytes);
        for cut in 0..bytes.len() {
            assert!(Request::decode(&bytes[..cut]).is_none());
        }
    }

    #[test]
    fn a_long_failure_is_cut_short() {
        let failure = Failure { phase: Phase::Exec, what: "x".repeat(100_000), error: Errno::NOENT };
        let bytes = Reply::Failed(failure).encode();
        assert!(bytes.len() <= Reply::MAX);
        let Some(Reply::Failed(back)) = Reply::decode(&bytes) else { panic!("not a failure") };
        assert_eq!((back.phase, back.error), (Phase::Exec, Errno::NOENT));
    }
}
