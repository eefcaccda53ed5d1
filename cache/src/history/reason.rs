//! The form in which reasons are written down.

use kiln_solver::{IgnoreCache, Mismatch, Reason};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A reason as it stands in a line. What is longer than anybody reads is cut.
#[derive(Serialize, Deserialize)]
struct RecordedReason {
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    was: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    is: String,
}

/// The kind of a step that its instruction makes run always.
const ALWAYS: &str = "always";
/// As many bytes as a line keeps of each text.
const LONGEST: usize = 4096;

impl From<&Reason> for RecordedReason {
    fn from(reason: &Reason) -> Self {
        let kind = if *reason == Reason::Ignored(IgnoreCache::Always) { ALWAYS } else { reason.kind() }.to_owned();
        match (reason, reason.mismatch()) {
            (Reason::Input(name), _) => Self { kind, subject: cut(name), was: String::new(), is: String::new() },
            (_, Some(Mismatch { subject, was, is })) => {
                Self { kind, subject: cut(subject), was: cut(was), is: cut(is) }
            }
            (_, None) => Self { kind, subject: String::new(), was: String::new(), is: String::new() },
        }
    }
}

impl RecordedReason {
    /// Nothing of a kind that this kiln does not know.
    fn into_reason(self) -> Option<Reason> {
        let Self { kind, subject, was, is } = self;
        Some(match kind.as_str() {
            "ignored" => Reason::Ignored(IgnoreCache::Asked),
            ALWAYS => Reason::Ignored(IgnoreCache::Always),
            "never-built" => Reason::NeverBuilt,
            "lost" => Reason::Lost,
            "definition" => Reason::Definition(Mismatch { subject, was, is }),
            "image" => Reason::Image(Mismatch { subject, was, is }),
            "fact" => Reason::Fact(Mismatch { subject, was, is }),
            "file" => Reason::File(Mismatch { subject, was, is }),
            "input" => Reason::Input(subject),
            _ => return None,
        })
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

pub(super) fn serialize<S: Serializer>(reasons: &[Reason], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(RecordedReason::from))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Reason>, D::Error> {
    let recorded = Vec::<RecordedReason>::deserialize(deserializer).map_err(de::Error::custom)?;
    Ok(recorded.into_iter().filter_map(RecordedReason::into_reason).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line(#[serde(with = "super")] Vec<Reason>);

    #[test]
    fn reasons_come_back_as_they_were() {
        let mismatch = || Mismatch { subject: "`a`".into(), was: "1".into(), is: "nothing\n".into() };
        let all = vec![
            Reason::Ignored(IgnoreCache::Asked),
            Reason::Ignored(IgnoreCache::Always),
            Reason::NeverBuilt,
            Reason::Lost,
            Reason::Definition(mismatch()),
            Reason::Image(mismatch()),
            Reason::Fact(mismatch()),
            Reason::File(mismatch()),
            Reason::Input("RUN make".into()),
        ];
        let text = serde_json::to_string(&Line(all.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), Line(all));
    }

    #[test]
    fn what_a_newer_kiln_says_is_passed_over_and_what_is_long_is_cut() {
        let text = r#"[{"kind":"weather"},{"kind":"lost"}]"#;
        assert_eq!(serde_json::from_str::<Line>(text).unwrap(), Line(vec![Reason::Lost]));
        let long = Line(vec![Reason::Input("ä".repeat(LONGEST))]);
        let Line(reasons) = serde_json::from_str(&serde_json::to_string(&long).unwrap()).unwrap();
        assert_eq!(reasons, [Reason::Input("ä".repeat(LONGEST / 2) + "…")]);
    }
}
