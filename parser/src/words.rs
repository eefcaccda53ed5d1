//! How an instruction's text falls apart into words. Every parser hands out slices of its input, so that a slice
//! tells where it stands.

use nom::branch::alt;
use nom::bytes::complete::{take_till, take_till1, take_while, take_while1};
use nom::character::complete::{anychar, char};
use nom::combinator::{opt, recognize};
use nom::multi::{many0_count, many1_count};
use nom::{IResult, Parser};

/// White space between words for Docker: not all that Unicode has, and no line end, since lines are joined.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// The first word and the rest, the white space between them dropped.
pub(crate) fn split_first(text: &str) -> (&str, &str) {
    let end = text.find(is_blank).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start_matches(is_blank))
}

/// Words between white space, quotes or not.
pub(crate) fn blank_words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Ok((next, word)) = blank_word(rest) {
        words.push(word);
        rest = next;
    }
    words
}

fn blank_word(input: &str) -> IResult<&str, &str> {
    let (input, _) = take_while(is_blank)(input)?;
    take_till1(is_blank)(input)
}

/// Words between white space that is neither quoted nor escaped; quotes and escapes stay in them.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Ok((next, word)) = quoted_word(rest, escape) {
        words.push(word);
        rest = next.trim_start();
    }
    // An escape character at the very end escapes nothing and does not count.
    if let Some(last) = words.pop() {
        let kept = without_lone_escape(last, escape);
        words.extend((!kept.is_empty()).then_some(kept));
    }
    words
}

/// One such word, at the very start of the input.
pub(crate) fn quoted_word(input: &str, escape: char) -> IResult<&str, &str> {
    let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '"' && c != escape;
    recognize(many1_count(alt((
        take_while1(plain),
        |input| escaped(input, escape),
        single_quoted,
        |input| double_quoted(input, escape),
    ))))
    .parse(input)
}

fn escaped(input: &str, escape: char) -> IResult<&str, &str> {
    recognize((char(escape), opt(anychar))).parse(input)
}

fn single_quoted(input: &str) -> IResult<&str, &str> {
    recognize((char('\''), take_till(|c| c == '\''), opt(char('\'')))).parse(input)
}

fn double_quoted(input: &str, escape: char) -> IResult<&str, &str> {
    let inner = alt((take_while1(|c| c != '"' && c != escape), |input| escaped(input, escape)));
    recognize((char('"'), many0_count(inner), opt(char('"')))).parse(input)
}

fn without_lone_escape(word: &str, escape: char) -> &str {
    let mut quote = None;
    let mut characters = word.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == escape && quote != Some('\'') {
            if characters.next().is_none() {
                return &word[..at];
            }
            continue;
        }
        match quote {
            Some(open) if open == character => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            _ => {}
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        let cases: [(&str, &[&str]); 9] = [
            ("a b\tc", &["a", "b", "c"]),
            (r#"a="b c" d='e "f'"#, &[r#"a="b c""#, r#"d='e "f'"#]),
            (r#"a=b\ c "x\" y" z"#, &[r"a=b\ c", r#""x\" y""#, "z"]),
            (r"'a\' b", &[r"'a\'", "b"]),
            (r#"a="open b"#, &[r#"a="open b"#]),
            (r"a \", &["a"]),
            (r"a b\", &["a", "b"]),
            (r"a b\\", &["a", r"b\\"]),
            (r#""" ''"#, &[r#""""#, "''"]),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted_words(text, '\\'), expected, "{text}");
        }
        assert_eq!(quoted_words("a`  b \\ c", '`'), ["a` ", "b", "\\", "c"]);
    }

    #[test]
    fn blanks() {
        assert_eq!(blank_words("  a \"b c\"\t\td "), ["a", "\"b", "c\"", "d"]);
        assert_eq!(split_first("RUN\t  a b"), ("RUN", "a b"));
        assert_eq!(split_first("RUN"), ("RUN", ""));
    }
}
