//! The expansion itself. `${…}` nests without limit, so what is open lies on a stack of our own.

use std::collections::HashSet;
use std::iter::Peekable;
use std::str::Chars;

use super::ExpandError;
use super::shell_pattern::{ShellPattern, Side};

/// Whether quotes mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They do.
    Quotes,
    /// They are characters like any other.
    NoQuotes,
}

/// No expansion gets longer than this. `${x//a/${x//a/…}}` grows exponentially, and Linux takes no longer variable
/// than 128 KiB anyway; the contents of a heredoc may be larger.
const LONGEST: usize = 16 << 20;

/// What comes out.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) value: String,
    pub(super) words: Vec<String>,
    pub(super) undefined: Vec<String>,
}

/// Reads a word once, front to back.
pub(super) struct Machine<'a> {
    input: Peekable<Chars<'a>>,
    escape: char,
    mode: Mode,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// What is open, outermost first.
    open: Vec<Frame>,
    /// What has been expanded so far, that of everything open included.
    text: String,
    words: Words,
    undefined: Vec<String>,
    noted: HashSet<String>,
}

/// Something open.
#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    /// Where its own text begins.
    start: usize,
    /// Whether escape characters stay: in patterns they still have something to say.
    keeps_escapes: bool,
}

#[derive(Debug)]
enum FrameKind {
    /// A double quote.
    Quote,
    /// `${name` with an operator of one character, up to `}`.
    Operator { name: String, operator: Operator },
    /// `${name/`, up to the next `/`.
    Needle { name: String, all: bool },
    /// `${name/needle/`, up to `}`.
    Replacement { name: String, all: bool, needle: String },
}

#[derive(Clone, Copy, Debug)]
struct Operator {
    /// `-`, `+`, `?`, `#`, `%`, or one that there is not.
    character: char,
    /// Whether a colon stands before it: empty counts as unset.
    colon: bool,
}

/// The words between unquoted white space.
#[derive(Debug, Default)]
struct Words {
    finished: Vec<String>,
    current: String,
}

impl Words {
    fn split(&mut self, text: &str) {
        for character in text.chars() {
            if character.is_whitespace() {
                self.finish();
            } else {
                self.current.push(character);
            }
        }
    }

    fn verbatim_if(&mut self, outermost: bool, text: &str) {
        if outermost {
            self.current.push_str(text);
        }
    }

    fn finish(&mut self) {
        if !self.current.is_empty() {
            self.finished.push(std::mem::take(&mut self.current));
        }
    }
}

