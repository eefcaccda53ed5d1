//! What the flags of `kiln build` say of the commands that `RUN` runs: what they get to see, and what they may use.
//!
//! | file | |
//! |---|---|
//! | `args.rs` | the flags as typed |
//! | `credentials.rs` | `--secret`, `--ssh` |
//! | `hosts.rs` | `--add-host` |
//! | `limits.rs` | `--ulimit`, `--memory`, `--resource` and the like |

mod args;
mod credentials;
mod hosts;
mod limits;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use kiln_executor::network::host_address;
use kiln_executor::{Credentials, StepLimits};
use kiln_frontend::{Entitlement, parse_bytes, parse_duration};
use kiln_solver::{Host, Network, Ulimit};

pub(super) use args::RunArgs;
use args::Trace;

use crate::error::CliError;

/// What has to be allowed before the directory of an output may lose what is in it, wherever it is (buildx).
pub(super) const MIRROR: &str = "buildx.local.delete";

impl RunArgs {
    /// Whether it is.
    pub(super) fn allows_mirrors(&self) -> bool {
        self.allow.iter().any(|name| name == MIRROR)
    }
}

/// What all commands of a build get.
#[derive(Debug)]
pub(super) struct RunRequest {
    /// Secrets and agents, for the commands that ask for them.
    pub(super) credentials: Credentials,
    /// What a command may ask for.
    pub(super) entitlements: BTreeSet<Entitlement>,
    /// What a command sees that does not say.
    pub(super) network: Network,
    /// Machines for `/etc/hosts`.
    pub(super) hosts: Vec<Host>,
    /// Resource limits.
    pub(super) ulimits: Vec<Ulimit>,
    /// How many bytes `/dev/shm` holds.
    pub(super) shm_size: Option<u64>,
    /// What the processes of a command may use together, and for how long.
    pub(super) limits: StepLimits,
    /// Whether commands are observed.
    pub(super) is_traced: bool,
}

impl RunRequest {
    /// Checks the flags; `variable` looks up the environment.
    pub(super) fn new(args: RunArgs, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, CliError> {
        let credentials = credentials::read(&args.secrets, &args.ssh, variable)?;
        let for_commands = args.allow.iter().filter(|name| *name != MIRROR);
        let entitlements = for_commands.map(|name| entitlement(name)).collect::<Result<BTreeSet<_>, _>>()?;
        Ok(Self {
            is_traced: args.trace == Trace::Auto,
            credentials,
            network: network(&args.network, &entitlements)?,
            entitlements,
            hosts: hosts(&args.hosts)?,
            ulimits: args.ulimits.iter().map(|text| limits::ulimit(text)).collect::<Result<_, _>>()?,
            shm_size: args
                .shm_size
                .as_deref()
                .map(|text| size("--shm-size", text))
                .transpose()?
                .filter(|size| *size > 0),
            limits: StepLimits {
                time: args.step_timeout.as_deref().map(timeout).transpose()?,
                resources: limits::resources(&args)?,
                cgroup_parent: args.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
            },
        })
    }
}

fn hosts(texts: &[String]) -> Result<Vec<Host>, CliError> {
    let parse = |text: &String| hosts::Host::parse(text)?.resolve(&host_address);
    texts.iter().map(parse).collect()
}

fn entitlement(name: &str) -> Result<Entitlement, CliError> {
    // A device may be named; any is more than there is.
    let kind = if name.starts_with("device=") { "device" } else { name };
    Entitlement::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(|| {
        let names = Entitlement::ALL.map(|known| format!("`{}`", known.name())).join(", ");
        CliError::usage(format!("`--allow {name}`: there is no such entitlement")).hint(format!("there are {names}"))
    })
}

fn network(name: &str, entitlements: &BTreeSet<Entitlement>) -> Result<Network, CliError> {
    match name {
        "" | "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" if entitlements.contains(&Entitlement::NetworkHost) => Ok(Network::Host),
        "host" => Err(CliError::user("`--network host` needs the entitlement `network.host`")
            .hint("add `--allow network.host`, if you trust the Dockerfile with this machine's network")),
        other => Err(CliError::usage(format!("`--network {other}`: there is no such network"))
            .hint("there are `default`, `none` and `host`")),
    }
}

/// A number of bytes in the value of a flag.
fn size(flag: &str, text: &str) -> Result<u64, CliError> {
    parse_bytes(text).ok_or_else(|| {
        CliError::usage(format!("`{flag} {text}`: this is not a number of bytes")).hint("write `512m` or `2g`, say")
    })
}

fn timeout(text: &str) -> Result<Duration, CliError> {
    let wrong = || {
        CliError::usage(format!("`--step-timeout {text}`: this is not a time"))
            .hint("write a number and a unit, such as `90s`, `10m` or `1h30m`")
    };
    let nanoseconds = parse_duration(text).and_then(|time| u64::try_from(time).ok()).filter(|time| *time > 0);
    nanoseconds.map(Duration::from_nanos).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: RunArgs,
    }

    pub(super) fn request(words: &[&str]) -> Result<RunRequest, CliError> {
        let all = ["kiln"].iter().chain(words);
        let command = Command::try_parse_from(all).map_err(|error| CliError::usage(error.to_string()))?;
        let variable = |name: &str| match name {
            "TOKEN" => Some("hunter2".into()),
            _ => None,
        };
        RunRequest::new(command.args, &variable)
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        let request = request(&[]).unwrap();
        assert!(request.credentials.secrets.is_empty() && request.credentials.agents.is_empty());
        assert_eq!((request.network, request.shm_size), (Network::Default, None));
        assert_eq!(request.limits, StepLimits::default());
    }

    #[test]
    fn entitlements_are_those_of_buildkit() {
        let words = ["--allow", "network.host", "--allow", "security.insecure", "--allow=device=vendor.com/gpu"];
        assert_eq!(request(&words).unwrap().entitlements.len(), 3);
        let error = request(&["--allow", "network"]).unwrap_err();
        assert!(error.message.contains("no such entitlement") && error.hints[0].contains("`network.host`"));
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_network_of_the_machine_has_to_be_allowed() {
        let network = |words: &[&str]| request(words).map(|request| request.network);
        assert_eq!(network(&["--network", "none"]).unwrap(), Network::None);
        assert_eq!(network(&["--network=default"]).unwrap(), Network::Default);
        assert_eq!(network(&["--network=host", "--allow=network.host"]).unwrap(), Network::Host);
        assert!(network(&["--network=host"]).unwrap_err().hints[0].contains("`--allow network.host`"));
        assert!(network(&["--network=bridge"]).unwrap_err().message.contains("no such network"));
    }

    #[test]
    fn sizes_and_times_have_units() {
        let parsed = request(&["--shm-size", "128m", "--step-timeout", "1h30m", "--cgroup-parent", "builds"]).unwrap();
        assert_eq!(parsed.shm_size, Some(128 << 20));
        assert_eq!(parsed.limits.time, Some(Duration::from_secs(5400)));
        assert_eq!(parsed.limits.cgroup_parent.as_deref(), Some("builds"));
        assert_eq!(request(&["--shm-size", "0"]).unwrap().shm_size, None);
        for words in
            [["--shm-size", "big"], ["--step-timeout", "10"], ["--step-timeout", "0s"], ["--step-timeout=-1s", "-m1g"]]
        {
            assert!(request(&words).is_err(), "{words:?}");
        }
    }
}
