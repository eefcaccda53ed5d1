//! The limits of a step, from the words of the step graph to the numbers of the kernel.

use std::time::Duration;

use kiln_solver::{self as solver, Exec};

use crate::cgroup::Resources;
use crate::sandbox::rlimits;
use crate::sandbox::{Limits, Ulimit};

/// What every command of a build may use, beside what its own step says. It is no part of a step and so of no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepLimits {
    /// How long a command may run before it is killed; as long as it likes where absent.
    pub time: Option<Duration>,
    /// What the processes of a command may use together.
    pub resources: Resources,
    /// The control group below which those of commands are made: a path in each hierarchy, or the name of a slice of
    /// systemd. Near kiln's own where absent.
    pub cgroup_parent: Option<String>,
}

/// Why the limits of a step make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// Nobody knows such a resource.
    #[error("there is no limit named `{0}`\nhint: known are {names}", names = rlimits::names())]
    Unknown(String),
    /// A number below 0 that is not -1.
    #[error("the limit `{name}` cannot be {value}\nhint: -1 is no limit at all")]
    Negative {
        /// Of the resource.
        name: String,
        /// As asked for.
        value: i64,
    },
    /// The kernel refuses that.
    #[error("the soft limit of `{name}` ({}) is greater than the hard limit ({})", shown(*.soft), shown(*.hard))]
    SoftAboveHard {
        /// Of the resource.
        name: String,
        /// As asked for.
        soft: u64,
        /// As asked for.
        hard: u64,
    },
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

/// All limits of a step.
pub(super) fn of(exec: &Exec, all: &StepLimits) -> Result<Limits, LimitError> {
    Ok(Limits { ulimits: ulimits(&exec.limits.ulimits)?, time: all.time, ..Limits::default() })
}

/// The resource limits of a step; of several for one resource the last one counts.
fn ulimits(limits: &[solver::Ulimit]) -> Result<Vec<Ulimit>, LimitError> {
    let mut all: Vec<Ulimit> = Vec::with_capacity(limits.len());
    for limit in limits {
        let limit = ulimit(limit)?;
        all.retain(|earlier| earlier.resource != limit.resource);
        all.push(limit);
    }
    Ok(all)
}

fn ulimit(solver::Ulimit { name, soft, hard }: &solver::Ulimit) -> Result<Ulimit, LimitError> {
    let resource = rlimits::resource(name).ok_or_else(|| LimitError::Unknown(name.clone()))?;
    let number = |value: i64| match value {
        -1 => Ok(u64::MAX),
        _ => u64::try_from(value).map_err(|_| LimitError::Negative { name: name.clone(), value }),
    };
    let (soft, hard) = (number(*soft)?, number(*hard)?);
    if soft > hard {
        return Err(LimitError::SoftAboveHard { name: name.clone(), soft, hard });
    }
    Ok(Ulimit { resource, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, soft: i64, hard: i64) -> solver::Ulimit {
        solver::Ulimit { name: name.to_owned(), soft, hard }
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let asked = [limit("nofile", 1, 2), limit("core", 0, -1), limit("nofile", 3, 4)];
        let core = Ulimit { resource: libc::RLIMIT_CORE, soft: 0, hard: u64::MAX };
        let files = Ulimit { resource: libc::RLIMIT_NOFILE, soft: 3, hard: 4 };
        assert_eq!(ulimits(&asked), Ok(vec![core, files]));
    }

    #[test]
    fn nonsense_is_told() {
        let message = |limit| ulimits(&[limit]).unwrap_err().to_string();
        assert!(message(limit("open", 1, 1)).starts_with("there is no limit named `open`\nhint: known are `core`, "));
        assert_eq!(message(limit("cpu", 3, 2)), "the soft limit of `cpu` (3) is greater than the hard limit (2)");
        let unlimited = message(limit("cpu", -1, 2));
        assert_eq!(unlimited, "the soft limit of `cpu` (unlimited) is greater than the hard limit (2)");
        assert!(message(limit("cpu", -2, 2)).starts_with("the limit `cpu` cannot be -2"));
    }
}
