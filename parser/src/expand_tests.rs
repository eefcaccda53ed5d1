//! Tests of [`crate::expand`]: tables, and properties against a plain, recursive reference.

use proptest::prelude::*;

use super::*;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "KOREAN" => "한국어",
        "NULL" => "",
        "LIST" => "a b  c",
        "FOO" => "xxyy",
        "STARS" => "a***yy*",
        "PATHS" => "/tmp/tmp/bar.txt",
        "NEEDLE" => "/tmp",
        "LINES" => "a\nb",
        _ => return None,
    };
    Some(value.to_owned())
}

fn value(word: &str) -> Result<String, ExpandError> {
    expand(word, '\\', &variables).map(|expanded| expanded.value)
}

#[test]
fn values() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"he\\'llo'", r"he\llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hello""#, "hello"),
        (r#""hel'lo""#, "hel'lo"),
        (r#""he\"llo""#, "he\"llo"),
        (r#""he\$PWD""#, "he$PWD"),
        (r#""$PWD""#, "/home"),
        ("'$PWD'", "$PWD"),
        (r"\$PWD", "$PWD"),
        ("a$PWD.b", "a/home.b"),
        ("he$PWDx", "he"),
        ("he${PWD}x", "he/homex"),
        ("한글", "한글"),
        ("\"한글 $KOREAN\"", "한글 한국어"),
        ("$", "$"),
        ("a$,", "a$,"),
        ("$1x", "x"),
        ("${1}", ""),
        ("$$a", "a"),
        ("$½", "$½"),
        ("${NULL:-x}${NULL-x}${UNSET:-y}${UNSET-z}", "xyz"),
        ("${PWD:+x}${NULL:+x}${NULL+y}${UNSET:+z}${UNSET+z}", "xy"),
        ("${PWD:?no}${PWD?no}${NULL?no}", "/home/home"),
        ("${UNSET:-${UNSET:-$PWD}}", "/home"),
        ("${UNSET:-\"a } b\"}c", "a } bc"),
        ("\"${UNSET:-'x'}\"", "x"),
        (r"${UNSET:-\}}", "}"),
        ("${FOO#x}|${FOO##x}|${FOO#*x}|${FOO##*x}", "xyy|xyy|xyy|yy"),
        ("${FOO%y}|${FOO%%y*}|${FOO%y*}|${FOO%%?}", "xxy|xx|xxy|xxy"),
        ("${FOO#}${FOO##}${FOO%}", "xxyyxxyyxxyy"),
        ("${FOO#*}|${FOO##*}|${FOO%%*}", "xxyy||"),
        (r"${STARS%%\**\*}|${STARS#?\*}", "a|**yy*"),
        ("${PATHS/$NEEDLE/} - ${PATHS//$NEEDLE/}", "/tmp/bar.txt - /bar.txt"),
        (r"${PATHS//\//\/}", r"\/tmp\/tmp\/bar.txt"),
        ("${FOO/x/1}|${FOO//x/1}|${FOO//x*y/1}|${FOO//z/1}", "1xyy|11yy|1|xxyy"),
        ("${FOO/$NULL/w}|${FOO//$NULL/w}", "wxxyy|wxwxwywyw"),
        ("${FOO///}", "xxyy"),
        ("${UNSET#x}${UNSET/x/y}", ""),
        ("${LINES#*}|${LINES##*}", "a\nb|\nb"),
    ];
    for (word, expected) in cases {
        assert_eq!(value(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn errors() {
    let cases = [
        ("'abc", "the quote `'` is not closed"),
        ("\"abc", "the quote `\"` is not closed"),
        ("${", "`${` is not closed: `}` is missing"),
        ("${PWD", "`${PWD` is not closed: `}` is missing"),
        ("${PWD:-a", "`${PWD` is not closed: `}` is missing"),
        ("${}", "`${` needs the name of a variable behind it"),
        ("${:x}", "`${` needs the name of a variable behind it"),
        ("${PWD=x}", "`=` in `${PWD=…}` is not supported"),
        ("${PWD:=x}", "`:=` in `${PWD:=…}` is not supported"),
        ("${FOO//ww}", "`${FOO/…}` needs a second `/` before the replacement"),
        ("${FOO/w/x", "`${FOO` is not closed: `}` is missing"),
        (
            r"${FOO#\x}",
            r"the pattern `\x` of `FOO` is not valid: only `*`, `?`, `\`, `}` and `/` can stand behind a `\`",
        ),
        ("${UNSET:?give it}", "`UNSET`: give it"),
        ("${UNSET?}", "`UNSET`: is not allowed to be unset"),
        ("${NULL:?$PWD}", "`NULL`: /home"),
    ];
    for (word, expected) in cases {
        assert_eq!(value(word).map_err(|error| error.to_string()), Err(expected.to_owned()), "{word}");
    }
}

#[test]
fn words() {
    let cases: [(&str, &[&str]); 9] = [
        ("hello", &["hello"]),
        ("hello world ", &["hello", "world"]),
        ("\"hello world\" x", &["hello world", "x"]),
        (r"hello\ world", &["hello world"]),
        ("$LIST", &["a", "b", "c"]),
        ("\"$LIST\" x$LIST'y z'", &["a b  c", "xa", "b", "cy z"]),
        ("${UNSET:-a b}", &["a", "b"]),
        ("$UNSET \"\"", &[]),
        ("$LINES", &["a", "b"]),
    ];
    for (word, expected) in cases {
        assert_eq!(expand_words(word, '\\', &variables).unwrap().words, expected, "{word}");
    }
}

#[test]
fn undefined_variables_are_told_once_and_not_where_a_default_is_given() {
    let expanded = expand("$B${A}$B${C:-x}${D+x}${E#x}$PWD", '\\', &variables).unwrap();
    assert_eq!(expanded.undefined, ["B", "A", "E"]);
}

#[test]
fn another_escape_character() {
    assert_eq!(expand(r"C:\x`$PWD", '`', &variables).unwrap().value, r"C:\x$PWD");
    assert_eq!(expand("\"`\"\"", '`', &variables).unwrap().value, "\"");
}

#[test]
fn heredocs_keep_their_quotes() {
    let text = "\"$PWD\" '${SHELL}'\nit's \\$PWD \\\\ \\\n";
    assert_eq!(expand_heredoc(text, &variables).unwrap().value, "\"/home\" 'bash'\nit's $PWD \\ \n");
}

#[test]
fn deep_nesting_and_exponential_growth_do_no_harm() {
    let deep = format!("{}x{}", "${U:-".repeat(50_000), "}".repeat(50_000));
    assert_eq!(value(&deep).as_deref(), Ok("x"));
    let bomb = format!("{}x{}", "${FOO//?/".repeat(60), "}".repeat(60));
    assert!(matches!(value(&bomb), Err(ExpandError::TooLong { .. })));
}

/// A reference that reads the word recursively and finds matches by trying everything.
struct Slow<'a> {
    rest: &'a [char],
}

impl Slow<'_> {
    fn word(&mut self, stop: Option<char>, raw: bool) -> Option<String> {
        let mut out = String::new();
        while let Some((first, rest)) = self.rest.split_first() {
            if Some(*first) == stop {
                self.rest = rest;
                return Some(out);
            }
            match first {
                '$' => out += &self.dollar()?,
                '\'' => {
                    let end = rest.iter().position(|c| *c == '\'')?;
                    out.extend(&rest[..end]);
                    self.rest = &rest[end + 1..];
                }
                '"' => {
                    self.rest = rest;
                    out += &self.quote(raw)?;
                }
                '\\' => {
                    out.extend(raw.then_some('\\'));
                    out.extend(rest.first());
                    self.rest = rest.get(1..).unwrap_or_default();
                }
                other => {
                    out.push(*other);
                    self.rest = rest;
                }
            }
        }
        stop.is_none().then_some(out)
    }

    fn quote(&mut self, raw: bool) -> Option<String> {
        let mut out = String::new();
        loop {
            let (first, rest) = self.rest.split_first()?;
            match (first, rest.first()) {
                ('"', _) => {
                    self.rest = rest;
                    return Some(out);
                }
                ('$', _) => out += &self.dollar()?,
                ('\\', next) => {
                    out.extend(raw.then_some('\\'));
                    self.rest = rest;
                    if let Some(next @ ('"' | '$' | '\\')) = next {
                        out.push(*next);
                        self.rest = &rest[1..];
                    } else if next.is_some() {
                        out.push('\\');
                    }
                }
                (other, _) => {
                    out.push(*other);
                    self.rest = rest;
                }
            }
        }
    }

    fn dollar(&mut self) -> Option<String> {
        self.rest = &self.rest[1..];
        if self.rest.first() != Some(&'{') {
            let name = self.name();
            return Some(if name.is_empty() { "$".to_owned() } else { variables(&name).unwrap_or_default() });
        }
        self.rest = &self.rest[1..];
        if matches!(self.rest.first(), None | Some('{' | '}' | ':')) {
            return None;
        }
        let name = self.name();
        let found = variables(&name);
        let value = found.clone().unwrap_or_default();
        let mut operator = self.next()?;
        let colon = operator == ':';
        match operator {
            '}' => return Some(value),
            ':' => operator = self.next()?,
            '/' => return self.substitution(&value),
            '+' | '-' | '?' | '#' | '%' => {}
            _ => return None,
        }
        let word = self.word(Some('}'), matches!(operator, '#' | '%'))?;
        let usable = found.is_some() && !(colon && value.is_empty());
        match operator {
            '-' => Some(if usable { value } else { word }),
            '+' => Some(if usable { word } else { String::new() }),
            '?' => usable.then_some(value),
            '#' | '%' => trimmed(&value, operator, &word),
            _ => None,
        }
    }

    fn substitution(&mut self, value: &str) -> Option<String> {
        let all = self.rest.first() == Some(&'/');
        if all {
            self.next();
        }
        let needle = tokens(&self.word(Some('/'), true)?)?;
        let replacement = self.word(Some('}'), true)?;
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut at, mut behind_match) = (0, false);
        loop {
            let end = (at..=value.len()).rev().find(|end| fits(&needle, &value[at..*end]));
            match end {
                Some(end) if end > at || !behind_match => {
                    out += &replacement;
                    if !all {
                        out.extend(&value[end..]);
                        return Some(out);
                    }
                    if end > at {
                        (at, behind_match) = (end, true);
                        continue;
                    }
                }
                _ => {}
            }
            let Some(character) = value.get(at) else { return Some(out) };
            out.push(*character);
            (at, behind_match) = (at + 1, false);
        }
    }

    fn name(&mut self) -> String {
        let special = |c: &char| "@*#?-$!".contains(*c);
        let length = match self.rest.first() {
            Some(c) if special(c) => 1,
            Some(c) if c.is_ascii_digit() => self.rest.iter().take_while(|c| c.is_ascii_digit()).count(),
            _ => self.rest.iter().take_while(|c| c.is_alphabetic() || c.is_ascii_digit() || **c == '_').count(),
        };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name.iter().collect()
    }

    fn next(&mut self) -> Option<char> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

fn trimmed(value: &str, operator: char, word: &str) -> Option<String> {
    let (word, longest) = word.strip_prefix(operator).map_or((word, false), |word| (word, true));
    let pattern = tokens(word)?;
    let value: Vec<char> = value.chars().collect();
    let mut lengths: Vec<usize> = (0..=value.len()).collect();
    if longest {
        lengths.reverse();
    }
    let cut = |length: &usize| {
        if operator == '#' { value.split_at(*length) } else { value.split_at(value.len() - length) }
    };
    let piece = |length: &usize| if operator == '#' { cut(length).0 } else { cut(length).1 };
    let kept = |length: &usize| if operator == '#' { cut(length).1 } else { cut(length).0 };
    let found = lengths.iter().find(|length| fits(&pattern, piece(length)));
    Some(found.map_or(&value[..], kept).iter().collect())
}

/// The pattern as characters, `None` where it is a wildcard, with the wildcard beside it.
fn tokens(pattern: &str) -> Option<Vec<(char, bool)>> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '\\' => (characters.next().filter(|c| "*?\\}/".contains(*c))?, false),
            other => (other, matches!(other, '*' | '?')),
        });
    }
    Some(tokens)
}

