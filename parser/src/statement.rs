//! One instruction in pieces: keyword, flags, the rest of the line and its heredocs. What the parsers of the single
//! instructions work on.

use crate::flags::{self, Flags, RawFlag};
use crate::json::{self, Expected, Form};
use crate::keyword::Keyword;
use crate::lines::LogicalLine;
use crate::words::{quoted_words, split_first};
use crate::{Command, Diagnostic, Heredoc, Span, Word};

/// An error has been told; nothing can be made of the text.
pub(crate) struct Told;

fn first_character(text: &str) -> &str {
    &text[..text.chars().next().map_or(0, char::len_utf8)]
}

/// An instruction, on its way to become a [`crate::Kind`].
pub(crate) struct Statement<'s> {
    /// Which one.
    pub(crate) keyword: Keyword,
    /// The keyword as typed.
    pub(crate) typed: &'s str,
    /// What stands behind the flags, without white space around it.
    pub(crate) body: &'s str,
    /// The bodies behind the line.
    pub(crate) heredocs: Vec<Heredoc>,
    flags: Vec<RawFlag<'s>>,
    line: &'s LogicalLine<'s>,
    escape: char,
    /// What there is to say about it.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl<'s> Statement<'s> {
    /// Takes `text`, which is a part of `line` that begins with the keyword, apart.
    pub(crate) fn new(keyword: Keyword, text: &'s str, line: &'s LogicalLine<'s>, escape: char) -> Self {
        let (typed, rest) = split_first(text);
        let (flags, body) = flags::split(rest);
        Self { keyword, typed, body, heredocs: Vec::new(), flags, line, escape, diagnostics: Vec::new() }
    }

    /// The statement that is the body of this one, if it begins with a keyword.
    pub(crate) fn inner(&self) -> Option<Statement<'s>> {
        let keyword = Keyword::find(split_first(self.body).0)?;
        Some(Statement::new(keyword, self.body, self.line, self.escape))
    }

    /// Whether heredocs are looked for in it.
    pub(crate) fn takes_heredocs(&self) -> bool {
        match self.keyword {
            Keyword::Run | Keyword::Copy | Keyword::Add => !matches!(json::read(self.body), Form::Strings(_)),
            Keyword::Onbuild => {
                self.inner().is_some_and(|inner| inner.keyword != Keyword::Onbuild && inner.takes_heredocs())
            }
            _ => false,
        }
    }

    /// Where a part of the line stands in the original text.
    pub(crate) fn span(&self, part: &str) -> Span {
        self.line.span_of(part)
    }

    /// A part of the line as a word.
    pub(crate) fn word(&self, part: &str) -> Word {
        Word::new(part.to_owned(), self.span(part))
    }

    /// The whole body as one word; an error if there is none.
    pub(crate) fn body_word(&mut self, what: &str) -> Option<Word> {
        if self.body.is_empty() {
            self.missing(what);
            return None;
        }
        Some(self.word(self.body))
    }

    /// The body's words between unquoted white space.
    pub(crate) fn quoted_words(&self) -> Vec<&'s str> {
        quoted_words(self.body, self.escape)
    }

    /// The flags; what is wrong with them is told.
    pub(crate) fn flags(&mut self) -> Flags {
        let mut diagnostics = Vec::new();
        let flags = Flags::check(self.keyword, &self.flags, |part| self.span(part), &mut diagnostics);
        self.diagnostics.append(&mut diagnostics);
        flags
    }

    /// Tells that there is no argument where there must be one.
    pub(crate) fn missing(&mut self, what: &str) {
        let typed = self.typed;
        let message = format!("`{}` needs {what}", self.keyword.name());
        self.tell(self.error(typed, message, "missing-argument").label("nothing follows"));
    }

    /// An error about a part of the line, to be told.
    pub(crate) fn error(&self, part: &str, message: impl Into<String>, code: &'static str) -> Diagnostic {
        Diagnostic::error(message).at(self.span(part)).code(code)
    }

    /// Tells something.
    pub(crate) fn tell(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The text as a JSON array, with a warning if it looks like one and is none, and an error if it has other
    /// things than strings in it.
    pub(crate) fn strings(&mut self, text: &'s str) -> Result<Option<Vec<(String, &'s str)>>, Told> {
        match json::read(text) {
            Form::Strings(strings) => Ok(Some(strings)),
            Form::Text(problem) => {
                if let Some(problem) = problem {
                    let warning = self.not_json(text, problem, Diagnostic::warning("this is not valid JSON"));
                    self.tell(warning.hint("as Docker does, it is taken as plain text, brackets and quotes included"));
                }
                Ok(None)
            }
            Form::Mixed(at) => {
                let message = "a JSON array may only have strings in it here";
                let problem = self.error(first_character(at), message, "invalid-json");
                self.tell(problem.label("not a string").hint("put it in double quotes"));
                Err(Told)
            }
        }
    }

    /// `problem` at the place where `text` is no JSON.
    pub(crate) fn not_json(&self, text: &str, at: Expected<'_>, problem: Diagnostic) -> Diagnostic {
        let place = if at.at.is_empty() { &text[text.len()..] } else { first_character(at.at) };
        let span = self.span(place);
        problem.at(span).label(format!("expected {}", at.what)).code("invalid-json")
    }

    /// A command in either form.
    pub(crate) fn command(&mut self, text: &'s str) -> Option<Command> {
        match self.strings(text).ok()? {
            Some(strings) => {
                let arguments = strings.into_iter().map(|(decoded, _)| decoded).collect();
                Some(Command::Exec(arguments, self.span(text)))
            }
            None => Some(Command::Shell(self.word(text))),
        }
    }
}
