//! `kiln history`: the builds of the past, each subcommand in its file, and how an image came about ([`image`]).

mod diff;
mod export;
mod image;
mod inspect;
mod logs;
mod ls;
mod rm;
mod spans;
mod trace;

use kiln_cache::history::{BuildEnd, BuildRecord, BuildStatus, StepEnd, StepRecord};
use kiln_cache::{Store, StoreError};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::reasons;
use crate::session::store_error;

/// The last build.
const LAST: &str = "^0";

/// List builds, or print how an image came about
#[derive(clap::Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  kiln history                    list builds, the last one first
  kiln history inspect            the steps of the last build, and why they ran
  kiln history diff               what changed between the last build and the one before it
  kiln history logs ^1            what the build before the last one printed
  kiln history trace -o it.json   the times of the steps of the last build, for Jaeger
  kiln history export -o it.dockerbuild
                                  the last build, for Docker Desktop
  kiln history rm --all           forget all builds
  kiln history app:1.0            the instructions that made an image"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// An image, by name or ID: print the instructions that made it
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    #[command(flatten)]
    listing: Listing,

    /// Only builds for which this holds: `status=…`, `name=…` or `ref=…`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "image")]
    filter: Vec<String>,
}

/// How a list is printed.
#[derive(clap::Args, Debug)]
struct Listing {
    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,

    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,

    /// `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Ls(ls::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
    Logs(logs::Args),
    Export(export::Args),
    Trace(trace::Args),
    Rm(rm::Args),
    Image(image::Args),
}

/// Does what is asked for.
pub(super) fn run(args: Args, environment: &Environment) -> Result<(), CliError> {
    let Args { command, image, listing, filter } = args;
    match (command, image) {
        (Some(Command::Ls(args)), _) => ls::run(&args, environment),
        (Some(Command::Inspect(args)), _) => inspect::run(&args, environment),
        (Some(Command::Diff(args)), _) => diff::run(&args, environment),
        (Some(Command::Logs(args)), _) => logs::run(&args, environment),
        (Some(Command::Export(args)), _) => export::run(&args, environment),
        (Some(Command::Trace(args)), _) => trace::run(&args, environment),
        (Some(Command::Rm(args)), _) => rm::run(&args, environment),
        (Some(Command::Image(args)), _) => image::run(&args, environment),
        (None, Some(image)) => image::run(&image::Args { image, listing }, environment),
        (None, None) => ls::run(&ls::Args { listing, filter }, environment),
    }
}

/// The build that was asked for; the last one where none was.
fn find(store: &Store, reference: Option<&str>) -> Result<String, CliError> {
    store.find_build(reference.unwrap_or(LAST)).map_err(|error| match (&error, reference) {
        (StoreError::NoBuild(_), None) => no_builds(),
        _ => build_error(&error),
    })
}

/// The same, of a build that has come to an end.
fn find_ended(store: &Store, reference: Option<&str>) -> Result<BuildRecord, CliError> {
    let id = find(store, reference)?;
    let build = store.build(&id).map_err(|error| build_error(&error))?;
    if build.status == BuildStatus::Running { Err(build_error(&StoreError::BuildRuns(id))) } else { Ok(build) }
}

fn no_builds() -> CliError {
    CliError::user("there is no build in the history yet")
}

/// An error about a build, with who has to act.
fn build_error(error: &StoreError) -> CliError {
    match error {
        StoreError::NoBuild(_) | StoreError::AmbiguousBuild(_) => {
            CliError::from_error(Kind::User, error).hint("`kiln history` lists the builds")
        }
        StoreError::BuildRuns(_) => CliError::from_error(Kind::User, error),
        _ => store_error(error),
    }
}

/// What a build is called in lists, as buildx does it: the last part of its context, and its target.
fn name(build: &BuildRecord) -> String {
    let command = &build.command;
    let context = command.context.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
    let name = context.unwrap_or(&command.context);
    match &command.target {
        Some(target) => format!("{name} ({target})"),
        None => name.to_owned(),
    }
}

