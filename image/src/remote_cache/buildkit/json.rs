//! JSON as Go's `encoding/json` writes it: BuildKit hashes the bytes.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// What is written otherwise than by `serde_json`: Go escapes what could end a script in HTML.
const ESCAPED: [(char, &str); 5] =
    [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];

/// The bytes that `json.Marshal` gives for a structure of the same fields.
pub(super) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Nothing here fails: there are no maps, and memory takes all.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, GoFormatter));
    bytes
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, escaped, length)) = first_escaped(rest) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(escaped.as_bytes())?;
            rest = &rest[at + length..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Where the first character is that is escaped, what it becomes and how long it is.
fn first_escaped(text: &str) -> Option<(usize, &'static str, usize)> {
    text.char_indices().find_map(|(at, character)| {
        let (_, escaped) = ESCAPED.iter().find(|(known, _)| *known == character)?;
        Some((at, *escaped, character.len_utf8()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_html_minds_is_escaped_and_the_rest_is_not() {
        let text = "a<b> && \"é\"\u{2028}\u{2029}\n\t\\/\u{1}";
        assert_eq!(
            String::from_utf8(to_vec(&text)).unwrap(),
            r#""a\u003cb\u003e \u0026\u0026 \"é\"\u2028\u2029\n\t\\/\u0001""#
        );
    }
}
