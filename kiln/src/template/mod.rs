//! `--format`: the part of Go's text/template that users of Docker know, over JSON.
//!
//! [`lex`] takes a template apart, [`parse`] finds its structure, [`run`] carries it out over a [`Value`] with the
//! [`functions`]; [`list`] is how commands that list things print them. There are `{{.Field}}`, variables, pipes,
//! `if`, `with`, `range`, comments and the trimming of white space; there are no `define`, no methods and no calls.
//!
//! **Invariant**: whatever is typed ends in a text or an error with its place, within bounded time and memory.

mod functions;
mod lex;
pub(crate) mod list;
mod parse;
mod printf;
mod run;
mod tabs;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

use crate::error::CliError;
pub(crate) use value::Value;

/// A template that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<parse::Node>,
}

/// What a template is carried out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Something that is listed.
    Data,
    /// The same, with JSON in lines that are indented.
    Indented,
    /// The headings above what is listed: functions leave them as they are.
    Headings,
}

/// What is wrong with a template, or with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// From 1 on.
    line: usize,
    /// In letters, from 1 on.
    column: usize,
    message: String,
}

impl TemplateError {
    fn new(template: &str, at: usize, message: impl Into<String>) -> Self {
        let before = template.get(..at).unwrap_or(template);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line: before.matches('\n').count() + 1, column, message: message.into() }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "template, line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl From<TemplateError> for CliError {
    fn from(error: TemplateError) -> Self {
        Self::user(format!("`--format`: {error}"))
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(text, lex::tokens(text)?)?;
        Ok(Self { text: text.to_owned(), nodes })
    }

    /// Prints `data` as the template says.
    ///
    /// # Errors
    /// When it asks for what is not there, or a function for something else.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        run::run(&self.text, &self.nodes, data, Mode::Data)
    }

    /// The same, with JSON in lines that are indented.
    ///
    /// # Errors
    /// Those of [`Template::render`].
    pub(crate) fn render_indented(&self, data: &Value) -> Result<String, TemplateError> {
        run::run(&self.text, &self.nodes, data, Mode::Indented)
    }

    fn render_headings(&self, headings: &Value) -> Result<String, TemplateError> {
        run::run(&self.text, &self.nodes, headings, Mode::Headings)
    }
}
