//! Lines that fit a terminal.

use std::time::Duration;

use unicode_width::UnicodeWidthChar as _;

use crate::progress::text::RESET;

/// How far tabs reach.
const TAB: usize = 8;

/// A step and how long it has taken, the time at the right edge.
pub(super) fn step_line(text: &str, time: Duration, columns: usize) -> String {
    let time = format!(" {:.1}s", time.as_secs_f64());
    let room = columns.saturating_sub(time.len());
    let text = fit(text, room);
    let gap = " ".repeat(room.saturating_sub(width(&text)));
    fit(&format!("{text}{gap}{time}"), columns)
}

/// As much of a line as so many columns hold. Colours take no room, and end with the line.
pub(super) fn fit(line: &str, columns: usize) -> String {
    let mut fitted = String::with_capacity(line.len().min(columns * 2));
    let (mut used, mut escape, mut coloured) = (0, false, false);
    for letter in line.chars() {
        if escape || letter == '\x1b' {
            // `clean` leaves nothing but colours: all of them end with `m`.
            escape = letter != 'm';
            coloured = true;
            fitted.push(letter);
            continue;
        }
        let width = if letter == '\t' { TAB - used % TAB } else { letter.width().unwrap_or(0) };
        if used + width > columns {
            break;
        }
        used += width;
        match letter {
            '\t' => fitted.extend(std::iter::repeat_n(' ', width)),
            letter => fitted.push(letter),
        }
    }
    if coloured {
        fitted.push_str(RESET);
    }
    fitted
}

fn width(text: &str) -> usize {
    text.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_what_is_seen() {
        assert_eq!(fit("hello", 10), "hello");
        assert_eq!(fit("hello", 3), "hel");
        assert_eq!(fit("a\tb", 20), "a       b");
        assert_eq!(fit("a\tb", 8), "a       ");
        assert_eq!(fit("日本語", 5), "日本");
        assert_eq!(fit("e\u{301}tude", 3), "e\u{301}tu");
        assert_eq!(fit("\x1b[31mred\x1b[0m!", 2), "\x1b[31mre\x1b[0m");
        assert_eq!(fit("x", 0), "");
    }

    #[test]
    fn times_stand_at_the_edge() {
        let second = Duration::from_millis(1250);
        assert_eq!(step_line(" => RUN", second, 20), " => RUN         1.2s");
        assert_eq!(step_line(" => RUN make everything", second, 20), " => RUN make ev 1.2s");
        assert_eq!(step_line(" => RUN", second, 3), " 1.");
    }
}
