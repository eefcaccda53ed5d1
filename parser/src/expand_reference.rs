//! A plain, slow reference for [`crate::expand`]; for its tests and its fuzz target.

/// `word` expanded, with `\\` as the escape character; `None` if it is wrong.
pub(crate) fn expanded_slowly(word: &str, variables: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let characters: Vec<char> = word.chars().collect();
    Slow { rest: &characters, variables }.word(None, false)
}

/// A reference that reads the word recursively and finds matches by trying everything.
struct Slow<'a> {
    rest: &'a [char],
    variables: &'a dyn Fn(&str) -> Option<String>,
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
            return Some(if name.is_empty() { "$".to_owned() } else { (self.variables)(&name).unwrap_or_default() });
        }
        self.rest = &self.rest[1..];
        if matches!(self.rest.first(), None | Some('{' | '}' | ':')) {
            return None;
        }
        let name = self.name();
        let found = (self.variables)(&name);
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
