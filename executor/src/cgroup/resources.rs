//! What can be asked for.

/// Docker takes no less: a program needs something to start.
const LEAST_MEMORY: u64 = 6 << 20;

/// What the kernel takes for a period, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;

/// The least time that the kernel grants, in microseconds.
const LEAST_QUOTA: u64 = 1_000;

/// What the processes of a step may use of the machine together. Whatever is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory, with what the page cache holds for them.
    pub memory: Option<u64>,
    /// Memory and swap space together; twice the memory where absent.
    pub swap: Option<Swap>,
    /// Time of processors.
    pub cpu: Option<CpuTime>,
    /// A weight against others where processors are busy: 2 to 262144, 1024 being usual.
    pub cpu_shares: Option<u64>,
    /// The processors that they run on, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The nodes that they have memory of, such as `0`.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads there may be at once.
    pub processes: Option<u64>,
}

/// How much memory and swap space may be used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// This many bytes, memory included.
    Bytes(u64),
    /// All swap space that there is.
    Unlimited,
}

/// Time of processors: so much of each period, more than the whole for several processors. Both in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// How much of it.
    pub quota: u64,
    /// How long it is.
    pub period: u64,
}

/// Why limits make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Nothing runs in that.
    #[error("a memory limit of {0} bytes is too small: no program starts with less than 6 MiB")]
    LittleMemory(u64),
    /// Swap needs memory to be limited.
    #[error("a limit of memory and swap together needs a limit of memory")]
    SwapAlone,
    /// The sum cannot be less than a part.
    #[error("a limit of {swap} bytes for memory and swap together is less than that of memory, {memory} bytes")]
    SwapBelowMemory {
        /// Both.
        swap: u64,
        /// Memory alone.
        memory: u64,
    },
    /// The kernel takes no such period.
    #[error("a period of {0} µs is none that the kernel has: 1000 to 1000000")]
    Period(u64),
    /// The kernel takes no such quota.
    #[error("{0} µs of each period are too few: the least is 1000")]
    Quota(u64),
    /// A step is a process at least.
    #[error("a step cannot do without processes")]
    NoProcesses,
}

impl Resources {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they make sense.
    ///
    /// # Errors
    /// When they do not.
    pub fn check(&self) -> Result<(), ResourceError> {
        match (self.memory, self.swap) {
            (Some(memory), _) if memory < LEAST_MEMORY => return Err(ResourceError::LittleMemory(memory)),
            (None, Some(_)) => return Err(ResourceError::SwapAlone),
            (Some(memory), Some(Swap::Bytes(swap))) if swap < memory => {
                return Err(ResourceError::SwapBelowMemory { swap, memory });
            }
            _ => {}
        }
        match self.cpu {
            Some(CpuTime { period, .. }) if !PERIODS.contains(&period) => return Err(ResourceError::Period(period)),
            Some(CpuTime { quota, .. }) if quota < LEAST_QUOTA => return Err(ResourceError::Quota(quota)),
            _ => {}
        }
        if self.processes == Some(0) { Err(ResourceError::NoProcesses) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Resources = Resources {
        memory: Some(64 << 20),
        swap: None,
        cpu: None,
        cpu_shares: None,
        cpuset_cpus: None,
        cpuset_mems: None,
        processes: None,
    };

    #[test]
    fn sense_is_told_from_nonsense() {
        let sensible = [
            Resources::default(),
            MEMORY,
            Resources { swap: Some(Swap::Unlimited), ..MEMORY },
            Resources { swap: Some(Swap::Bytes(64 << 20)), ..MEMORY },
            Resources { cpu: Some(CpuTime { quota: 1_000, period: 1_000_000 }), ..MEMORY },
        ];
        for resources in sensible {
            assert_eq!(resources.check(), Ok(()), "{resources:?}");
        }
        let cpu = |quota, period| Resources { cpu: Some(CpuTime { quota, period }), ..MEMORY };
        let nonsense = [
            (Resources { memory: Some(1000), ..MEMORY }, ResourceError::LittleMemory(1000)),
            (Resources { memory: None, swap: Some(Swap::Unlimited), ..MEMORY }, ResourceError::SwapAlone),
            (
                Resources { swap: Some(Swap::Bytes(1)), ..MEMORY },
                ResourceError::SwapBelowMemory { swap: 1, memory: 64 << 20 },
            ),
            (cpu(1000, 999), ResourceError::Period(999)),
            (cpu(999, 100_000), ResourceError::Quota(999)),
            (Resources { processes: Some(0), ..MEMORY }, ResourceError::NoProcesses),
        ];
        for (resources, error) in nonsense {
            assert_eq!(resources.check(), Err(error));
        }
        assert!(Resources::default().is_empty() && !MEMORY.is_empty());
    }
}
