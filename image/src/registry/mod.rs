//! The client of registries (OCI distribution specification v1.1, Docker registry HTTP API V2).

use std::time::Duration;

/// How long to wait for registries, and how often to ask again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The longest time to connect.
    pub connect: Duration,
    /// The longest silence in the middle of an answer.
    pub silence: Duration,
    /// How often a request is made at most, when it fails for reasons that may pass.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each one.
    pub pause: Duration,
    /// The longest pause that a registry may ask for (`Retry-After`).
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
        }
    }
}
