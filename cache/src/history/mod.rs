//! The history of builds: what was built, how each step went, and all that the steps printed.
//!
//! ```text
//! history/ID/build    a line of JSON for each thing that happened, the command first; see `events`
//! history/ID/log      what the steps printed, as it came; see `log`
//! history/pruned      its time is that of the last look for builds to forget
//! ```
//!
//! Files and no tables, because a line at the end of a file costs two microseconds, waits for nobody, and is there
//! when the process is killed a moment later. A build holds a lock (flock(2)) on its file `build` for as long as it
//! runs: one without an end whose lock nobody holds was interrupted.
//!
//! Nothing here is ever needed to build, so nothing of it is checked after a power loss: what cannot be read is
//! passed over.

mod events;
mod log;
mod prune;
mod read;
mod reason;
mod recorder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, Hit, Reason};
use serde::{Deserialize, Serialize};

pub use events::{Event, Events};
pub use prune::HistoryLimits;
pub use recorder::Recorder;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildCommand {
    /// The build context as it was given, made absolute where it is a directory.
    pub context: String,
    /// The Dockerfile, likewise.
    pub dockerfile: String,
    /// The stage asked for; the last one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The names of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What was built for.
    pub platform: String,
    /// Build arguments; secrets do not belong there and are not kept from here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub build_args: BTreeMap<String, String>,
}

/// What a step is. Things beside the graph that take their time (loading a Dockerfile, exporting) are steps here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTitle {
    /// The line shown to people, such as `[build 2/4] RUN make`.
    pub name: String,
    /// The definition digest, where it is a step of the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The definition digests of the steps that it builds on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Digest>,
    /// The line of the Dockerfile on which it begins, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl StepTitle {
    /// Of something that is no step of the graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// How a step ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepEnd {
    /// It did what it should.
    Done,
    /// It had been done before.
    Cached(#[serde(with = "RecordedHit")] Hit),
    /// The build was stopped.
    Cancelled,
    /// It failed, for this reason.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hit", rename_all = "lowercase")]
enum RecordedHit {
    Definition,
    Content,
    Observed,
    Unneeded,
}

/// How a build ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildEnd {
    /// It did what was asked for.
    Completed {
        /// The ID of the image that it made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Digest>,
    },
    /// It failed.
    Failed {
        /// Why.
        error: String,
        /// Where in the Dockerfile, as `FILE:LINE`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// Somebody stopped it.
    Cancelled,
}

/// Where a build stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildStatus {
    /// Its process is alive.
    Running,
    /// Its process went away without a word: it was killed, or the machine went down.
    Interrupted,
    /// It came to an end.
    Ended(BuildEnd),
}

/// One build of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRecord {
    /// Its name: 25 letters and digits.
    pub id: String,
    /// When it began.
    pub began: SystemTime,
    /// What was asked for.
    pub command: BuildCommand,
    /// Where it stands.
    pub status: BuildStatus,
    /// How long it took; of one without an end, to the last thing that is known of it.
    pub duration: Duration,
    /// What its Dockerfile said, where it was read.
    pub dockerfile: Option<DockerfileText>,
    /// Why its commands could not be observed, where they could not.
    pub untraced: Option<String>,
    /// Its steps, in the order in which they appeared.
    pub steps: Vec<StepRecord>,
}

/// A Dockerfile as a build read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfileText {
    /// Its digest.
    pub digest: Digest,
    /// What it said; absent of one that is larger than 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl DockerfileText {
    const LARGEST: usize = 64 << 10;

    /// Of this text.
    pub fn new(text: &str) -> Self {
        let kept = (text.len() <= Self::LARGEST).then(|| text.to_owned());
        Self { digest: Digest::of(text.as_bytes()), text: kept }
    }
}

/// One step of a build of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// What it is.
    pub title: StepTitle,
    /// When it began, after the build did.
    pub began: Duration,
    /// When it ended, after the build began, and how; absent where it had not ended.
    pub ended: Option<(Duration, StepEnd)>,
    /// Why it ran; or, of one that was found in the cache, what made no difference.
    pub reasons: Vec<Reason>,
    /// The topmost layer of what it came to (its diffID), where that is known.
    pub layer: Option<Digest>,
}
