//! What Go's `fmt` makes of values: history lines hold them as BuildKit prints them.

use std::fmt::Write as _;

/// `%v` of a list of strings: `[a b]`.
pub(crate) fn list(items: &[impl AsRef<str>]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// `%q` of a list of strings: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(" "))
}

/// `%q` of a string, `strconv.Quote`.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        quote_character(character, '"', &mut quoted);
    }
    quoted.push('"');
    quoted
}

/// `%q` of a number, `strconv.QuoteRune` of the character that it stands for.
pub(crate) fn quoted_character(number: i64) -> String {
    let character = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut quoted = String::from("'");
    quote_character(character, '\'', &mut quoted);
    quoted.push('\'');
    quoted
}

fn quote_character(character: char, quote: char, quoted: &mut String) {
    let code = u32::from(character);
    // Writing to a string cannot fail.
    let _ = match character {
        '\\' => quoted.write_str("\\\\"),
        _ if character == quote => write!(quoted, "\\{character}"),
        '\x07' => quoted.write_str("\\a"),
        '\x08' => quoted.write_str("\\b"),
        '\x0c' => quoted.write_str("\\f"),
        '\n' => quoted.write_str("\\n"),
        '\r' => quoted.write_str("\\r"),
        '\t' => quoted.write_str("\\t"),
        '\x0b' => quoted.write_str("\\v"),
        _ if code < 0x20 || code == 0x7f => write!(quoted, "\\x{code:02x}"),
        _ if is_printable(character) => quoted.write_char(character),
        _ if code < 0x1_0000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
}

/// Go's `unicode.IsPrint`, as near as the standard library can tell: no control, format, private-use or
/// white-space character but the plain space.
fn is_printable(character: char) -> bool {
    let unseen = matches!(
        u32::from(character),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe_0000..=0x10_ffff
    );
    character == ' ' || !(character.is_control() || character.is_whitespace() || unseen)
}

/// `time.Duration`'s text: `1m30s`, `1.5s`, `100ms`, `0s`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(total, 1_000_000)),
        _ => format!("{sign}{}", hours_minutes_seconds(total)),
    }
}

fn hours_minutes_seconds(total: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let (hours, minutes) = (total / (3600 * SECOND), total / (60 * SECOND) % 60);
    let seconds = decimal(total % (60 * SECOND), SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `total / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(total: u64, unit: u64) -> String {
    let (whole, rest) = (total / unit, total % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_printed_as_go_prints_them() {
        assert_eq!(list(&["/data", "/log"]), "[/data /log]");
        assert_eq!(quoted_list(&[]), "[]");
        let items = ["a \"b\"".to_owned(), "tab\t\\ \u{1b} é \u{a0} \u{200b}".to_owned()];
        assert_eq!(quoted_list(&items), r#"["a \"b\"" "tab\t\\ \x1b é \u00a0 \u200b"]"#);
    }

    #[test]
    fn numbers_are_quoted_as_characters() {
        let cases = [
            (0, r"'\x00'"),
            (3, r"'\x03'"),
            (10, r"'\n'"),
            (34, "'\"'"),
            (39, r"'\''"),
            (92, r"'\\'"),
            (127, r"'\x7f'"),
            (173, r"'\u00ad'"),
            (200, "'È'"),
            (8364, "'€'"),
            (0xd800, "'\u{fffd}'"),
            (0x11_0000, "'\u{fffd}'"),
        ];
        for (number, text) in cases {
            assert_eq!(quoted_character(number), text);
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_445_001_000_000, "1h30m45.001s"),
            (-1_000_000_000, "-1s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}
