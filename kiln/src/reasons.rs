//! Why steps ran and what hits did not mind, in words: for `--explain` and for the history of builds.

use kiln_solver::{Hit, Reason};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::progress::clean;

/// A reason, for programs: what it is, and what was and is where something changed.
pub(crate) struct ReasonJson<'a> {
    reason: &'a Reason,
    /// Of kind, message, subject, was and is.
    names: [&'static str; 5],
}

impl<'a> ReasonJson<'a> {
    /// With names as kiln's own documents have them.
    pub(crate) fn new(reason: &'a Reason) -> Self {
        Self { reason, names: ["kind", "message", "subject", "was", "is"] }
    }

    /// With names as documents of docker have them.
    pub(crate) fn capitalised(reason: &'a Reason) -> Self {
        Self { reason, names: ["Kind", "Message", "Subject", "Was", "Is"] }
    }
}

impl Serialize for ReasonJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { reason, names: [kind, message, subject, was, is] } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(kind, reason.kind())?;
        map.serialize_entry(message, &reason.to_string())?;
        if let Some(mismatch) = reason.mismatch() {
            map.serialize_entry(subject, &mismatch.subject)?;
            map.serialize_entry(was, &mismatch.was)?;
            map.serialize_entry(is, &mismatch.is)?;
        }
        map.end()
    }
}

/// The word for the key that a step was found under.
pub(crate) fn key(hit: Hit) -> &'static str {
    match hit {
        Hit::Definition => "definition",
        Hit::Content => "content",
        Hit::Observed => "observations",
        Hit::Unneeded => "not needed",
    }
}

/// A line for each reason: of a step that ran why it did, of a hit what it was found in spite of.
pub(crate) fn lines(reasons: &[Reason], is_hit: bool) -> impl Iterator<Item = String> + '_ {
    let although = if is_hit { "although " } else { "" };
    reasons.iter().map(move |reason| format!("{although}{}", clean(&reason.to_string())))
}

/// That commands could not be observed, and why.
pub(crate) fn untraced(why: &str) -> String {
    let why: Vec<String> = why.lines().map(clean).collect();
    format!("RUN was not observed, and depends on all that came before it: {}", why.join("\n  "))
}
