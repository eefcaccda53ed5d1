//! How much of the history of builds is kept.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// The section `[history]`, with the keys of buildkitd.toml (`maxEntries`, `maxAge`) or in kiln's own spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistorySettings {
    /// This many builds are kept however old they are.
    #[serde(default, rename = "max-entries", alias = "maxEntries")]
    pub max_entries: Option<usize>,
    /// Builds younger than this are kept however many they are: seconds, or a text such as `48h`.
    #[serde(default, rename = "max-age", alias = "maxAge", deserialize_with = "age")]
    pub max_age: Option<Duration>,
    /// The most that all builds together may take: bytes, or a text such as `500MB`.
    #[serde(default, rename = "max-size", alias = "maxSize", deserialize_with = "size")]
    pub max_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

const AGES: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

pub(super) fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = amount(deserializer, &AGES, "a number of seconds, or a text such as `90s`, `48h` or `7d`")?;
    Ok(Some(Duration::from_secs(seconds)))
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    amount(deserializer, &SIZES, "a number of bytes, or a text such as `500MB` or `1GiB`").map(Some)
}

/// A number, or a text of a number and one of these units.
fn amount<'de, D: Deserializer<'de>>(
    deserializer: D,
    units: &[(&str, u64)],
    expected: &'static str,
) -> Result<u64, D::Error> {
    let text = match NumberOrText::deserialize(deserializer) {
        Ok(NumberOrText::Number(number)) => return Ok(number),
        Ok(NumberOrText::Text(text)) => text,
        Err(_) => return Err(de::Error::custom(format!("expected {expected}"))),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| factor);
    let amount = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(*factor));
    amount.ok_or_else(|| de::Error::custom(format!("`{text}` is not {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HistorySettings, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn limits_have_units() {
        let settings = parse("max-entries = 7\nmax-age = \"48h\"\nmax-size = \"2 GiB\"").unwrap();
        let hours = Duration::from_secs(48 * 3600);
        let expected = HistorySettings { max_entries: Some(7), max_age: Some(hours), max_size: Some(2 << 30) };
        assert_eq!(settings, expected);
        assert_eq!(parse("maxAge = 172800\nmaxEntries = 50").unwrap().max_age, Some(hours));
        assert_eq!(parse("").unwrap(), HistorySettings::default());
    }

    #[test]
    fn other_values_are_refused() {
        let cases = [
            ("max-age = \"soon\"", "soon"),
            ("max-age = \"\"", "48h"),
            ("max-age = -1", "seconds"),
            ("max-size = \"99999999999GB\"", "99999999999GB"),
            ("max-size = \"5 parsec\"", "5 parsec"),
            ("max-entries = \"5\"", "max-entries"),
            ("entries = 5", "entries"),
        ];
        for (text, named) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
