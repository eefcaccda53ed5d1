//! Amounts of memory as Docker writes them.

/// A number of bytes: `64m`, `1.5GiB`, `1 kb`; a unit is a power of 1024.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: &str = "kmgtp";
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(end);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| is_number)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') if letters.as_str().is_empty() => 0,
        Some(letter) if matches!(letters.as_str(), "" | "b" | "ib") => UNITS.find(letter)? + 1,
        Some(_) => return None,
    };
    let bytes = number * 1024_f64.powi(i32::try_from(power).ok()?);
    // Beyond what a float holds exactly nobody has memory.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "digits have no sign")]
    (bytes < 9e15).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases = [("10", 10), ("2k", 2048), ("1.5KiB", 1536), ("1 GB", 1 << 30), ("64m", 64 << 20), ("7b", 7)];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3", "99999999999p", "1i", "1bb", "1kk", "+1", "1e3", "1  k", "inf", "."]
        {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