impl<'a> Machine<'a> {
    pub(super) fn new(text: &'a str, escape: char, mode: Mode, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            input: text.chars().peekable(),
            escape,
            mode,
            lookup,
            open: Vec::new(),
            text: String::with_capacity(text.len()),
            words: Words::default(),
            undefined: Vec::new(),
            noted: HashSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, ExpandError> {
        while let Some(character) = self.input.next() {
            self.read(character)?;
            if self.text.len() > LONGEST {
                return Err(ExpandError::TooLong { limit: LONGEST });
            }
        }
        match self.open.pop().map(|frame| frame.kind) {
            None => {
                self.words.finish();
                Ok(Outcome { value: self.text, words: self.words.finished, undefined: self.undefined })
            }
            Some(FrameKind::Quote) => Err(ExpandError::UnclosedQuote('"')),
            Some(FrameKind::Needle { name, .. }) => Err(ExpandError::MissingReplacement(name)),
            Some(FrameKind::Operator { name, .. } | FrameKind::Replacement { name, .. }) => {
                Err(ExpandError::UnclosedBrace(name))
            }
        }
    }

    fn read(&mut self, character: char) -> Result<(), ExpandError> {
        let quoted = matches!(self.kind(), Some(FrameKind::Quote));
        match character {
            '$' => self.dollar()?,
            character if self.closes(character) => self.close()?,
            character if character == self.escape => self.escaped(quoted),
            character if quoted => self.push_verbatim_character(character),
            '\'' if self.mode == Mode::Quotes => self.single_quote()?,
            '"' if self.mode == Mode::Quotes => {
                let keeps_escapes = self.keeps_escapes();
                self.open(FrameKind::Quote, keeps_escapes);
            }
            character => self.push_splitting(character.encode_utf8(&mut [0; 4])),
        }
        Ok(())
    }

    fn kind(&self) -> Option<&FrameKind> {
        self.open.last().map(|frame| &frame.kind)
    }

    fn keeps_escapes(&self) -> bool {
        self.open.last().is_some_and(|frame| frame.keeps_escapes)
    }

    fn closes(&self, character: char) -> bool {
        match self.kind() {
            None => false,
            Some(FrameKind::Quote) => character == '"',
            Some(FrameKind::Needle { .. }) => character == '/',
            Some(FrameKind::Operator { .. } | FrameKind::Replacement { .. }) => character == '}',
        }
    }

    /// An escape character; it takes the next one with it, in double quotes only some.
    fn escaped(&mut self, quoted: bool) {
        if self.keeps_escapes() {
            self.push_verbatim_character(self.escape);
        }
        if !quoted {
            if let Some(next) = self.input.next() {
                self.push_verbatim_character(next);
            }
            return;
        }
        let escape = self.escape;
        match self.input.next_if(|next| matches!(next, '"' | '$') || *next == escape) {
            Some(next) => self.push_verbatim_character(next),
            // At the end of the text it is dropped; elsewhere it stays.
            None if self.input.peek().is_some() => self.push_verbatim_character(escape),
            None => {}
        }
    }

    fn single_quote(&mut self) -> Result<(), ExpandError> {
        loop {
            match self.input.next().ok_or(ExpandError::UnclosedQuote('\''))? {
                '\'' => return Ok(()),
                other => self.push_verbatim_character(other),
            }
        }
    }

    fn dollar(&mut self) -> Result<(), ExpandError> {
        if self.input.next_if_eq(&'{').is_some() {
            return self.brace();
        }
        let name = self.name();
        if name.is_empty() {
            self.push_splitting("$");
        } else {
            let value = self.value(&name).unwrap_or_default();
            self.push_splitting(&value);
        }
        Ok(())
    }

    /// Behind `${`.
    fn brace(&mut self) -> Result<(), ExpandError> {
        match self.input.peek() {
            None => return Err(ExpandError::UnclosedBrace(String::new())),
            Some('{' | '}' | ':') => return Err(ExpandError::MissingName),
            Some(_) => {}
        }
        let name = self.name();
        let unclosed = |name: &str| ExpandError::UnclosedBrace(name.to_owned());
        match self.input.next().ok_or_else(|| unclosed(&name))? {
            '}' => {
                let value = self.value(&name).unwrap_or_default();
                self.push_splitting(&value);
            }
            ':' => {
                let character = self.input.next().ok_or_else(|| unclosed(&name))?;
                self.operator(name, Operator { character, colon: true });
            }
            character @ ('-' | '+' | '?' | '#' | '%') => self.operator(name, Operator { character, colon: false }),
            '/' => {
                let all = self.input.next_if_eq(&'/').is_some();
                self.open(FrameKind::Needle { name, all }, true);
            }
            other => return Err(ExpandError::UnsupportedModifier { name, modifier: other.to_string() }),
        }
        Ok(())
    }

    fn operator(&mut self, name: String, operator: Operator) {
        let pattern = matches!(operator.character, '#' | '%');
        self.open(FrameKind::Operator { name, operator }, pattern);
    }

    fn open(&mut self, kind: FrameKind, keeps_escapes: bool) {
        self.open.push(Frame { kind, start: self.text.len(), keeps_escapes });
    }

    /// At the character that closes the top frame.
    fn close(&mut self) -> Result<(), ExpandError> {
        let Some(Frame { kind, start, .. }) = self.open.pop() else { return Ok(()) };
        match kind {
            FrameKind::Quote => self.words.verbatim_if(self.open.is_empty(), &self.text[start..]),
            FrameKind::Needle { name, all } => {
                let needle = self.text.split_off(start);
                self.open(FrameKind::Replacement { name, all, needle }, true);
            }
            FrameKind::Replacement { name, all, needle } => {
                let value = self.value(&name).unwrap_or_default();
                let value = pattern(&name, &needle)?.replace(&value, &self.text[start..], all, LONGEST);
                self.replace(start, &value.ok_or(ExpandError::TooLong { limit: LONGEST })?);
            }
            FrameKind::Operator { name, operator } => match self.operate(&name, operator, start)? {
                // The word of `-` or `+` stands there already.
                None if self.open.is_empty() => self.words.split(&self.text[start..]),
                None => {}
                Some(value) => self.replace(start, &value),
            },
        }
        Ok(())
    }

    /// Puts `value` in place of what has been read since `start`.
    fn replace(&mut self, start: usize, value: &str) {
        self.text.truncate(start);
        self.push_splitting(value);
    }

    /// What a `${name` with an operator gives; `None` if it is its word, which is the text from `start` on.
    fn operate(&mut self, name: &str, operator: Operator, start: usize) -> Result<Option<String>, ExpandError> {
        let Operator { character, colon } = operator;
        if matches!(character, '#' | '%') {
            let value = self.value(name).unwrap_or_default();
            return trim(name, character, &self.text[start..], &value).map(Some);
        }
        let value = (self.lookup)(name);
        let usable = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match character {
            '-' => Ok(value.filter(|_| usable)),
            '+' => Ok(if usable { None } else { Some(String::new()) }),
            '?' if usable => Ok(value),
            '?' => {
                let default = if value.is_some() { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let word = &self.text[start..];
                let message = if word.is_empty() { default } else { word }.to_owned();
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
            other => {
                let modifier = if colon { format!(":{other}") } else { other.to_string() };
                Err(ExpandError::UnsupportedModifier { name: name.to_owned(), modifier })
            }
        }
    }

    /// The value of a variable; one that is not defined is noted.
    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() && self.noted.insert(name.to_owned()) {
            self.undefined.push(name.to_owned());
        }
        value
    }

    /// A name: letters, digits and underscores; or all digits; or one special parameter. Empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let special = |c: &char| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!');
        if let Some(special) = self.input.next_if(special) {
            return special.to_string();
        }
        let digits = self.input.peek().is_some_and(char::is_ascii_digit);
        let belongs = |c: &char| c.is_ascii_digit() || (!digits && (c.is_alphabetic() || *c == '_'));
        while let Some(character) = self.input.next_if(belongs) {
            name.push(character);
        }
        name
    }

    /// Text whose white space separates words.
    fn push_splitting(&mut self, text: &str) {
        if self.open.is_empty() {
            self.words.split(text);
        }
        self.text.push_str(text);
    }

    /// Text whose white space does not.
    fn push_verbatim(&mut self, text: &str) {
        self.words.verbatim_if(self.open.is_empty(), text);
        self.text.push_str(text);
    }

    fn push_verbatim_character(&mut self, character: char) {
        self.push_verbatim(character.encode_utf8(&mut [0; 4]));
    }
}

/// `word` begins with a second operator character where the longest match is wanted.
fn trim(name: &str, operator: char, word: &str, value: &str) -> Result<String, ExpandError> {
    let (word, longest) = word.strip_prefix(operator).map_or((word, false), |word| (word, true));
    let side = if operator == '#' { Side::Start } else { Side::End };
    Ok(pattern(name, word)?.trim(value, side, longest))
}

fn pattern(name: &str, text: &str) -> Result<ShellPattern, ExpandError> {
    ShellPattern::new(text).map_err(|why| ExpandError::BadPattern {
        name: name.to_owned(),
        pattern: text.to_owned(),
        why,
    })
}
