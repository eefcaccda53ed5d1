//! `kiln prune`

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use kiln_cache::{Bounds, Filter, Prune, Pruned, Space, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::du;
use crate::environment::{Environment, history_limits};
use crate::error::CliError;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// Remove what the cache keeps and no image needs
///
/// Images stay whole, and so does everything that a running build uses: it goes when that build has ended and the next
/// prune comes. Bounds are about the cache: what images need does not count.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Also base images that were fetched, where no image of this store needs them
    #[arg(short, long)]
    all: bool,

    /// Ask no question
    #[arg(short, long)]
    force: bool,

    /// Only what was not used for so long, such as `24h`
    #[arg(long, value_name = "DURATION")]
    until: Option<String>,

    /// Only what this says: `until=24h`, `type=layer|blob|cachemount|context|git`, `id=ID`, `parents=ID`,
    /// `description=STEP`, `shared`, `private`, `mutable`, `immutable`, `inuse`, with `!=` what it does not say, and with
    /// `~=` what a regular expression is found in; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Leave so much of the cache, such as `10GB`: the least recently used goes first
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    reserved_space: Option<String>,

    /// Remove no more than it takes for the cache to be so small
    #[arg(long, value_name = "SIZE")]
    max_used_space: Option<String>,

    /// Remove no more than it takes for the disk to have so much free
    #[arg(long, value_name = "SIZE")]
    min_free_space: Option<String>,

    /// Remove what the rules of the configuration (`[gc]`) say, as happens by itself after builds
    #[arg(long, conflicts_with_all = ["all", "until", "filter", "reserved_space", "max_used_space", "min_free_space", "dry_run"])]
    gc: bool,

    /// Wait for the end of this process, give way to others, and tell the next build of a failure
    #[arg(long, hide = true, requires = "gc", value_name = "PID")]
    after: Option<i32>,

    /// Show what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Show whole IDs
    #[arg(short, long)]
    verbose: bool,
}

/// Removes it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    if args.gc {
        return collect(args, environment);
    }
    let prune = wanted(args)?;
    if !args.dry_run && !args.force && !confirmed(args)? {
        return Ok(());
    }
    let store = Session::open(environment)?.store;
    let pruned = store.prune(&prune).map_err(|error| store_error(&error))?;
    print(&pruned, args)
}

/// Does what the configuration says.
fn collect(args: &Args, environment: &Environment) -> Result<(), CliError> {
    if let Some(build) = args.after.and_then(Pid::from_raw) {
        wait_for_end(build);
        // Only a kindness.
        let _ = rustix::process::nice(10);
    }
    let store = Session::open(environment)?.store;
    let collected = apply_rules(&store, environment);
    if args.after.is_some() {
        let failure = collected.as_ref().err().map(ToString::to_string);
        store.note_collection(failure.as_deref()).map_err(|error| store_error(&error))?;
    }
    print(&collected?, args)
}

/// Waits until a build has let go of all that it has open. One that takes very long is not waited for: what it can see
/// goes with the next prune.
fn wait_for_end(build: Pid) {
    const LONGEST: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
    if let Ok(build) = pidfd_open(build, PidfdFlags::empty()) {
        let _ = poll(&mut [PollFd::new(&build, PollFlags::IN)], Some(&LONGEST));
    }
}

fn apply_rules(store: &Store, environment: &Environment) -> Result<Pruned, CliError> {
    let configuration = environment.configuration()?;
    // Builds that find everything in the cache are over before they could.
    store.prune_builds(history_limits(&configuration)).map_err(|error| store_error(&error))?;
    let disk_size = store.disk_size().map_err(|error| store_error(&error))?;
    store.collect(&configuration.gc.policies(disk_size)).map_err(|error| store_error(&error))
}

fn print(pruned: &Pruned, args: &Args) -> Result<(), CliError> {
    let rows: Vec<Vec<String>> = pruned
        .taken
        .iter()
        .map(|usage| vec![du::id(usage, args.verbose), usage.kind.name().to_owned(), human::size(usage.size)])
        .collect();
    let mut text = if rows.is_empty() { String::new() } else { human::table(&["ID", "TYPE", "SIZE"], &rows) };
    text.push_str(&format!("Total:   {}\n", human::size(pruned.size)));
    terminal::print(&text)
}

fn wanted(args: &Args) -> Result<Prune, CliError> {
    let space =
        |flag: &str, text: &Option<String>| text.as_deref().map(|text| size(flag, text).map(Space::Bytes)).transpose();
    let mut unused_for = args.until.as_deref().map(|text| duration("--until", text)).transpose()?;
    let mut filter = Filter::default();
    for text in &args.filter {
        match text.split_once('=') {
            Some(("until" | "unused-for", value)) => unused_for = Some(duration("--filter until", value)?),
            _ => filter = filter.and(parse_filter(text)?),
        }
    }
    Ok(Prune {
        all: args.all,
        unused_for,
        filters: vec![filter],
        bounds: Bounds {
            reserved: space("reserved-space", &args.reserved_space)?,
            max_used: space("max-used-space", &args.max_used_space)?,
            min_free: space("min-free-space", &args.min_free_space)?,
        },
        dry_run: args.dry_run,
    })
}

/// The value of a flag `--filter`.
pub(super) fn parse_filter(text: &str) -> Result<Filter, CliError> {
    Filter::parse(text).map_err(|error| CliError::usage(format!("`--filter {text}`: {error}")))
}

fn duration(flag: &str, text: &str) -> Result<Duration, CliError> {
    let nanos = kiln_frontend::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    let wrong = || CliError::usage(format!("`{flag} {text}` is no duration")).hint("write it as in `24h` or `1h30m`");
    nanos.map(Duration::from_nanos).ok_or_else(wrong)
}

fn size(flag: &str, text: &str) -> Result<u64, CliError> {
    let wrong = || CliError::usage(format!("`--{flag} {text}` is no size")).hint("write it as in `500MB` or `10GB`");
    kiln_frontend::parse_bytes(text).ok_or_else(wrong)
}

/// Asks, as `docker builder prune` does.
fn confirmed(args: &Args) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("nobody is here to ask whether to remove it").hint("say so with `--force`"));
    }
    let what = if args.all { "and base images that no image here needs " } else { "" };
    terminal::say(&format!("This removes all of the cache that no image needs {what}- go on? (y/N) "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| {
        CliError::environment(format!("cannot read the answer: {}", crate::error::plain_io(&error)))
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
