//! `kiln history ls`

use std::time::SystemTime;

use kiln_cache::history::{BuildRecord, BuildStatus};
use kiln_image::spec;
use serde::Serialize;

use super::{Listing, counts, name, status};
use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::clean;
use crate::session::{Session, store_error};
use crate::template::list::Format;
use crate::template::{TemplateError, Value};
use crate::{human, terminal};

/// List builds, the last one first
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) listing: Listing,

    /// Only those for which this holds: `status=completed|error|canceled|running|interrupted`, `name=NAME` or `ref=ID`;
    /// may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
}

const HEADINGS: [(&str, &str); 8] = [
    ("Ref", "BUILD ID"),
    ("Name", "NAME"),
    ("Status", "STATUS"),
    ("CreatedAt", "CREATED AT"),
    ("Duration", "DURATION"),
    ("Steps", "STEPS"),
    ("TotalSteps", "TOTAL STEPS"),
    ("CachedSteps", "CACHED STEPS"),
];
const COLUMNS: &str = "{{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}\t{{.Steps}}";

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
    let Listing { quiet, no_trunc, format: text } = &args.listing;
    let format = Format::parse(text.as_deref(), COLUMNS)?;
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let store = Session::open(environment)?.store;
    let mut builds = store.builds().map_err(|error| store_error(&error))?;
    builds.retain(|build| filters.iter().all(|filter| filter.accepts(build)));
    terminal::print(&match (*quiet, text.as_deref()) {
        (true, None) => builds.iter().map(|build| format!("{}\n", build.id)).collect(),
        (_, Some("json")) => builds.iter().map(json).collect(),
        _ => show(&builds, &format, *no_trunc, SystemTime::now())?,
    })
}

/// Which builds are listed.
enum Filter {
    Status(String),
    Name(String),
    Id(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        match text.split_once('=') {
            Some(("status", value)) => Ok(Self::Status(value.to_lowercase())),
            Some(("name", value)) => Ok(Self::Name(value.to_owned())),
            Some(("ref", value)) => Ok(Self::Id(value.rsplit('/').next().unwrap_or(value).to_owned())),
            _ => Err(CliError::usage(format!("`--filter {text}`: there are `status=`, `name=` and `ref=`"))),
        }
    }

    fn accepts(&self, build: &BuildRecord) -> bool {
        match self {
            Self::Status(wanted) => status(build).to_lowercase() == *wanted,
            Self::Name(wanted) => name(build) == *wanted,
            Self::Id(wanted) => build.id.starts_with(wanted),
        }
    }
}

fn show(builds: &[BuildRecord], format: &Format, whole: bool, now: SystemTime) -> Result<String, TemplateError> {
    let row = |build: &BuildRecord| {
        let name = clean(&name(build));
        let age = now.duration_since(build.began).map_or(0, |age| age.as_secs());
        let (steps, _, cached) = counts(build);
        Value::fields([
            ("Ref", build.id.clone()),
            ("Name", if whole { name } else { human::ellipsis(&name, LONGEST_NAME) }),
            ("Status", status(build).to_owned()),
            ("CreatedAt", format!("{} ago", human::duration(age))),
            ("Duration", human::exact(build.duration)),
            ("Steps", format!("{steps} ({cached} cached)")),
            ("TotalSteps", steps.to_string()),
            ("CachedSteps", cached.to_string()),
        ])
    };
    format.render(&HEADINGS, &builds.iter().map(row).collect::<Vec<_>>())
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
        let builds = [sample(), whole, killed];
        let shown = |format| show(&builds, &Format::parse(format, COLUMNS).unwrap(), false, now).unwrap();
        let filtered = |text: &str| {
            let filter = Filter::parse(text).unwrap();
            builds.iter().filter(|build| filter.accepts(build)).count()
        };
        assert_eq!(["status=error", "status=Completed", "name=shop (test)", "ref=x"].map(filtered), [1, 1, 2, 0]);
        assert!(Filter::parse("colour=red").is_err());
        assert_eq!(shown(Some("{{.Status}}:{{.CachedSteps}}")), "Error:2\nCompleted:2\nInterrupted:2\n");
        insta::assert_snapshot!(shown(None), @r"
        BUILD ID                    NAME                                   STATUS        CREATED AT          DURATION   STEPS
        abc0123456789012345678901   shop (test)                            Error         About an hour ago   1m  1s     5 (2 cached)
        abc0123456789012345678901   a-very-long-name-of-a-repository-so…   Completed     About an hour ago   0.0s       5 (2 cached)
        abc0123456789012345678901   shop (test)                            Interrupted   About an hour ago   1m  1s     5 (2 cached)
        ");
        insta::assert_snapshot!(json(&sample()), @r#"{"ref":"abc0123456789012345678901","name":"shop (test)","status":"Error","created_at":"1970-01-01T00:01:00Z","completed_at":"1970-01-01T00:02:01.234Z","total_steps":5,"completed_steps":3,"cached_steps":2}"#);
    }
}
