//! What kiln and its helper say to each other. Both are the same program, so the form is as plain as can be:
//! numbers of four bytes, and texts with their length in front.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use kiln_solver::Network;
use rustix::io::Errno;

use super::{ExitStatus, Phase, RunSpec, User};

/// A command to run and all that the helper must know for it.
pub(super) struct Request {
    pub(super) spec: RunSpec,
    pub(super) house: House,
}

/// What is the same for every command of one [`super::Sandbox`].
#[derive(Clone)]
pub(super) struct House {
    /// The lowest layer of every root: empty mount points.
    pub(super) stub: PathBuf,
    /// The file shown as `/etc/resolv.conf`.
    pub(super) resolv_conf: PathBuf,
    /// The file shown as `/etc/hosts`.
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

/// What came of a command.
#[derive(Debug)]
pub(super) enum Reply {
    Ended(ExitStatus),
    Failed(Failure),
}

/// Why a command was never executed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) what: String,
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

const PHASES: [Phase; 13] = [
    Phase::Seal,
    Phase::Namespaces,
    Phase::Root,
    Phase::MountPoint,
    Phase::System,
    Phase::Pivot,
    Phase::Network,
    Phase::WorkingDirectory,
    Phase::Filter,
    Phase::User,
    Phase::Capabilities,
    Phase::Descriptors,
    Phase::Exec,
];

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let Self { spec, house } = self;
        writer.list(&spec.lowers, |writer, lower| writer.path(lower));
        writer.path(&spec.upper).path(&spec.work);
        writer.list(&spec.args, |writer, text| writer.bytes(text.as_bytes()));
        writer.list(&spec.env, |writer, text| writer.bytes(text.as_bytes()));
        writer.bytes(spec.cwd.as_bytes()).number(spec.user.uid).number(spec.user.gid);
        writer.list(&spec.user.groups, |writer, group| writer.number(*group));
        writer.number(match spec.network {
            Network::Default => 0,
            Network::Host => 1,
            Network::None => 2,
        });
        writer.path(&house.stub).path(&house.resolv_conf).path(&house.hosts);
        writer.number(u32::from(house.user_namespace)).number(u32::from(house.single_id));
        writer.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let spec = RunSpec {
            lowers: reader.list(Reader::path)?,
            upper: reader.path()?,
            work: reader.path()?,
            args: reader.list(Reader::text)?,
            env: reader.list(Reader::text)?,
            cwd: reader.text()?,
            user: User { uid: reader.number()?, gid: reader.number()?, groups: reader.list(Reader::number)? },
            network: match reader.number()? {
                0 => Network::Default,
                1 => Network::Host,
                _ => Network::None,
            },
        };
        let house = House {
            stub: reader.path()?,
            resolv_conf: reader.path()?,
            hosts: reader.path()?,
            user_namespace: reader.number()? != 0,
            single_id: reader.number()? != 0,
        };
        Some(Self { spec, house })
    }
}

impl Reply {
    /// More than the longest reply takes.
    pub(super) const MAX: usize = 8192;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Ended(ExitStatus::Code(code)) => writer.number(0).number(code.cast_unsigned()),
            Self::Ended(ExitStatus::Signal(signal)) => writer.number(1).number(signal.cast_unsigned()),
            Self::Failed(failure) => {
                let phase = PHASES.iter().position(|phase| *phase == failure.phase).unwrap_or_default();
                let what = failure.what.as_bytes();
                writer.number(2).number(phase as u32).number(failure.error.raw_os_error().cast_unsigned());
                writer.bytes(&what[..what.len().min(Self::MAX - 64)])
            }
        };
        writer.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(match reader.number()? {
            0 => Self::Ended(ExitStatus::Code(reader.number()?.cast_signed())),
            1 => Self::Ended(ExitStatus::Signal(reader.number()?.cast_signed())),
            _ => Self::Failed(Failure {
                phase: *PHASES.get(reader.number()? as usize)?,
                error: Errno::from_raw_os_error(reader.number()?.cast_signed()),
                what: String::from_utf8_lossy(reader.bytes()?).into_owned(),
            }),
        })
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn path(&mut self, path: &Path) -> &mut Self {
        self.bytes(path.as_os_str().as_bytes())
    }

    fn list<'w, T>(&'w mut self, items: &[T], put: impl Fn(&'w mut Self, &T) -> &'w mut Self) -> &'w mut Self {
        self.number(items.len() as u32);
        items.iter().fold(self, put)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(OsString::from_vec(self.bytes()?.to_vec()).into())
    }

    fn list<T>(&mut self, mut get: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.number()?;
        (0..length).map(|_| get(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_way() {
        let request = Request {
            spec: RunSpec {
                lowers: vec!["/a".into(), OsString::from_vec(vec![b'/', 0xff]).into()],
                upper: "/u".into(),
                work: "/w".into(),
                args: vec!["sh".into(), "-c".into(), String::new()],
                env: vec!["A=ü".into()],
                cwd: "/".into(),
                user: User { uid: 1, gid: 2, groups: vec![3, 4] },
                network: Network::None,
            },
            house: House {
                stub: "/stub".into(),
                resolv_conf: "/r".into(),
                hosts: "/h".into(),
                user_namespace: true,
                single_id: false,
            },
        };
        let bytes = request.encode();
        let back = Request::decode(&bytes).unwrap();
        assert_eq!(back.encode(), bytes);
        assert_eq!(back.spec.lowers, request.spec.lowers);
        assert_eq!(back.spec.user, request.spec.user);
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
