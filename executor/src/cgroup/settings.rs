//! What limits come to in the files of each version.

use super::{CpuTime, Resources, Swap};

/// One file of a group to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Of the controller.
    pub(super) controller: &'static str,
    /// Its name in the group's directory.
    pub(super) file: &'static str,
    /// What to write.
    pub(super) value: String,
    /// Whether nobody asked for it: a kernel that lacks the file is fine.
    pub(super) implied: bool,
}

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string(), implied: false }
}

/// For version 2.
pub(super) fn unified(resources: &Resources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory {
        all.push(setting("memory", "memory.max", memory));
        let (swap, implied) = match resources.swap {
            Some(Swap::Unlimited) => ("max".to_owned(), true),
            Some(Swap::Bytes(both)) => (both.saturating_sub(memory).to_string(), both == memory),
            None => (memory.to_string(), true),
        };
        all.push(Setting { implied, ..setting("memory", "memory.swap.max", swap) });
    }
    if let Some(CpuTime { quota, period }) = resources.cpu {
        all.push(setting("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(shares) = resources.cpu_shares {
        all.push(setting("cpu", "cpu.weight", weight(shares)));
    }
    all.extend(common(resources));
    all
}

/// For version 1, in the order that the kernel asks for.
pub(super) fn legacy(resources: &Resources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory {
        all.push(setting("memory", "memory.limit_in_bytes", memory));
        let (both, implied) = match resources.swap {
            Some(Swap::Unlimited) => ("-1".to_owned(), true),
            Some(Swap::Bytes(both)) => (both.to_string(), both == memory),
            None => (memory.saturating_mul(2).to_string(), true),
        };
        all.push(Setting { implied, ..setting("memory", "memory.memsw.limit_in_bytes", both) });
    }
    if let Some(CpuTime { quota, period }) = resources.cpu {
        all.push(setting("cpu", "cpu.cfs_period_us", period));
        all.push(setting("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(shares) = resources.cpu_shares {
        all.push(setting("cpu", "cpu.shares", shares));
    }
    all.extend(common(resources));
    all
}

/// What both versions call the same.
fn common(resources: &Resources) -> impl Iterator<Item = Setting> {
    let cpus = resources.cpuset_cpus.as_ref().map(|cpus| setting("cpuset", "cpuset.cpus", cpus));
    let mems = resources.cpuset_mems.as_ref().map(|mems| setting("cpuset", "cpuset.mems", mems));
    let processes = resources.processes.map(|processes| setting("pids", "pids.max", processes));
    cpus.into_iter().chain(mems).chain(processes)
}

/// The weight of version 2, 1 to 10000, for shares of version 1, 2 to 262144: as runc and systemd convert them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: Vec<Setting>) -> Vec<String> {
        let line = |Setting { file, value, implied, .. }: Setting| {
            format!("{file} = {value}{}", if implied { " (implied)" } else { "" })
        };
        settings.into_iter().map(line).collect()
    }

    #[test]
    fn each_version_has_its_own_words() {
        let resources = Resources {
            memory: Some(64 << 20),
            swap: Some(Swap::Bytes(100 << 20)),
            cpu: Some(CpuTime { quota: 150_000, period: 100_000 }),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            processes: Some(50),
        };
        let expected = [
            "memory.max = 67108864",
            "memory.swap.max = 37748736",
            "cpu.max = 150000 100000",
            "cpu.weight = 39",
            "cpuset.cpus = 0-1",
            "cpuset.mems = 0",
            "pids.max = 50",
        ];
        assert_eq!(lines(unified(&resources)), expected);
        let expected = [
            "memory.limit_in_bytes = 67108864",
            "memory.memsw.limit_in_bytes = 104857600",
            "cpu.cfs_period_us = 100000",
            "cpu.cfs_quota_us = 150000",
            "cpu.shares = 1024",
            "cpuset.cpus = 0-1",
            "cpuset.mems = 0",
            "pids.max = 50",
        ];
        assert_eq!(lines(legacy(&resources)), expected);
        assert!(unified(&Resources::default()).is_empty() && legacy(&Resources::default()).is_empty());
    }

    #[test]
    fn there_is_as_much_swap_as_memory_unless_said_otherwise() {
        let swap = |swap| {
            let resources = Resources { memory: Some(1 << 30), swap, ..Resources::default() };
            [unified(&resources), legacy(&resources)].map(|settings| lines(settings)[1].clone())
        };
        let implied = ["memory.swap.max = 1073741824 (implied)", "memory.memsw.limit_in_bytes = 2147483648 (implied)"];
        assert_eq!(swap(None), implied);
        let unlimited = ["memory.swap.max = max (implied)", "memory.memsw.limit_in_bytes = -1 (implied)"];
        assert_eq!(swap(Some(Swap::Unlimited)), unlimited);
        let none = ["memory.swap.max = 0 (implied)", "memory.memsw.limit_in_bytes = 1073741824 (implied)"];
        assert_eq!(swap(Some(Swap::Bytes(1 << 30))), none);
    }

    #[test]
    fn weights_span_what_shares_span() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10_000, 10_000]);
    }
}
