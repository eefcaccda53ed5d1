//! The parser directives: `# name=value` lines before anything else.
//!
//! `syntax` is also found where the text is no Dockerfile, as `// syntax=image` or `{"syntax": "image"}`: a file
//! for another frontend may look like anything. Behind a `#!` line there are directives, too, but for `escape`.

use nom::bytes::complete::tag;
use nom::character::complete::{alphanumeric0, char, satisfy};
use nom::combinator::{recognize, rest};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use crate::lines::{Lines, PhysicalLine};
use crate::{Diagnostic, Directives, Span, Word};

/// Reads the directives at the top and leaves `lines` at the first line that is none.
pub(crate) fn parse(lines: &mut Lines<'_>, diagnostics: &mut Vec<Diagnostic>) -> Directives {
    let text = lines.rest();
    let has_shebang = text.starts_with("#!");
    if has_shebang {
        lines.next_physical();
    }
    let mut reader = Reader { directives: Directives::default(), escape: None, has_shebang, diagnostics };
    let body = lines.rest();
    while let Some(line) = lines.peek_physical() {
        let Ok((_, (name, value))) = directive(line.text) else { break };
        if !reader.take(&name.to_ascii_lowercase(), word(line, value)) {
            break;
        }
        lines.next_physical();
    }
    let mut directives = reader.directives;
    if directives.syntax.is_none() {
        directives.syntax = in_slashes(lines, body).or_else(|| in_json(lines, body));
    }
    directives
}

/// `// syntax=image` in the lines at the top.
fn in_slashes(lines: &Lines<'_>, body: &str) -> Option<Word> {
    let mut commented = body.split('\n').map_while(|line| line.strip_prefix("//"));
    let found = commented.by_ref().map_while(|line| named_value(line.trim_start()).ok());
    let mut known = found.map(|(_, pair)| pair).take_while(|(name, _)| is_known(name));
    let (_, value) = known.find(|(name, _)| name.eq_ignore_ascii_case("syntax"))?;
    Some(lines.word(value.trim()))
}

/// `{"syntax": "image", …}` as the whole text.
fn in_json(lines: &Lines<'_>, body: &str) -> Option<Word> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body.trim()).ok()?;
    let syntax = object.get("syntax")?.as_str()?;
    // Where it was written; the escapes of JSON may hide it.
    let place = body.find(syntax).and_then(|at| body.get(at..at + syntax.len())).unwrap_or(body.trim());
    Some(Word::new(syntax.to_owned(), lines.word(place).span))
}

fn is_known(name: &str) -> bool {
    ["syntax", "check", "escape"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

struct Reader<'d> {
    directives: Directives,
    escape: Option<Word>,
    /// Docker does not look for `escape` then.
    has_shebang: bool,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Whether there is a directive of this name. An unknown one is a comment, and ends them all.
    fn take(&mut self, name: &str, value: Word) -> bool {
        let slot = match name {
            "syntax" => &mut self.directives.syntax,
            "check" => &mut self.directives.check,
            "escape" => &mut self.escape,
            _ => return false,
        };
        if slot.is_some() {
            let message = format!("the directive `{name}` stands here a second time");
            self.diagnostics.push(Diagnostic::error(message).at(value.span).code("duplicate-directive"));
            return true;
        }
        *slot = Some(value.clone());
        if name == "escape" && !self.has_shebang {
            self.set_escape(&value);
        }
        true
    }

    fn set_escape(&mut self, value: &Word) {
        match value.value.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => self.diagnostics.push(
                Diagnostic::error(format!("`{other}` cannot be the escape character"))
                    .at(value.span)
                    .label("expected `\\` or `` ` ``")
                    .code("invalid-escape"),
            ),
        }
    }
}

fn word(line: PhysicalLine<'_>, value: &str) -> Word {
    let start = line.start + (value.as_ptr() as usize - line.text.as_ptr() as usize);
    Word::new(value.to_owned(), Span::new(start, start + value.len()))
}

fn directive(line: &str) -> IResult<&str, (&str, &str)> {
    preceded((white, tag("#"), white), named_value).parse(line)
}

/// `name=value`
fn named_value(text: &str) -> IResult<&str, (&str, &str)> {
    let name = recognize((satisfy(|c| c.is_ascii_alphabetic()), alphanumeric0));
    let (rest, (name, value)) = separated_pair(name, (white, char('=')), rest).parse(text)?;
    let value = value.trim();
    if value.is_empty() {
        return Err(nom::Err::Error(nom::error::Error::new(text, nom::error::ErrorKind::NonEmpty)));
    }
    Ok((rest, (name, value)))
}

fn white(input: &str) -> IResult<&str, &str> {
    nom::bytes::complete::take_while(char::is_whitespace)(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Directives, Vec<Diagnostic>, Option<&str>) {
        let mut lines = Lines::new(text);
        let mut diagnostics = Vec::new();
        let directives = parse(&mut lines, &mut diagnostics);
        (directives, diagnostics, lines.peek_physical().map(|line| line.text))
    }

    #[test]
    fn reads_all_three_in_any_case_and_spacing() {
        let text = "\u{feff}# Syntax = docker/dockerfile:1 \r\n#escape=`\n#  check=skip=all\nFROM x";
        let (directives, diagnostics, next) = read(text);
        let syntax = directives.syntax.unwrap();
        assert_eq!((syntax.value.as_str(), &text[syntax.span.range()]), ("docker/dockerfile:1", "docker/dockerfile:1"));
        assert_eq!(directives.escape, '`');
        assert_eq!(directives.check.unwrap().value, "skip=all");
        assert_eq!((diagnostics.len(), next), (0, Some("FROM x")));
    }

    #[test]
    fn a_comment_an_unknown_name_or_an_empty_line_ends_them() {
        for text in ["# hello\n# escape=`\n", "# other=1\n# escape=`\n", "\n# escape=`\n", "# escape=\n# escape=`\n"] {
            assert_eq!(read(text).0.escape, '\\', "{text:?}");
        }
    }

    #[test]
    fn a_shebang_may_come_first() {
        let (directives, _, next) = read("#!/usr/bin/env x\n# syntax=a\n# escape=`\n# check=skip=all\nFROM x");
        assert_eq!(directives.syntax.unwrap().value, "a");
        assert_eq!((directives.escape, next), ('\\', Some("FROM x")));
        assert!(directives.check.is_some());
    }

    #[test]
    fn syntax_is_found_in_other_languages() {
        let cases = [
            ("// syntax = a/b:1\nx", Some("a/b:1")),
            ("//syntax=a", Some("a")),
            ("// check=x\n// syntax=a\r\n", Some("a")),
            ("#!x\n//syntax=a", Some("a")),
            ("// hello\n// syntax=a", None),
            ("FROM x\n// syntax=a", None),
            ("{ \"syntax\": \"a\", \"x\": [1] }", Some("a")),
            ("{ \"syntax\": \"\\u0061\" }", Some("a")),
            ("{ \"syntax\": 1 }", None),
            ("{ \"syntax\": \"a\" } x", None),
        ];
        for (text, expected) in cases {
            let (directives, _, next) = read(text);
            assert_eq!(directives.syntax.map(|word| word.value).as_deref(), expected, "{text}");
            assert!(next.is_some(), "{text}");
        }
    }

    #[test]
    fn a_second_one_and_a_wrong_escape_are_errors() {
        assert_eq!(read("# escape=`\n# escape=\\\n").1[0].code, Some("duplicate-directive"));
        assert_eq!(read("# escape=x\n").1[0].code, Some("invalid-escape"));
    }
}
