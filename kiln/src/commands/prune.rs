//! `kiln prune`

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use kiln_cache::{Prune, UsageKind};

use super::du;
use crate::environment::Environment;
use crate::error::CliError;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// Remove what the cache keeps and no image needs
///
/// Images stay whole, and so does everything that a running build uses: it goes when that build has ended and the next
/// prune comes.
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

    /// Only what this says: `until=24h`, `type=layer|blob|cachemount` or `id=ID`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Remove no more than it takes for the store to be so small, such as `10GB`, the least recently used first
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    max_used_space: Option<String>,

    /// Remove no more than it takes for the disk to have so much free
    #[arg(long, value_name = "SIZE")]
    min_free_space: Option<String>,

    /// Show what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Show whole IDs
    #[arg(short, long)]
    verbose: bool,
}

/// Removes it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let mut prune = wanted(args)?;
    if !args.dry_run && !args.force && !confirmed(args)? {
        return Ok(());
    }
    let store = Session::open(environment)?.store;
    if let Some(free) = args.min_free_space.as_deref().map(|text| size("min-free-space", text)).transpose()? {
        let keep = keep_for_free_space(&store, free)?;
        prune.keep = Some(prune.keep.map_or(keep, |other| other.min(keep)));
    }
    let pruned = store.prune(&prune).map_err(|error| store_error(&error))?;
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
    let mut prune = Prune {
        all: args.all,
        unused_for: args.until.as_deref().map(|text| duration("--until", text)).transpose()?,
        kinds: Vec::new(),
        ids: Vec::new(),
        keep: args.max_used_space.as_deref().map(|text| size("max-used-space", text)).transpose()?,
        dry_run: args.dry_run,
    };
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("until", value)) => prune.unused_for = Some(duration("--filter until", value)?),
            Some(("type", value)) => prune.kinds.push(kind(value)?),
            Some(("id", value)) => prune.ids.push(value.to_owned()),
            _ => {
                return Err(CliError::usage(format!("`--filter {filter}`: there is no such filter"))
                    .hint("there are `until=DURATION`, `type=layer|blob|cachemount` and `id=ID`"));
            }
        }
    }
    Ok(prune)
}

/// BuildKit's names of the kinds are understood, too.
fn kind(name: &str) -> Result<UsageKind, CliError> {
    match name {
        "layer" | "regular" => Ok(UsageKind::Layer),
        "blob" => Ok(UsageKind::Blob),
        "cachemount" | "exec.cachemount" => Ok(UsageKind::CacheMount),
        other => Err(CliError::usage(format!("`--filter type={other}`: there is no such type"))
            .hint("there are `layer`, `blob` and `cachemount`")),
    }
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

/// How large the store may be for the disk to have so much free.
fn keep_for_free_space(store: &kiln_cache::Store, wanted: u64) -> Result<u64, CliError> {
    let failed = |error| crate::error::io("ask for the free space of", store.root(), &std::io::Error::from(error));
    let disk = rustix::fs::statvfs(store.root()).map_err(failed)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let usage = store.usage().map_err(|error| store_error(&error))?;
    let total: u64 = usage.iter().map(|usage| usage.size).sum();
    Ok(total.saturating_sub(wanted.saturating_sub(free)))
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
