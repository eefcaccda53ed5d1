//! Heredocs: `<<NAME` words and what their names mean. The bodies are taken off by [`crate::lines`].

/// What a heredoc word says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The name, without quotes.
    pub(crate) name: String,
    /// Whether no part of the name was quoted.
    pub(crate) expand: bool,
    /// Whether it was written `<<-`.
    pub(crate) chomp: bool,
}

/// Whether this is one heredoc word and nothing else, such as `<<EOF` or `3<<-'EOF'`.
pub(crate) fn is_heredoc(word: &str) -> bool {
    opening(word).is_some()
}

/// Reads one heredoc word: digits, `<<`, a dash, white space, a name.
pub(crate) fn opening(word: &str) -> Option<Opening> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let written = rest.trim_start();
    if written.is_empty() || written.contains('<') {
        return None;
    }
    let (name, quoted) = unquote(written)?;
    (!name.is_empty()).then_some(Opening { name, expand: !quoted, chomp })
}

/// The name without quotes and escapes, and whether there were quotes. `None` if it is not one word or a quote is
/// not closed.
fn unquote(written: &str) -> Option<(String, bool)> {
    let mut name = String::with_capacity(written.len());
    let mut quoted = false;
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' => {
                quoted = true;
                loop {
                    match characters.next()? {
                        end if end == character => break,
                        '\\' if character == '"' => name.push(characters.next()?),
                        other => name.push(other),
                    }
                }
            }
            '\\' => name.extend(characters.next()),
            space if space.is_whitespace() => return None,
            other => name.push(other),
        }
    }
    Some((name, quoted))
}

/// The heredoc words of a line with where each begins and ends. As in a shell, there are none inside quotes; as
/// in Docker, there are none at all in a line with an open quote.
pub(crate) fn openings(line: &str) -> Vec<(Opening, usize, usize)> {
    let mut found = Vec::new();
    let mut scanner = Scanner { line, position: 0 };
    loop {
        match scanner.next_word() {
            Ok(Some((start, end))) => {
                found.extend(opening(&line[start..end]).map(|opening| (opening, start, end)));
            }
            Ok(None) => return found,
            Err(OpenQuote) => return Vec::new(),
        }
    }
}

struct OpenQuote;

/// Splits a line as a shell does, quotes and escapes kept, but white space behind `<<` is part of the word.
struct Scanner<'a> {
    line: &'a str,
    position: usize,
}

impl Scanner<'_> {
    fn next_word(&mut self) -> Result<Option<(usize, usize)>, OpenQuote> {
        self.skip_white();
        let start = self.position;
        while let Some(character) = self.peek() {
            match character {
                space if space.is_whitespace() => break,
                '\'' | '"' => self.skip_quoted(character)?,
                '\\' => {
                    self.advance();
                    self.advance();
                }
                '<' if self.line[self.position..].starts_with("<<") => {
                    self.position += "<<".len();
                    let dash = self.line[self.position..].starts_with('-');
                    self.position += usize::from(dash);
                    self.skip_white();
                }
                _ => self.advance(),
            }
        }
        Ok((self.position > start).then_some((start, self.position)))
    }

    fn skip_quoted(&mut self, quote: char) -> Result<(), OpenQuote> {
        self.advance();
        loop {
            let character = self.peek().ok_or(OpenQuote)?;
            self.advance();
            match character {
                end if end == quote => return Ok(()),
                '\\' if quote == '"' => self.advance(),
                _ => {}
            }
        }
    }

    fn skip_white(&mut self) {
        let rest = &self.line[self.position..];
        self.position += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.line[self.position..].chars().next()
    }

    fn advance(&mut self) {
        self.position += self.peek().map_or(0, char::len_utf8);
    }
}

/// `content` without the tabs that its lines begin with.
pub(crate) fn without_leading_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_quotes() {
        type Found = Option<(&'static str, bool, bool)>;
        let cases: [(&str, Found); 18] = [
            ("<<EOF", Some(("EOF", true, false))),
            ("3<<EOF", Some(("EOF", true, false))),
            ("<<-EOF", Some(("EOF", true, true))),
            ("<<'EOF'", Some(("EOF", false, false))),
            ("<<-\"EOF\"", Some(("EOF", false, true))),
            ("<<EO\"F\"", Some(("EOF", false, false))),
            ("<< EOF", Some(("EOF", true, false))),
            ("<<- EOF", Some(("EOF", true, true))),
            ("<<eo\\'f", Some(("eo'f", true, false))),
            ("<<'e'o\\'f", Some(("eo'f", false, false))),
            ("<<'one two'", Some(("one two", false, false))),
            ("<<$EOF", Some(("$EOF", true, false))),
            ("<<", None),
            ("<<-", None),
            ("<EOF", None),
            ("<<<EOF", None),
            ("<<'EOF", None),
            ("<<EOF sh", None),
        ];
        for (word, expected) in cases {
            let found = opening(word);
            let found = found.as_ref().map(|o| (o.name.as_str(), o.expand, o.chomp));
            assert_eq!(found, expected, "{word}");
        }
    }

    #[test]
    fn openings_of_a_line() {
        let names = |line| openings(line).into_iter().map(|o| o.0.name).collect::<Vec<_>>();
        assert_eq!(names("RUN <<A <<B cat"), ["A", "B"]);
        assert_eq!(names("RUN <<  EOF  > foo"), ["EOF"]);
        assert_eq!(names("RUN << -EOF"), ["-EOF"]);
        assert_eq!(names("RUN \"<<A\" '<<B' \\<<C x<<D"), [] as [&str; 0]);
        assert_eq!(names("RUN it's <<A"), [] as [&str; 0]);
        assert_eq!(names("RUN cat <<A>x"), ["A>x"]);
    }

    #[test]
    fn chomping() {
        assert_eq!(without_leading_tabs("\ta\n\t\tb\n\n c\t\n"), "a\nb\n\n c\t\n");
    }
}
