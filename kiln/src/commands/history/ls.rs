//! `kiln history ls`

use std::time::SystemTime;

use kiln_cache::history::{BuildRecord, BuildStatus};
use kiln_image::spec;
use serde::Serialize;

use super::{counts, name, status};
use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::clean;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// List builds, the last one first
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Print IDs alone
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Cut nothing short
    #[arg(long)]
    pub(super) no_trunc: bool,

    /// How to print them; `json` is one object a line
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(super) format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// The longest name that is not cut short.
const LONGEST_NAME: usize = 36;

/// A build, with the keys that buildx uses.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(rename = "ref")]
    id: &'a str,
    name: String,
    status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    total_steps: usize,
    completed_steps: usize,
    cached_steps: usize,
}

/// Prints them.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let builds = store.builds().map_err(|error| store_error(&error))?;
    terminal::print(&match args {
        Args { quiet: true, .. } => builds.iter().map(|build| format!("{}\n", build.id)).collect(),
        Args { format: Format::Json, .. } => builds.iter().map(json).collect(),
        Args { no_trunc, .. } => table(&builds, *no_trunc, SystemTime::now()),
    })
}

fn table(builds: &[BuildRecord], whole: bool, now: SystemTime) -> String {
    let row = |build: &BuildRecord| {
        let name = clean(&name(build));
        let age = now.duration_since(build.began).map_or(0, |age| age.as_secs());
        let (steps, _, cached) = counts(build);
        vec![
            build.id.clone(),
            if whole { name } else { human::ellipsis(&name, LONGEST_NAME) },
            status(build).to_owned(),
            format!("{} ago", human::duration(age)),
            human::exact(build.duration),
            format!("{steps} ({cached} cached)"),
        ]
    };
    let headings = ["BUILD ID", "NAME", "STATUS", "CREATED AT", "DURATION", "STEPS"];
    human::table(&headings, &builds.iter().map(row).collect::<Vec<_>>())
}

fn json(build: &BuildRecord) -> String {
    let (total_steps, completed_steps, cached_steps) = counts(build);
    let ended = matches!(build.status, BuildStatus::Ended(_));
    let end = || spec::format_time(build.began.checked_add(build.duration).unwrap_or(build.began));
    let listed = Listed {
        id: &build.id,
        name: name(build),
        status: status(build),
        created_at: spec::format_time(build.began),
        completed_at: ended.then(end),
        total_steps,
        completed_steps,
        cached_steps,
    };
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string(&listed).map(|text| text + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use kiln_cache::history::BuildEnd;
    use std::time::Duration;

    #[test]
    fn builds_are_listed_as_buildx_does() {
        let mut whole = sample();
        whole.command.target = None;
        whole.status = BuildStatus::Ended(BuildEnd::Completed { image: None });
        whole.duration = Duration::from_millis(45);
        whole.command.context = "https://example.com/a-very-long-name-of-a-repository-somewhere.git#main".to_owned();
        let mut killed = sample();
        killed.status = BuildStatus::Interrupted;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3660);
        insta::assert_snapshot!(table(&[sample(), whole, killed], false, now), @r"
        BUILD ID                    NAME                                   STATUS        CREATED AT          DURATION   STEPS
        abc0123456789012345678901   shop (test)                            Error         About an hour ago   1m  1s     5 (2 cached)
        abc0123456789012345678901   a-very-long-name-of-a-repository-so…   Completed     About an hour ago   0.0s       5 (2 cached)
        abc0123456789012345678901   shop (test)                            Interrupted   About an hour ago   1m  1s     5 (2 cached)
        ");
        insta::assert_snapshot!(json(&sample()), @r#"{"ref":"abc0123456789012345678901","name":"shop (test)","status":"Error","created_at":"1970-01-01T00:01:00Z","completed_at":"1970-01-01T00:02:01.234Z","total_steps":5,"completed_steps":3,"cached_steps":2}"#);
    }
}
