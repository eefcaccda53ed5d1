//! What commands may use of the machine: `--ulimit`, `--memory`, `--cpus` and their like, `--resource`.

use kiln_executor::cgroup::{CpuTime, Resources, Swap};
use kiln_executor::sandbox::rlimits;
use kiln_frontend::csv_fields;
use kiln_solver::Ulimit;

use super::{RunArgs, size};
use crate::error::{CliError, Kind};

/// In microseconds.
const PERIOD: u64 = 100_000;
/// What the kernel takes for a weight.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Checks the flags about what the processes of a command may use together.
pub(super) fn resources(args: &RunArgs) -> Result<Resources, CliError> {
    let mut resources = Resources::default();
    for text in &args.resources {
        take(&mut resources, text)?;
    }
    let flags = [
        ("memory", &args.memory),
        ("memory-swap", &args.memory_swap),
        ("cpus", &args.cpus),
        ("cpu-shares", &args.cpu_shares),
        ("cpuset-cpus", &args.cpuset_cpus),
        ("cpuset-mems", &args.cpuset_mems),
    ];
    for (name, value) in flags {
        if let Some(value) = value {
            set(&mut resources, name, value, &format!("--{name} {value}"))?;
        }
    }
    if args.cpu_quota.is_some() || args.cpu_period.is_some() {
        resources.cpu = cpu_time(args.cpu_quota.as_deref(), args.cpu_period.as_deref())?;
    }
    resources.check().map_err(|error| CliError::from_error(Kind::Usage, &error))?;
    Ok(resources)
}

/// Takes the value of one `--resource`.
fn take(resources: &mut Resources, text: &str) -> Result<(), CliError> {
    let flag = format!("--resource {text}");
    for field in csv_fields(text).map_err(|problem| wrong(&flag, &problem))? {
        let (name, value) =
            field.split_once('=').ok_or_else(|| wrong(&flag, &format!("`{field}` is not of the form `NAME=VALUE`")))?;
        set(resources, &name.to_lowercase(), value, &flag)?;
    }
    Ok(())
}

/// Zero is no limit, as with Docker.
fn set(resources: &mut Resources, name: &str, value: &str, flag: &str) -> Result<(), CliError> {
    let positive = |number: u64| Some(number).filter(|number| *number > 0);
    match name {
        "memory" => resources.memory = positive(bytes(value, flag)?),
        "memory-swap" if value == "-1" => resources.swap = Some(Swap::Unlimited),
        "memory-swap" => resources.swap = positive(bytes(value, flag)?).map(Swap::Bytes),
        "cpu" | "cpus" => resources.cpu = processors(value, flag)?,
        "cpu-shares" => resources.cpu_shares = shares(value, flag)?,
        "cpuset-cpus" => resources.cpuset_cpus = list(value, flag)?,
        "cpuset-mems" => resources.cpuset_mems = list(value, flag)?,
        "pids" if value == "-1" => resources.processes = None,
        "pids" => resources.processes = positive(number(value, flag)?),
        other => {
            return Err(wrong(flag, &format!("there is no resource `{other}`")).hint(
                "there are `memory`, `memory-swap`, `cpu`, `cpu-shares`, `cpuset-cpus`, `cpuset-mems` and `pids`",
            ));
        }
    }
    Ok(())
}

fn shares(value: &str, flag: &str) -> Result<Option<u64>, CliError> {
    match number(value, flag)? {
        0 => Ok(None),
        shares if SHARES.contains(&shares) => Ok(Some(shares)),
        _ => Err(wrong(flag, "a weight is from 2 to 262144")),
    }
}