/// Where a build stands, in a word.
fn status(build: &BuildRecord) -> &'static str {
    match &build.status {
        BuildStatus::Running => "Running",
        BuildStatus::Interrupted => "Interrupted",
        BuildStatus::Ended(BuildEnd::Completed { .. }) => "Completed",
        BuildStatus::Ended(BuildEnd::Failed { .. }) => "Error",
        BuildStatus::Ended(BuildEnd::Cancelled) => "Canceled",
    }
}

/// How a step ended, and which key it was found under.
fn outcome(step: &StepRecord) -> (&'static str, Option<&'static str>) {
    match step.ended.as_ref().map(|(_, end)| end) {
        None => ("unfinished", None),
        Some(StepEnd::Done) => ("done", None),
        Some(StepEnd::Cancelled) => ("canceled", None),
        Some(StepEnd::Failed(_)) => ("error", None),
        Some(StepEnd::Cached(hit)) => ("cached", Some(reasons::key(*hit))),
    }
}

/// How many steps there are, have been completed, and were found in the cache.
fn counts(build: &BuildRecord) -> (usize, usize, usize) {
    let ends = || build.steps.iter().filter_map(|step| step.ended.as_ref());
    let completed = ends().filter(|(_, end)| matches!(end, StepEnd::Done | StepEnd::Cached(_))).count();
    let cached = ends().filter(|(_, end)| matches!(end, StepEnd::Cached(_))).count();
    (build.steps.len(), completed, cached)
}

/// A build for tests.
#[cfg(test)]
fn sample() -> BuildRecord {
    use kiln_cache::history::{BuildCommand, StepRecord, StepTitle};
    use kiln_solver::{Digest, Hit, Mismatch, Reason};
    use std::time::{Duration, SystemTime};

    let step = |name: &str, line, began, ended: Option<(u64, StepEnd)>| StepRecord {
        title: StepTitle { line, digest: line.map(|_| Digest::of(name.as_bytes())), ..StepTitle::new(name) },
        began: Duration::from_millis(began),
        ended: ended.map(|(time, end)| (Duration::from_millis(time), end)),
        reasons: Vec::new(),
        layer: None,
    };
    let because = |step: StepRecord, reasons: &[Reason]| StepRecord { reasons: reasons.to_vec(), ..step };
    let mismatch = |subject: &str, was: &str, is: &str| Mismatch {
        subject: subject.to_owned(),
        was: was.to_owned(),
        is: is.to_owned(),
    };
    let error = "process \"make\" did not complete successfully: exit code: 2".to_owned();
    BuildRecord {
        id: "abc0123456789012345678901".to_owned(),
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(60),
        command: BuildCommand {
            context: "/home/me/shop".to_owned(),
            dockerfile: "/home/me/shop/Dockerfile".to_owned(),
            target: Some("test".to_owned()),
            tags: vec!["shop:1.0".to_owned()],
            platform: "linux/amd64".to_owned(),
            build_args: [("VERSION".to_owned(), "1\u{1b}[2J".to_owned())].into(),
        },
        status: BuildStatus::Ended(BuildEnd::Failed { error: error.clone(), place: Some("Dockerfile:4".to_owned()) }),
        duration: Duration::from_millis(61_234),
        dockerfile: None,
        untraced: Some("there is no `/dev/fuse`".to_owned()),
        steps: vec![
            step("[internal] load build definition from Dockerfile", None, 0, Some((1, StepEnd::Done))),
            step("[1/3] FROM debian", Some(1), 2, Some((2, StepEnd::Cached(Hit::Unneeded)))),
            because(
                step("[2/3] COPY . .", Some(2), 2, Some((2, StepEnd::Cached(Hit::Content)))),
                &[Reason::Image(mismatch("debian", "sha256:1", "sha256:2"))],
            ),
            because(
                step("[3/3] RUN make", Some(4), 3, Some((61_230, StepEnd::Failed(error)))),
                &[
                    Reason::Fact(mismatch("/src/main\u{1b}.c", "content 1", "content 2")),
                    Reason::Fact(mismatch("/src/new.c", "absent", "content 3")),
                ],
            ),
            step("[other 1/1] RUN curl", Some(6), 3, None),
        ],
    }
}
