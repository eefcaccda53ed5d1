//! Go's duration syntax (`time.ParseDuration`), which the times of `HEALTHCHECK` are written in.

/// The nanoseconds of `1h30m`, `1.5s`, `100ms`; `None` where the text is none or too long a time.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (part, behind) = one_part(rest)?;
        total = total.checked_add(part)?;
        rest = behind;
    }
    Some(if negative { -total } else { total })
}

/// The first number with its unit, and what stands behind it.
fn one_part(text: &str) -> Option<(i64, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, behind) = text.split_at(number_end);
    let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
    let (unit, behind) = behind.split_at(unit_end);
    Some((scaled(number, unit_nanoseconds(unit)?)?, behind))
}

fn unit_nanoseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// A decimal number times a unit; digits below a nanosecond are dropped.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.checked_mul(unit)? };
    let mut below = 0_i64;
    let mut place = unit;
    for digit in fraction.bytes() {
        // Units above a second are no powers of ten: the place must not be rounded before it is used.
        below += i64::from(digit - b'0') * place / 10;
        place /= 10;
    }
    whole.checked_add(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5m", Some(30_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("100us", Some(100_000)),
            ("100µs", Some(100_000)),
            ("-1s", Some(-1_000_000_000)),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("9999999999999h", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