fn fits(pattern: &[(char, bool)], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [('*', true), rest @ ..] => {
            fits(rest, text) || text.first().is_some_and(|c| *c != '\n') && fits(pattern, &text[1..])
        }
        [('?', true), rest @ ..] => text.first().is_some_and(|c| *c != '\n') && fits(rest, &text[1..]),
        [(literal, _), rest @ ..] => text.first() == Some(literal) && fits(rest, &text[1..]),
    }
}

fn word() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ax${}:'\"\\\\/*?#%+-]",
        1 => Just("$FOO".to_owned()),
        1 => Just("${STARS".to_owned()),
        1 => Just("${PATHS/".to_owned()),
        1 => Just("${NULL:-".to_owned()),
        1 => Just("${UNSET-".to_owned()),
        1 => Just("${FOO##".to_owned()),
        1 => Just("${LINES%".to_owned()),
        2 => Just("}".to_owned()),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_reference(word in word()) {
        let characters: Vec<char> = word.chars().collect();
        let expected = Slow { rest: &characters }.word(None, false);
        prop_assert_eq!(value(&word).ok(), expected, "{}", word);
    }

    #[test]
    fn words_are_the_value_without_white_space(word in word()) {
        if let (Ok(value), Ok(words)) = (value(&word), expand_words(&word, '\\', &variables)) {
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&words.words.concat()), squeezed(&value));
        }
    }

    #[test]
    fn any_text_will_do(word in "\\PC{0,60}") {
        let _ = value(&word);
        let _ = expand_words(&word, '`', &variables);
        let _ = expand_heredoc(&word, &variables);
    }
}
