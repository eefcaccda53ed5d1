//! The flags as they were typed. [`RunRequest`](super::RunRequest) is what they mean.

/// What commands get to see and to use.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Options for RUN")]
pub(crate) struct RunArgs {
    /// A secret for `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=NAME`; without either the variable ID,
    /// or else the file ID; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub(super) secrets: Vec<String>,

    /// An ssh agent for `RUN --mount=type=ssh`: that of `SSH_AUTH_SOCK`, or the one of this socket; may be repeated
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(super) ssh: Vec<String>,

    /// Allow commands what they ask for: `network.host` or `security.insecure`; may be repeated
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,

    /// The network of commands that do not say: `default`, `none`, or `host` if it is allowed
    #[arg(long, value_name = "NETWORK", default_value = "default", hide_default_value = true)]
    pub(super) network: String,

    /// A line for /etc/hosts; `host-gateway` is the address of this machine; may be repeated
    #[arg(long = "add-host", value_name = "NAME=ADDRESS")]
    pub(super) hosts: Vec<String>,

    /// A resource limit, such as `nofile=1024:4096`; -1 is none; may be repeated
    #[arg(long = "ulimit", value_name = "TYPE=SOFT[:HARD]")]
    pub(super) ulimits: Vec<String>,

    /// The size of /dev/shm, such as `128m`
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,

    /// The control group below which those of commands are made
    #[arg(long, value_name = "GROUP")]
    pub(super) cgroup_parent: Option<String>,

    /// The memory of one command, such as `2g`
    #[arg(short, long, value_name = "SIZE")]
    pub(super) memory: Option<String>,

    /// Its memory and swap space together; -1 for all the swap space that there is
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(super) memory_swap: Option<String>,

    /// How many processors it may keep busy, such as `1.5`
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_period", "cpu_quota"])]
    pub(super) cpus: Option<String>,

    /// How many microseconds of each period it may run
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) cpu_quota: Option<String>,

    /// How many microseconds a period has [default: 100000]
    #[arg(long, value_name = "TIME")]
    pub(super) cpu_period: Option<String>,

    /// Its weight against others where processors are busy; 1024 is usual
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub(super) cpu_shares: Option<String>,

    /// The processors that it runs on, such as `0-2,4`
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_cpus: Option<String>,

    /// The memory nodes that it uses, such as `0`
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_mems: Option<String>,

    /// The same limits in one word: `memory=SIZE`, `memory-swap=SIZE`, `cpu=NUMBER`, `cpu-shares=WEIGHT`, `pids=NUMBER`
    #[arg(long = "resource", value_name = "NAME=VALUE,...")]
    pub(super) resources: Vec<String>,

    /// Whether RUN is observed, so that it depends on nothing that it did not look at: `auto`, or `off`
    #[arg(long, value_enum, default_value_t = Trace::Auto, value_name = "WHEN")]
    pub(super) trace: Trace,

    /// Kill a command that runs for longer, such as `10m`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) step_timeout: Option<String>,
}

/// The values of `--trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Trace {
    /// Where the machine can
    Auto,
    /// Never
    Off,
}
