//! Sizes, times and tables as Docker prints them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use kiln_image::spec;

/// A size in decimal units with three significant digits, such as `4.25MB` (docker/go-units `HumanSize`).
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), UNITS[unit])
}

/// A number with at most this many significant digits and no trailing zeros (C's `%.4g` for what sizes are).
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { format!("{value:.0}").len() };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long something has been, in words, such as `About an hour` (docker/go-units `HumanDuration`).
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds.saturating_add(1800) / 3600);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, hours) if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        (_, _, hours) if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        (_, _, hours) if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        (_, _, hours) => format!("{} years", hours / 24 / 365),
    }
}

/// A moment as docker prints it, such as `2026-01-31 12:00:05 +0000 UTC`.
pub(crate) fn moment(time: SystemTime) -> String {
    let text = spec::format_time(time);
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    let seconds = rest.split(['.', 'Z']).next().unwrap_or_default();
    format!("{day} {seconds} +0000 UTC")
}

/// How long something took, such as `0.1s` or `2m  5s` (buildx).
pub(crate) fn exact(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m {:2}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:2}m {:2}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Rows under headings, in columns as wide as their widest cell and three spaces apart.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = headings.iter().map(|heading| width(heading)).collect();
    for row in rows {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = (*column).max(width(cell));
        }
    }
    let mut text = String::new();
    let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
    for row in [&headings].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, column) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:column$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Cuts a text to so many characters; a cut one ends with `…`.
pub(crate) fn ellipsis(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some(_) => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.024kB"),
            (4_254_321, "4.254MB"),
            (123_456_789, "123.5MB"),
            (1_000_000_000, "1GB"),
            (u64::MAX, "18.45EB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn durations_are_words() {
        const HOUR: u64 = 3600;
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (2 * HOUR, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (24 * 14 * HOUR, "2 weeks"),
            (24 * 60 * HOUR, "2 months"),
            (24 * 365 * 2 * HOUR, "2 years"),
            (u64::MAX, "584942417355 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn times_are_exact() {
        let cases = [(40, "0.0s"), (59_940, "59.9s"), (125_000, "2m  5s"), (3_671_000, "1h  1m 11s")];
        for (milliseconds, expected) in cases {
            assert_eq!(exact(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["äö".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME     N\näö       1\nlonger   22\n");
        assert_eq!(table(&["NAME", "N"], &[]), "NAME   N\n");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("äbcd", 3), "äb…");
    }
}
