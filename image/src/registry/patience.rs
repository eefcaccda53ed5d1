//! How long to wait for registries, and how often to ask again.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

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
        let asked = headers.and_then(retry_after).unwrap_or_default();
        doubled.max(asked).min(self.longest_pause)
    }
}

/// `Retry-After` in seconds. Its other form, a date, is rare and left to the doubling pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
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
    }
}
