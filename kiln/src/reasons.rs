//! Why steps ran and what hits did not mind, in words: for `--explain` and for the history of builds.

use kiln_solver::{Hit, Reason};

use crate::progress::clean;

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
