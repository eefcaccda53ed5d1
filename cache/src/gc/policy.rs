//! How much may stay: bounds of space, and the rules of an automatic prune.

use std::time::Duration;

use super::Filter;

/// An amount of disk space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// So many bytes.
    Bytes(u64),
    /// So much of the disk that the store lies on, in percent.
    Percent(u64),
}

/// Bounds of space, as BuildKit has them. They are about the cache: what images need does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// So much always stays.
    pub reserved: Option<Space>,
    /// No more than this may stay.
    pub max_used: Option<Space>,
    /// So much of the disk is to be free.
    pub min_free: Option<Space>,
}

/// One rule of an automatic prune.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Also what was fetched.
    pub all: bool,
    /// Only what fits one of these, where there are any.
    pub filters: Vec<Filter>,
    /// Only what was not used for so long.
    pub keep_duration: Option<Duration>,
    /// How much may stay.
    pub bounds: Bounds,
}

/// A disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) size: u64,
    pub(super) free: u64,
}

const GIGABYTE: u64 = 1_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Space {
    fn bytes(self, disk: Disk) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (disk.size / 100).saturating_mul(percent),
        }
    }
}

impl Bounds {
    /// The bounds where nobody set any, which are BuildKit's: 10 % of the disk but at most 10 GB always stay, 60 % but
    /// at most 100 GB may, and 20 % are to be free.
    pub fn usual(disk_size: u64) -> Self {
        let disk = Disk { size: disk_size, free: 0 };
        let at_most = |percent, gigabytes: u64| {
            Some(Space::Bytes(Space::Percent(percent).bytes(disk).min(gigabytes.saturating_mul(GIGABYTE))))
        };
        Self { reserved: at_most(10, 10), max_used: at_most(60, 100), min_free: Some(Space::Percent(20)) }
    }

    /// Down to how many bytes a cache of `used` bytes may be brought. Without any bounds, that is none at all.
    pub(super) fn keep(&self, used: u64, disk: Disk) -> u64 {
        let bytes = |space: Option<Space>| space.map(|space| space.bytes(disk));
        let reserved = bytes(self.reserved).unwrap_or(0);
        if self.max_used.is_none() && self.min_free.is_none() {
            return reserved;
        }
        let missing = bytes(self.min_free).map_or(0, |wanted| wanted.saturating_sub(disk.free));
        let for_free = if missing == 0 { u64::MAX } else { used.saturating_sub(missing) };
        bytes(self.max_used).unwrap_or(u64::MAX).min(for_free).max(reserved)
    }
}

impl Policy {
    /// The rules where nobody set any, which are BuildKit's: where the cache is larger than 512 MB, what is easily made
    /// again goes after two days; then what was not used for 60 days, then the rest, and last what was fetched, each
    /// only as far as the bounds ask for it.
    pub fn usual(bounds: Bounds) -> Vec<Self> {
        let easy = "type==source.local,type==exec.cachemount,type==source.git.checkout";
        let small = Bounds { max_used: Some(Space::Bytes(512_000_000)), ..Bounds::default() };
        vec![
            Self {
                filters: Filter::parse(easy).into_iter().collect(),
                keep_duration: Some(2 * DAY),
                bounds: small,
                all: false,
            },
            Self { keep_duration: Some(60 * DAY), bounds, ..Self::default() },
            Self { bounds, ..Self::default() },
            Self { all: true, bounds, ..Self::default() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Disk = Disk { size: 1000, free: 100 };

    #[test]
    fn bounds_say_how_much_stays() {
        let bytes = |bytes: u64| (bytes > 0).then_some(Space::Bytes(bytes));
        for (reserved, max_used, min_free, keep) in [
            (0, 0, 0, 0),
            (50, 0, 0, 50),
            (0, 300, 0, 300),
            (0, 0, 100, u64::MAX),
            (0, 0, 150, 350),
            (0, 300, 150, 300),
            (0, 380, 150, 350),
            (370, 0, 150, 370),
            (0, 0, 900, 0),
            (50, 300, 100, 300),
        ] {
            let bounds = Bounds { reserved: bytes(reserved), max_used: bytes(max_used), min_free: bytes(min_free) };
            assert_eq!(bounds.keep(400, DISK), keep, "{bounds:?}");
        }
        let percent = Bounds { max_used: Some(Space::Percent(30)), ..Bounds::default() };
        assert_eq!(percent.keep(400, DISK), 300);
    }

    #[test]
    fn the_usual_bounds_know_small_disks_and_large_ones() {
        let bounds = |size| Bounds::usual(size).reserved.zip(Bounds::usual(size).max_used);
        assert_eq!(bounds(50 * GIGABYTE), Some((Space::Bytes(5 * GIGABYTE), Space::Bytes(30 * GIGABYTE))));
        assert_eq!(bounds(4000 * GIGABYTE), Some((Space::Bytes(10 * GIGABYTE), Space::Bytes(100 * GIGABYTE))));
        let policies = Policy::usual(Bounds::usual(50 * GIGABYTE));
        assert!(policies.len() == 4 && policies[0].filters.len() == 1 && policies[3].all);
    }
}
