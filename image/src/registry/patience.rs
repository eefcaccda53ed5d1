//! How long to wait for registries, and how often to ask again.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// How long to wait for registries, and how often to ask again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The longest time to connect.
    pub connect: Duration,
    /// The longest silence while an answer is awaited, or in the middle of one.
    pub silence: Duration,
    /// The longest silence of a registry that has been sent a blob and has to put it where it belongs.
    pub commit: Duration,
    /// How often a request is made at most, when it fails for reasons that may pass.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each one.
    pub pause: Duration,
    /// The longest pause, also where a registry asks for a longer one (`Retry-After`).
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
        }
    }
}

impl Patience {
    /// The pause after the attempt of this number (from 0 on), as long as the registry asks for within bounds.
    pub(super) fn pause_after(&self, attempt: u32, headers: Option<&HeaderMap>) -> Duration {
        let doubled = self.pause.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let asked = headers.and_then(|headers| retry_after(headers, SystemTime::now())).unwrap_or_default();
        doubled.max(asked).min(self.longest_pause)
    }
}

/// `Retry-After`: in seconds, or the date when to come back, which is told by the registry's own clock where it shows
/// one (`Date`). One that has passed asks for no pause.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = http_date(asked)?;
    let there = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?));
    date.duration_since(there.unwrap_or(now)).ok()
}

/// A date as HTTP has it today (RFC 9110, 5.6.7), which is one of e-mail too.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(text.trim()).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_obey_within_bounds() {
        let patience = Patience::default();
        assert_eq!(patience.pause_after(0, None), Duration::from_millis(250));
        assert_eq!(patience.pause_after(2, None), Duration::from_secs(1));
        assert_eq!(patience.pause_after(40, None), patience.longest_pause);
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(patience.pause_after(0, Some(&headers("3"))), Duration::from_secs(3));
        assert_eq!(patience.pause_after(0, Some(&headers("86400"))), patience.longest_pause);
        assert_eq!(patience.pause_after(0, Some(&headers("Fri, 1 Jan 2100"))), Duration::from_millis(250));
        assert_eq!(patience.pause_after(0, Some(&headers("Fri, 01 Jan 2100 00:00:00 GMT"))), patience.longest_pause);
        assert_eq!(patience.pause_after(0, Some(&headers("Thu, 01 Jan 1970 00:00:00 GMT"))), patience.pause);
    }

    #[test]
    fn dates_count_by_the_clock_that_they_were_told_by() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2015 07:28:09 GMT".parse().unwrap());
        let epoch = SystemTime::UNIX_EPOCH;
        let at = |headers: &HeaderMap, seconds| retry_after(headers, epoch + Duration::from_secs(seconds));
        assert_eq!(at(&headers, 1_445_412_480), Some(Duration::from_secs(9)));
        assert_eq!(at(&headers, 1_445_412_500), None);
        headers.insert(DATE, "Wed, 21 Oct 2015 07:28:04 GMT".parse().unwrap());
        assert_eq!(at(&headers, 0), Some(Duration::from_secs(5)));
    }
}
