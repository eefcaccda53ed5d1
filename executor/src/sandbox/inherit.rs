//! What processes inherit beside files, signals and the environment. None of it is a command's business: what a step
//! does may not depend on how kiln was started.

use std::fs;
use std::num::NonZeroU64;

use super::sys;

/// What the kernel gives the first process, in nanoseconds.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(50_000).unwrap();

/// Brings this process, and with it all that come from it, to how a system starts its services. None of it is worth
/// failing for: where something is refused, it was not there to be inherited either.
pub(super) fn shed() {
    // What kiln's user has in a keyring is for that user's own programs.
    sys::join_new_session_keyring();
    sys::reset_personality();
    let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
    let score = "/proc/self/oom_score_adj";
    if fs::read_to_string(score).is_ok_and(|score| is_spared(&score)) {
        let _ = fs::write(score, "0");
    }
}

/// Whether a process with this score is killed later than others when memory runs out, as services like kiln may be
/// and commands never should. More readily killed is fine.
fn is_spared(score: &str) -> bool {
    score.trim().parse::<i32>().is_ok_and(|score| score < 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scores_below_zero_spare() {
        assert!(is_spared("-1000\n") && is_spared("-1\n"));
        assert!(!is_spared("0\n") && !is_spared("500\n") && !is_spared(""));
    }
}
