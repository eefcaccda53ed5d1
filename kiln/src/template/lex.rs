//! From the text of a template to pieces of text and the words of actions.

use super::TemplateError;

/// A word of an action, or the text between actions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// What is printed as it stands.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `if`, `json`, `true`
    Word(String),
    /// `.Name`; whether it follows what stands before it without a gap.
    Field(String, bool),
    /// `.` alone
    Dot,
    /// `$` or `$name`, without the `$`
    Variable(String),
    /// A text in quotes.
    Quoted(String),
    /// A number.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`, after which a field may follow
    Right,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
}

/// A token and where it begins, in bytes.
pub(super) type Placed = (Token, usize);

/// Takes a whole template apart.
pub(super) fn tokens(template: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut lexer = Lexer { template, at: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    template: &'a str,
    at: usize,
    tokens: Vec<Placed>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.template.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, token: Token, length: usize) {
        self.tokens.push((token, self.at));
        self.at += length;
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(self.template, self.at, message)
    }

    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trims = false;
        loop {
            let rest = self.rest();
            let length = rest.find("{{").unwrap_or(rest.len());
            let (text, action) = rest.split_at(length);
            let is_trimmed = action.strip_prefix("{{-").is_some_and(|after| after.starts_with(is_space));
            let shown = if trims { text.trim_start_matches(is_space) } else { text };
            let shown = if is_trimmed { shown.trim_end_matches(is_space) } else { shown };
            if !shown.is_empty() {
                self.tokens.push((Token::Text(shown.to_owned()), self.at));
            }
            self.at += length;
            if action.is_empty() {
                return Ok(());
            }
            let opening = if is_trimmed { 3 } else { 2 };
            trims = match self.comment(opening)? {
                Some(trims) => trims,
                None => {
                    self.push(Token::Open, opening);
                    self.action()?
                }
            };
        }
    }

    /// Passes over a comment; yields whether white space after it goes, too.
    fn comment(&mut self, opening: usize) -> Result<Option<bool>, TemplateError> {
        let inside = self.rest().get(opening..).unwrap_or_default();
        let body = if opening == 3 { inside.trim_start_matches(is_space) } else { inside };
        let Some(comment) = body.strip_prefix("/*") else { return Ok(None) };
        let end = comment.find("*/").ok_or_else(|| self.error("the comment is not closed"))?;
        let after = comment.get(end + 2..).unwrap_or_default();
        let (trims, closing) = match after.strip_prefix("}}") {
            Some(closing) => (false, closing),
            None => {
                let trimmed = after.starts_with(is_space).then(|| after.trim_start_matches(is_space));
                let closing = trimmed.and_then(|after| after.strip_prefix("-}}"));
                (true, closing.ok_or_else(|| self.error("a comment ends with `*/}}`"))?)
            }
        };
        self.at = self.template.len() - closing.len();
        Ok(Some(trims))
    }

    /// The words up to the end of the action; yields whether white space after it goes, too.
    fn action(&mut self) -> Result<bool, TemplateError> {
        loop {
            let before = self.at;
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
            let has_gap = self.at > before;
            let rest = self.rest();
            if has_gap && rest.starts_with("-}}") {
                self.at += 1;
                self.push(Token::Close, 2);
                return Ok(true);
            }
            if rest.starts_with("}}") {
                self.push(Token::Close, 2);
                return Ok(false);
            }
            self.word(has_gap)?;
        }
    }

    fn word(&mut self, has_gap: bool) -> Result<(), TemplateError> {
        let rest = self.rest();
        let mut letters = rest.chars();
        let first = letters.next().ok_or_else(|| self.error("the action is not closed: `}}` is missing"))?;
        let second = letters.next();
        match first {
            '|' => self.push(Token::Pipe, 1),
            '(' => self.push(Token::Left, 1),
            ')' => self.push(Token::Right, 1),
            ',' => self.push(Token::Comma, 1),
            ':' if second == Some('=') => self.push(Token::Declare, 2),
            '=' => self.push(Token::Assign, 1),
            '"' | '`' => return self.quoted(first),
            '\'' => return self.character(),
            '.' if second.is_some_and(is_letter) => {
                let name = name(&rest[1..]);
                self.push(Token::Field(name.to_owned(), !has_gap), 1 + name.len());
            }
            '.' if !second.is_some_and(|second| second.is_ascii_digit()) => self.push(Token::Dot, 1),
            '$' => {
                let name = name(&rest[1..]);
                self.push(Token::Variable(name.to_owned()), 1 + name.len());
            }
            '0'..='9' | '.' | '+' | '-' => return self.number(),
            letter if is_letter(letter) => {
                let name = name(rest);
                self.push(Token::Word(name.to_owned()), name.len());
            }
            other => return Err(self.error(format!("`{}` means nothing here", other.escape_debug()))),
        }
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<(), TemplateError> {
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((offset, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.push(Token::Quoted(text), offset + 1);
                    return Ok(());
                }
                '\n' if quote == '"' => break,
                '\\' if quote == '"' => text.push(self.escaped(&mut letters)?),
                letter => text.push(letter),
            }
        }
        Err(self.error("the text in quotes is not closed"))
    }

    /// A letter in single quotes is its number, as in Go.
    fn character(&mut self) -> Result<(), TemplateError> {
        let mut letters = self.rest().char_indices().skip(1);
        let letter = match letters.next() {
            Some((_, '\\')) => Some(self.escaped(&mut letters)?),
            Some((_, letter)) if letter != '\'' => Some(letter),
            _ => None,
        };
        match (letter, letters.next()) {
            (Some(letter), Some((offset, '\''))) => {
                self.push(Token::Number(u32::from(letter).into()), offset + 1);
                Ok(())
            }
            _ => Err(self.error("single quotes are for one letter: texts stand in double quotes or backticks")),
        }
    }

    /// What stands behind a backslash.
    fn escaped(&self, letters: &mut dyn Iterator<Item = (usize, char)>) -> Result<char, TemplateError> {
        let digits = match letters.next().map(|(_, letter)| letter) {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some(letter @ ('\\' | '"' | '\'')) => return Ok(letter),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err(self.error("a text in quotes has an escape that is not known")),
        };
        let text: String = letters.take(digits).map(|(_, letter)| letter).collect();
        let code = u32::from_str_radix(&text, 16).ok().filter(|_| text.chars().all(|digit| digit.is_ascii_hexdigit()));
        code.and_then(char::from_u32)
            .ok_or_else(|| self.error(format!("`{}` is no code of a letter", text.escape_debug())))
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        let is_part = |(index, letter): &(usize, char)| match letter {
            '+' | '-' => *index == 0 || rest[..*index].ends_with(['e', 'E']),
            letter => letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_'),
        };
        let text: String = rest.char_indices().take_while(is_part).map(|(_, letter)| letter).collect();
        let digits = text.replace('_', "");
        let signless = digits.trim_start_matches(['+', '-']);
        let hexadecimal = signless.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
        let whole = hexadecimal.map(|value| if digits.starts_with('-') { -value } else { value });
        let whole = whole.or_else(|| digits.parse::<i64>().ok());
        let number = match whole {
            Some(whole) => Some(whole.into()),
            None => digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64),
        };
        let number = number.ok_or_else(|| self.error(format!("`{text}` is no number")))?;
        self.push(Token::Number(number), text.len());
        Ok(())
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_letter(letter: char) -> bool {
    letter.is_alphabetic() || letter == '_'
}

/// The name that a text begins with.
fn name(text: &str) -> &str {
    let end = text.find(|letter: char| !is_letter(letter) && !letter.is_numeric());
    &text[..end.unwrap_or(text.len())]
}
