//! The exec form: a JSON array of strings.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::char;
use nom::combinator::{opt, value, verify};
use nom::error::{ErrorKind, ParseError};
use nom::multi::fold_many0;
use nom::sequence::preceded;
use nom::{Err, IResult, Parser};

/// What a text is that might be a JSON array.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// An array of strings: each decoded, and as written.
    Strings(Vec<(String, &'a str)>),
    /// A JSON array that has something else in it, which Docker refuses; the first that is no string.
    Mixed(&'a str),
    /// No JSON array, so plain text; with what is wrong if it looks as if it was meant to be one.
    Text(Option<Expected<'a>>),
}

/// The furthest place that could be read, and what should stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected<'a> {
    /// The text from that place on.
    pub(crate) at: &'a str,
    /// What should stand there.
    pub(crate) what: &'static str,
}

impl<'a> ParseError<&'a str> for Expected<'a> {
    fn from_error_kind(at: &'a str, _: ErrorKind) -> Self {
        Self { at, what: "a JSON array of strings" }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }

    fn or(self, other: Self) -> Self {
        if self.at.len() <= other.at.len() { self } else { other }
    }
}

type Parse<'a, T> = IResult<&'a str, T, Expected<'a>>;

/// Reads `text`, which must be the array and nothing else to be one.
pub(crate) fn read(text: &str) -> Form<'_> {
    if !text.starts_with('[') {
        return Form::Text(None);
    }
    let problem = match array(text) {
        Ok(("", strings)) => return Form::Strings(strings),
        Ok((at, _)) => Expected { at, what: "nothing behind the `]`" },
        Err(Err::Error(problem) | Err::Failure(problem)) => problem,
        Err(Err::Incomplete(_)) => Expected { at: "", what: "a JSON array of strings" },
    };
    if serde_json::from_str::<Vec<serde_json::Value>>(text).is_ok() {
        return Form::Mixed(problem.at);
    }
    // With white space before the quote it is a test of the shell: `[ "$A" = b ]`.
    let meant = text[1..].starts_with(['"', '\'']);
    Form::Text(meant.then_some(problem))
}

fn array(input: &str) -> Parse<'_, Vec<(String, &str)>> {
    let (mut rest, _) = (char('['), white).parse(input)?;
    let mut strings = Vec::new();
    if let Ok((rest, _)) = close(rest) {
        return Ok((rest, strings));
    }
    loop {
        let (after, decoded) = string(rest)?;
        strings.push((decoded, &rest[..rest.len() - after.len()]));
        let (after, _) = white(after)?;
        if let Ok((rest, _)) = close(after) {
            return Ok((rest, strings));
        }
        (rest, _) = (expect("`,` or `]`", char(',')), white).parse(after)?;
    }
}

fn close(input: &str) -> Parse<'_, ()> {
    value((), (char(']'), white)).parse(input)
}

fn white(input: &str) -> Parse<'_, &str> {
    take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'))(input)
}

fn string(input: &str) -> Parse<'_, String> {
    let (rest, _) = expect("a string in double quotes", char('"')).parse(input)?;
    let (rest, decoded) = fold_many0(piece, String::new, |mut decoded, piece| {
        match piece {
            Piece::Plain(text) => decoded.push_str(text),
            Piece::Escaped(character) => decoded.push(character),
        }
        decoded
    })
    .parse(rest)?;
    let wanted = if rest.starts_with('\\') { "a JSON escape such as `\\\\`" } else { "the closing double quote" };
    let (rest, _) = expect(wanted, char('"')).parse(rest)?;
    Ok((rest, decoded))
}

#[derive(Clone)]
enum Piece<'a> {
    Plain(&'a str),
    Escaped(char),
}

fn piece(input: &str) -> Parse<'_, Piece<'_>> {
    let plain = take_while1(|c| c != '"' && c != '\\' && c >= ' ');
    alt((plain.map(Piece::Plain), preceded(char('\\'), alt((simple_escape, unicode_escape))).map(Piece::Escaped)))
        .parse(input)
}