/// Parses `TYPE=SOFT[:HARD]`.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, CliError> {
    let flag = format!("--ulimit {text}");
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| wrong(&flag, "there is no limit").hint("write `nofile=1024` or `nofile=1024:4096`"))?;
    if rlimits::resource(name).is_none() {
        let hint = format!("there are {}", rlimits::names());
        return Err(wrong(&flag, &format!("there is no resource `{name}`")).hint(hint));
    }
    let limit = |text: &str| {
        let limit = text.parse::<i64>().ok().filter(|limit| *limit >= -1);
        limit.ok_or_else(|| wrong(&flag, &format!("`{text}` is not a limit")).hint("write a number; -1 is no limit"))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (limit(soft)?, limit(hard)?),
        None => (limit(limits)?, limit(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(wrong(&flag, "the soft limit is greater than the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn wrong(flag: &str, problem: &str) -> CliError {
    CliError::usage(format!("`{flag}`: {problem}"))
}

fn bytes(value: &str, flag: &str) -> Result<u64, CliError> {
    let name = flag.split(' ').next().unwrap_or(flag);
    size(name, value)
}

fn number(value: &str, flag: &str) -> Result<u64, CliError> {
    value.parse().map_err(|_| wrong(flag, &format!("`{value}` is not a number")))
}

/// A number of processors as time of each period.
fn processors(value: &str, flag: &str) -> Result<Option<CpuTime>, CliError> {
    const MOST: f64 = 1e6;
    let is_plain = value.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number = value.parse::<f64>().ok().filter(|number| is_plain && *number <= MOST);
    let number = number.ok_or_else(|| wrong(flag, &format!("`{value}` is not a number of processors")))?;
    if number == 0.0 {
        return Ok(None);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 1e11"
    )]
    let quota = (number * PERIOD as f64).round() as u64;
    Ok(Some(CpuTime { quota, period: PERIOD }))
}

/// A quota below zero is none.
fn cpu_time(quota: Option<&str>, period: Option<&str>) -> Result<Option<CpuTime>, CliError> {
    let period = match period {
        Some(text) => {
            let flag = format!("--cpu-period {text}");
            number(text, &flag).map(|period| if period == 0 { PERIOD } else { period })?
        }
        None => PERIOD,
    };
    let Some(text) = quota else { return Ok(None) };
    let flag = format!("--cpu-quota {text}");
    let quota: i64 = text.parse().map_err(|_| wrong(&flag, &format!("`{text}` is not a number")))?;
    match u64::try_from(quota) {
        Err(_) | Ok(0) => Ok(None),
        Ok(quota) => Ok(Some(CpuTime { quota, period })),
    }
}

/// A list of numbers and ranges: `0-2,4`.
fn list(value: &str, flag: &str) -> Result<Option<String>, CliError> {
    let is_number = |text: &str| text.parse::<u32>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_item = |item: &str| match item.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(item),
    };
    if value.is_empty() {
        return Ok(None);
    }
    if !value.split(',').all(is_item) {
        return Err(wrong(flag, &format!("`{value}` is not a list of numbers")).hint("write `0-2,4`, say"));
    }
    Ok(Some(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;

    fn resources(words: &[&str]) -> Result<Resources, CliError> {
        request(words).map(|request| request.limits.resources)
    }

    #[test]
    fn limits_have_a_soft_and_a_hard_side() {
        let limit = |text: &str| ulimit(text).map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(limit("nofile=1024:4096").unwrap(), ("nofile".to_owned(), 1024, 4096));
        assert_eq!(limit("core=0").unwrap(), ("core".to_owned(), 0, 0));
        assert_eq!(limit("memlock=-1:-1").unwrap(), ("memlock".to_owned(), -1, -1));
        assert_eq!(limit("memlock=5:-1").unwrap(), ("memlock".to_owned(), 5, -1));
        for text in ["nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-1:1", "nofile=1:2:3", "files=1", "core=-2"]
        {
            assert_eq!(limit(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn resources_are_flags_or_one_word() {
        let expected = Resources {
            memory: Some(1 << 30),
            swap: Some(Swap::Bytes(2 << 30)),
            cpu: Some(CpuTime { quota: 150_000, period: 100_000 }),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-2,4".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            processes: None,
        };
        let flags =
            ["-m", "1g", "--memory-swap=2g", "--cpus=1.5", "-c", "512", "--cpuset-cpus=0-2,4", "--cpuset-mems=0"];
        assert_eq!(resources(&flags).unwrap(), expected);
        let word = "memory=1g,memory-swap=2g,cpu=1.5,cpu-shares=512,\"cpuset-cpus=0-2,4\",cpuset-mems=0";
        assert_eq!(resources(&["--resource", word]).unwrap(), expected);
        let several = resources(&["--resource=memory=1g", "--resource=pids=100,memory=2g", "--memory=3g"]).unwrap();
        assert_eq!((several.memory, several.processes), (Some(3 << 30), Some(100)));
    }

    #[test]
    fn time_of_processors_may_be_a_quota() {
        let cpu = |words: &[&str]| resources(words).map(|resources| resources.cpu);
        assert_eq!(cpu(&["--cpu-quota=50000"]).unwrap(), Some(CpuTime { quota: 50_000, period: 100_000 }));
        let both = cpu(&["--cpu-quota=20000", "--cpu-period=10000"]).unwrap();
        assert_eq!(both, Some(CpuTime { quota: 20_000, period: 10_000 }));
        assert_eq!(cpu(&["--cpu-quota=-1"]).unwrap(), None);
        assert_eq!(cpu(&["--cpus=0"]).unwrap(), None);
        for words in
            [["--cpus=1", "--cpu-quota=5000"], ["--cpu-quota=1", "-m1g"], ["--cpu-period=1", "--cpu-quota=5000"]]
        {
            assert!(cpu(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let wrong: [&[&str]; 14] = [
            &["--memory=much"],
            &["--memory=1m"],
            &["--memory-swap=1g"],
            &["--memory=2g", "--memory-swap=1g"],
            &["--cpus=many"],
            &["--cpus=-1"],
            &["--cpus=0.001"],
            &["--cpus=1e3"],
            &["--cpu-shares=1"],
            &["--cpuset-cpus=a"],
            &["--cpuset-mems=1-"],
            &["--resource=memory"],
            &["--resource=disk=1g"],
            &["--resource=pids=-2"],
        ];
        for words in wrong {
            assert_eq!(resources(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(resources(&["--memory=0", "--resource=pids=-1"]).unwrap(), Resources::default());
        assert_eq!(resources(&["--memory=1g", "--memory-swap=-1"]).unwrap().swap, Some(Swap::Unlimited));
    }
}
