//! Running cases in further processes: as an ordinary user, and on machines whose network is known.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::groups::Delegated;

const NOBODY: u32 = 65534;

/// Who runs the cases.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Root.
    Root,
    /// An ordinary user with a range of ids, granted by files that only this test's own mount namespace shows.
    Range,
    /// An ordinary user with no more than its own.
    Single,
}

pub const KINDS: [Kind; 3] = [Kind::Root, Kind::Range, Kind::Single];

/// What network the cases find.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// The machine's. Root runs those itself.
    Here,
    /// One with a way out and an address or two.
    Online,
    /// None at all.
    Offline,
    /// The machine's, where the control groups are those of version 2. For root alone.
    Unified,
    /// The same, where kiln's own group can have none below it. For root alone.
    Unguarded,
}

pub const PLACES: [Place; 5] = [Place::Here, Place::Online, Place::Offline, Place::Unified, Place::Unguarded];

/// Hides whatever is there.
const UNIFIED: &str = "umount -l -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup";

impl Place {
    /// What tells the further process.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Here => "--here",
            Self::Online => "--online",
            Self::Offline => "--offline",
            Self::Unified => "--unified",
            Self::Unguarded => "--unguarded",
        }
    }

    /// Whether the attempts of this theme are made there.
    pub fn has_escapes(self, theme: &str) -> bool {
        match self {
            Self::Here => true,
            Self::Unguarded => theme == "devices",
            _ => false,
        }
    }

    fn has_own_network(self) -> bool {
        matches!(self, Self::Online | Self::Offline)
    }

    /// Who is there.
    fn is_for(self, kind: Kind) -> bool {
        match self {
            // Root runs those by itself.
            Self::Here => kind != Kind::Root,
            Self::Online | Self::Offline => true,
            Self::Unified | Self::Unguarded => kind == Kind::Root,
        }
    }

    /// Makes it, in a network namespace of its own, where port 53 is everybody's, as /dev/net/tun is for users.
    fn script(self) -> &'static str {
        match self {
            Self::Here => "",
            Self::Offline => "ip link set lo up",
            Self::Unified => UNIFIED,
            // It must be left again for the group to be removed.
            Self::Unguarded => {
                "umount -l -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
                own=/sys/fs/cgroup/kiln-test-unguarded-$$
                mkdir $own && echo 0 > $own/cgroup.max.descendants && echo $$ > $own/cgroup.procs
                \"$@\" && code=0 || code=$?
                echo $$ > /sys/fs/cgroup/cgroup.procs && rmdir $own && exit $code"
            }
            Self::Online => {
                "ip link set lo up
                ip link add uplink0 type veth peer name uplink1
                ip link set uplink0 up && ip link set uplink1 up
                ip address add 192.0.2.2/24 dev uplink0 && ip route add default via 192.0.2.1
                ip address add 198.51.100.1/32 dev lo
                echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
                if test -e /proc/net/if_inet6; then
                    ip -6 address add 2001:db8::2/64 dev uplink0 nodad
                    ip -6 route add default via 2001:db8::1 dev uplink0
                    ip -6 address add 2001:db8:1::1/128 dev lo nodad
                fi
                mount -t tmpfs tmpfs /dev/net && mknod -m $TUN /dev/net/tun c 10 200
                echo nameserver 127.0.0.53 > /dev/net/resolv.conf
                mount --bind /dev/net/resolv.conf /etc/resolv.conf"
            }
        }
    }
}

/// Runs the cases as `kind`; how many passed and failed.
pub fn run(kind: Kind, place: Place, filters: &[&str]) -> (u32, u32) {
    if !place.is_for(kind) {
        return (0, 0);
    }
    let (text, errors) = output(kind, place, filters);
    let (result, tests): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("test result:"));
    println!("{}", tests.join("\n").trim_end());
    if !errors.is_empty() {
        println!("{errors}");
    }
    let count = |word: &str| {
        let before = result.first()?.split(word).next()?;
        before.split_whitespace().last()?.parse().ok()
    };
    (count(" passed").unwrap_or(0), count(" failed").unwrap_or(1))
}

/// Runs this program as `kind`; what it prints to stdout and stderr.
pub fn output(kind: Kind, place: Place, arguments: &[&str]) -> (String, String) {
    let directory = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let program = directory.path().join("sandbox-test");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    let grant = directory.path().join("grant");
    std::fs::write(&grant, if kind == Kind::Range { "nobody:200000:65536\n" } else { "" }).unwrap();
    let name = match kind {
        Kind::Root => "online",
        Kind::Range => "range",
        Kind::Single => "single",
    };
    let delegated = Delegated::make(name, (kind != Kind::Root).then_some(NOBODY));
    let groups = delegated.name().map_or_else(|| "--no-groups".to_owned(), |name| format!("{}{name}", crate::GROUPS));
    // Everywhere else `/dev/fuse` is everybody's already.
    let become_user = if kind == Kind::Root { "" } else { "setpriv --reuid 65534 --regid 65534 --clear-groups --" };
    let script = format!(
        r#"set -e
        test -z "$2" || echo $$ > "$2"
        mount --bind "$1" /etc/subuid; mount --bind "$1" /etc/subgid
        mknod "$1.fuse" c 10 229; chmod 666 "$1.fuse"; mount --bind "$1.fuse" /dev/fuse; shift 2
        {}
        exec {become_user} "$@""#,
        place.script()
    );
    let namespaces: &[&str] = if place.has_own_network() { &["--mount", "--net"] } else { &["--mount"] };
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["--", "sh", "-c", &script, "sh"])
        .arg(&grant)
        .arg(delegated.home())
        .arg(&program)
        .args([crate::INNER, place.flag(), &groups])
        .args(arguments)
        .env_remove("TMPDIR")
        .env("TUN", if kind == Kind::Root { "600" } else { "666" })
        .current_dir("/")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