fn simple_escape(input: &str) -> Parse<'_, char> {
    alt((
        char('"'),
        char('\\'),
        char('/'),
        value('\u{8}', char('b')),
        value('\u{c}', char('f')),
        value('\n', char('n')),
        value('\r', char('r')),
        value('\t', char('t')),
    ))
    .parse(input)
}

/// A `u` with four hexadecimal digits, or a surrogate pair of two such escapes; half a pair becomes U+FFFD as Go has it.
fn unicode_escape(input: &str) -> Parse<'_, char> {
    let (rest, unit) = preceded(char('u'), hexadecimal).parse(input)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return Ok((rest, char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
    let low = verify(preceded(tag("\\u"), hexadecimal), |low| (0xdc00..0xe000).contains(low));
    let (rest, low) = opt(low).parse(rest)?;
    let decoded = low.and_then(|low| char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
    Ok((rest, decoded.unwrap_or(char::REPLACEMENT_CHARACTER)))
}

fn hexadecimal(input: &str) -> Parse<'_, u32> {
    let (rest, digits) = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit())(input)?;
    match u32::from_str_radix(digits, 16) {
        Ok(number) => Ok((rest, number)),
        Err(_) => Err(Err::Error(Expected::from_error_kind(input, ErrorKind::HexDigit))),
    }
}

/// `parser`, whose failure says what was wanted.
fn expect<'a, T>(
    what: &'static str,
    mut parser: impl Parser<&'a str, Output = T, Error = Expected<'a>>,
) -> impl Parser<&'a str, Output = T, Error = Expected<'a>> {
    move |at: &'a str| parser.parse(at).map_err(|error| error.map(|_| Expected { at, what }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match read(text) {
            Form::Strings(strings) => Some(strings.into_iter().map(|(decoded, _)| decoded).collect()),
            _ => None,
        }
    }

    #[test]
    fn arrays_of_strings() {
        assert_eq!(strings("[]").unwrap(), [] as [&str; 0]);
        assert_eq!(strings(r#"[ "a" , "b\n\"\\\/" ] "#).unwrap(), ["a", "b\n\"\\/"]);
        assert_eq!(strings(r#"["\u00e9\ud83d\ude00\ud83dx"]"#).unwrap(), ["\u{e9}\u{1f600}\u{fffd}x"]);
    }

    #[test]
    fn a_slice_of_each_string_is_kept() {
        let Form::Strings(found) = read(r#"["a", "b c"]"#) else { panic!() };
        assert_eq!(found[1], ("b c".to_owned(), "\"b c\""));
    }

    #[test]
    fn valid_arrays_of_other_things_are_mixed() {
        assert_eq!(read(r#"["a", 1]"#), Form::Mixed("1]"));
        assert_eq!(read("[[1], null]"), Form::Mixed("[1], null]"));
    }

    #[test]
    fn the_furthest_problem_is_told() {
        let problem = |text| match read(text) {
            Form::Text(Some(expected)) => (text.len() - expected.at.len(), expected.what),
            other => panic!("{other:?}"),
        };
        assert_eq!(problem(r#"["a" "b"]"#), (5, "`,` or `]`"));
        assert_eq!(problem(r#"["a",]"#), (5, "a string in double quotes"));
        assert_eq!(problem("['a']"), (1, "a string in double quotes"));
        assert_eq!(problem(r#"["a"#), (3, "the closing double quote"));
        assert_eq!(problem(r#"["\d"]"#), (2, "a JSON escape such as `\\\\`"));
        assert_eq!(problem(r#"["a"] b"#), (6, "nothing behind the `]`"));
    }

    #[test]
    fn a_shell_test_is_plain_text() {
        for text in ["[ -f x ] && y", "[[ -f x ]]", "[ \"$A\" = \"b\" ]", "echo"] {
            assert_eq!(read(text), Form::Text(None), "{text}");
        }
    }
}
