//! The signals that `STOPSIGNAL` may name: Linux's, by name with or without `SIG`, or by number.

const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Whether Docker accepts this text as a signal.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_real_time(name)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1`, `RTMAX`.
fn is_real_time(name: &str) -> bool {
    let offset = |text: &str, last: u32| text.parse::<u32>().is_ok_and(|number| (1..=last).contains(&number));
    name == "RTMIN"
        || name == "RTMAX"
        || name.strip_prefix("RTMIN+").is_some_and(|text| offset(text, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|text| offset(text, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_names_and_numbers() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "SIGRTMAX", "SIGUSR1"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "SIG", "SIGFOO", "SIGRTMIN+16", "RTMAX-15", "TERM "] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
