//! Which hierarchies of control groups there are, and where this process is in them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::CgroupError;

/// One hierarchy as it is mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where.
    pub(super) mount: PathBuf,
    /// What it controls; nothing for that of version 2, whose groups each say that themselves.
    pub(super) controllers: Vec<String>,
    /// The directory of the group that this process is in.
    pub(super) own: PathBuf,
}

/// All hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// That of version 2.
    pub(super) unified: Option<Hierarchy>,
    /// Those of version 1 that control something.
    pub(super) legacy: Vec<Hierarchy>,
}

impl Machine {
    /// What this process sees.
    pub(super) fn find() -> Result<Self, CgroupError> {
        let read = |file| fs::read(file).map_err(|source| CgroupError::Unreadable { file, source });
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        Ok(Self::from_texts(&mounts, &own))
    }

    /// From texts like `/proc/self/mountinfo` and `/proc/self/cgroup` (see proc(5) and cgroups(7)).
    fn from_texts(mounts: &[u8], own: &[u8]) -> Self {
        let mounts: Vec<Mount> = mounts.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect();
        let mut machine = Self::default();
        for line in own.split(|&byte| byte == b'\n') {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let controllers = String::from_utf8_lossy(controllers);
            let controllers: Vec<&str> = controllers.split(',').filter(|name| !name.is_empty()).collect();
            let Some(mount) = mounts.iter().find(|mount| mount.has(&controllers)) else { continue };
            let path = Path::new(OsStr::from_bytes(path));
            // A path outside of what is mounted begins with `/..`.
            let below = path.strip_prefix(&mount.root).unwrap_or_else(|_| Path::new(""));
            let hierarchy = Hierarchy {
                mount: mount.point.clone(),
                controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
                own: mount.point.join(below),
            };
            match controllers.first() {
                None => machine.unified = Some(hierarchy),
                Some(name) if name.starts_with("name=") => {}
                Some(_) => machine.legacy.push(hierarchy),
            }
        }
        machine
    }
}

/// The group of version 2 that this process is in, relative to the root of what it sees; nothing where that is out of
/// its sight, or there is none.
pub(crate) fn own_unified() -> io::Result<Option<PathBuf>> {
    Ok(unified_path(&fs::read("/proc/self/cgroup")?))
}

fn unified_path(own: &[u8]) -> Option<PathBuf> {
    let path = own.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    let path = Path::new(OsStr::from_bytes(path));
    (!path.starts_with("..")).then(|| path.to_owned())
}

/// What `/proc/self/mountinfo` says of a mounted hierarchy.
struct Mount {
    root: PathBuf,
    point: PathBuf,
    /// The options of version 1, among them the controllers.
    options: Option<String>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        let options = match *fields.get(separator + 1)? {
            b"cgroup" => Some(String::from_utf8_lossy(fields.get(separator + 3)?).into_owned()),
            b"cgroup2" => None,
            _ => return None,
        };
        Some(Self { root: unescape(fields.get(3)?), point: unescape(fields.get(4)?), options })
    }

    fn has(&self, controllers: &[&str]) -> bool {
        match (&self.options, controllers.first()) {
            (None, None) => true,
            (Some(options), Some(first)) => options.split(',').any(|option| option == *first),
            _ => false,
        }
    }
}

/// The kernel writes blanks and the like as `\040`.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u32, |value, digit| Some(value * 8 + char::from(*digit).to_digit(8)?))
        });
        if let Some(byte) = escaped.and_then(|value| u8::try_from(value).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(mount: &str, controllers: &[&str], own: &str) -> Hierarchy {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        Hierarchy { mount: mount.into(), controllers, own: own.into() }
    }

    #[test]
    fn version_2_is_one_hierarchy() {
        let mounts = b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
                       31 23 0:27 / /tmp rw - tmpfs tmpfs rw\n";
        let own = b"0::/user.slice/user-1000.slice/session-3.scope\n";
        let machine = Machine::from_texts(mounts, own);
        let expected = hierarchy("/sys/fs/cgroup", &[], "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope");
        assert_eq!(machine, Machine { unified: Some(expected), legacy: Vec::new() });
    }

    #[test]
    fn version_1_has_many() {
        let mounts = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                       32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                       35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                       40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                       41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = b"9:name=systemd:/x\n5:pids:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n";
        let machine = Machine::from_texts(mounts, own);
        let legacy = vec![
            hierarchy("/sys/fs/cgroup/memory", &["memory"], "/sys/fs/cgroup/memory/a/b"),
            hierarchy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"),
        ];
        let unified = Some(hierarchy("/sys/fs/cgroup/unified", &[], "/sys/fs/cgroup/unified"));
        assert_eq!(machine, Machine { unified, legacy }, "`pids` is not mounted");
    }

    #[test]
    fn a_container_sees_a_part() {
        let mounts = b"32 31 0:29 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let own = |text: &[u8]| Machine::from_texts(mounts, text).legacy[0].own.clone();
        assert_eq!(own(b"4:memory:/docker/1/x\n"), PathBuf::from("/sys/fs/cgroup/memory/x"));
        assert_eq!(own(b"4:memory:/docker/1\n"), PathBuf::from("/sys/fs/cgroup/memory/"));
        assert_eq!(own(b"4:memory:/../2\n"), PathBuf::from("/sys/fs/cgroup/memory/"));
    }

    #[test]
    fn the_own_group_is_where_the_process_is() {
        let path = |text: &[u8]| unified_path(text);
        assert_eq!(path(b"5:devices:/x\n0::/a/b\n"), Some(PathBuf::from("a/b")));
        assert_eq!(path(b"0::/\n"), Some(PathBuf::new()));
        assert_eq!((path(b"0::/../x\n"), path(b"5:devices:/x\n"), path(b"")), (None, None, None));
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(unescape(br"/a\040b\134c\"), PathBuf::from(r"/a b\c\"));
        assert_eq!(unescape(br"/\777\08x"), PathBuf::from(r"/\777\08x"));
        assert_eq!(Machine::from_texts(b"\n- \n1 2\n", b"\n::\nx\n0:"), Machine::default());
    }
}
