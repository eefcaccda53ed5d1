//! Times as image configs write them (RFC 3339, UTC).

use std::time::SystemTime;

use jiff::Timestamp;

/// A time in RFC 3339, such as `2024-05-01T10:00:00.25Z`; one that no calendar holds is the Unix epoch.
pub fn format_time(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// The same without the parts of a second.
pub fn format_seconds(time: SystemTime) -> String {
    let whole = Timestamp::try_from(time).and_then(|time| Timestamp::from_second(time.as_second()));
    whole.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// The time that an RFC 3339 text means; `None` where it is not one.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}
