//! Which owners a file can have here.

/// The ids that a user namespace maps.
pub(super) struct Ids {
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
}

impl Ids {
    /// Those of this process.
    pub(super) fn own() -> Self {
        let ranges = |path| parse(&std::fs::read_to_string(path).unwrap_or_default());
        Self { uids: ranges("/proc/self/uid_map"), gids: ranges("/proc/self/gid_map") }
    }

    /// The owner that a file of a layer has on the disk: one that is not mapped is in the index alone.
    pub(super) fn on_disk(&self, uid: u32, gid: u32) -> (u32, u32) {
        let is_mapped = |ranges: &[(u32, u32)], id: u32| {
            ranges.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
        };
        if is_mapped(&self.uids, uid) && is_mapped(&self.gids, gid) { (uid, gid) } else { (0, 0) }
    }
}

/// First ids and counts.
fn parse(map: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse);
        Some((fields.next()?.ok()?, fields.nth(1)?.ok()?))
    };
    map.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_with_an_unmapped_half_is_root() {
        let ids = Ids { uids: parse("0 1000 1\n1 100000 65536\n"), gids: parse("         0       1000          1\n") };
        assert_eq!(ids.on_disk(0, 0), (0, 0));
        assert_eq!(ids.on_disk(65_536, 0), (65_536, 0));
        assert_eq!(ids.on_disk(65_537, 0), (0, 0));
        assert_eq!(ids.on_disk(1, 1), (0, 0));
        let all = parse("         0          0 4294967295\n");
        assert_eq!(Ids { uids: all.clone(), gids: all }.on_disk(70_000, 12), (70_000, 12));
    }
}
