//! From words to the structure of a template.

use super::TemplateError;
use super::lex::{Placed, Token};
use super::value::Value;

/// How deep blocks and parentheses may go.
const DEEPEST: usize = 100;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// What is printed as it stands.
    Text(String),
    /// A value that is printed, or a variable that is set.
    Action(Pipeline),
    /// `if`
    If(Branch),
    /// `with`
    With(Branch),
    /// `range`
    Range(Branch),
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// What `if`, `with` and `range` have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each of which gets the value of the one before it as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// The variables that it sets.
    pub(super) variables: Vec<String>,
    /// Whether they are new ones.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
    pub(super) at: usize,
}

/// A function and its arguments, or a value alone; never empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    pub(super) first: Operand,
    pub(super) arguments: Vec<Operand>,
}

/// A value with the fields that are taken of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
    pub(super) at: usize,
}

/// What a value begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Dot,
    Literal(Value),
    Variable(String),
    Function(String),
    Pipeline(Box<Pipeline>),
}

/// Why a list of nodes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Template,
    /// At this place.
    End(usize),
    /// At this place.
    Else(usize),
}

/// Reads a whole template.
pub(super) fn parse(template: &str, tokens: Vec<Placed>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { template, tokens, next: 0, depth: 0, loops: 0 };
    let (nodes, end) = parser.nodes()?;
    let stray = |message: &str, at| Err(TemplateError::new(template, at, message));
    match end {
        Stop::Template => Ok(nodes),
        Stop::End(at) => stray("`end` ends nothing", at),
        Stop::Else(at) => stray("`else` belongs to nothing", at),
    }
}

struct Parser<'a> {
    template: &'a str,
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
    loops: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.template.len(), |(_, at)| *at)
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(self.template, self.at(), message)
    }

    fn take(&mut self, token: &Token) -> bool {
        let is_there = self.peek() == Some(token);
        self.next += usize::from(is_there);
        is_there
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        if self.take(&Token::Close) { Ok(()) } else { Err(self.error("`}}` is missing here")) }
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// One level deeper.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, TemplateError>) -> Result<T, TemplateError> {
        if self.depth == DEEPEST {
            return Err(self.error(format!("it is nested deeper than {DEEPEST} levels")));
        }
        self.depth += 1;
        let outcome = work(self);
        self.depth -= 1;
        outcome
    }

    /// Everything up to `end`, `else` (whose word is taken) or the end.
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            match self.peek().cloned() {
                None => return Ok((nodes, Stop::Template)),
                Some(Token::Text(text)) => {
                    self.next += 1;
                    nodes.push(Node::Text(text));
                }
                Some(_) => {
                    self.next += 1;
                    let at = self.at();
                    match self.word() {
                        Some("end") => {
                            self.next += 1;
                            self.close()?;
                            return Ok((nodes, Stop::End(at)));
                        }
                        Some("else") => {
                            self.next += 1;
                            return Ok((nodes, Stop::Else(at)));
                        }
                        _ => nodes.push(self.action()?),
                    }
                }
            }
        }
    }

    /// What follows `{{`.
    fn action(&mut self) -> Result<Node, TemplateError> {
        let word = self.word().unwrap_or_default().to_owned();
        match word.as_str() {
            "if" | "with" | "range" => {
                self.next += 1;
                self.block(&word)
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(self.error(format!("`{word}` stands in no `range`")));
                }
                self.next += 1;
                self.close()?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "define" | "template" | "block" => {
                Err(self.error(format!("`{word}` is not supported: there is one template")))
            }
            _ => {
                let pipeline = self.pipeline()?;
                self.close()?;
                Ok(Node::Action(pipeline))
            }
        }
    }

    fn block(&mut self, word: &str) -> Result<Node, TemplateError> {
        self.deeper(|parser| {
            let pipeline = parser.pipeline()?;
            parser.close()?;
            let is_loop = word == "range";
            parser.loops += usize::from(is_loop);
            let (body, end) = parser.nodes()?;
            parser.loops -= usize::from(is_loop);
            let otherwise = match end {
                Stop::End(_) => Vec::new(),
                Stop::Else(_) => parser.otherwise(word)?,
                Stop::Template => return Err(parser.error(format!("`{word}` has no `end`"))),
            };
            let branch = Branch { pipeline, body, otherwise };
            Ok(match word {
                "if" => Node::If(branch),
                "with" => Node::With(branch),
                _ => Node::Range(branch),
            })
        })
    }

    /// What follows `else`, up to and including `end`.
    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, TemplateError> {
        if word != "range" && self.word() == Some(word) {
            // `else if` is an `if` within, whose `end` ends both.
            self.next += 1;
            return Ok(vec![self.block(word)?]);
        }
        self.close()?;
        match self.nodes()? {
            (nodes, Stop::End(_)) => Ok(nodes),
            (_, Stop::Else(at)) => {
                Err(TemplateError::new(self.template, at, format!("`{word}` has an `else` already")))
            }
            (_, Stop::Template) => Err(self.error(format!("`{word}` has no `end`"))),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let at = self.at();
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command()?];
        while self.take(&Token::Pipe) {
            commands.push(self.command()?);
        }
        Ok(Pipeline { variables, declares, commands, at })
    }

    /// `$a :=`, `$a, $b :=` or `$a =`, if that is what follows.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let mut names = Vec::new();
        let mut next = self.next;
        while let Some((Token::Variable(name), _)) = self.tokens.get(next) {
            names.push(name.clone());
            let follows = self.tokens.get(next + 1).map(|(token, _)| token);
            next += 2;
            match follows {
                Some(Token::Comma) if names.len() == 1 => {}
                Some(token @ (Token::Declare | Token::Assign)) => {
                    let declares = *token == Token::Declare;
                    self.next = next;
                    return (names, declares);
                }
                _ => break,
            }
        }
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let first = self.operand()?.ok_or_else(|| self.error("a value is missing here"))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand()? {
            arguments.push(argument);
        }
        Ok(Command { first, arguments })
    }

    /// A value, if one follows.
    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let at = self.at();
        let mut fields = Vec::new();
        let base = match self.peek().cloned() {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name, _)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Token::Variable(name)) => Base::Variable(name),
            Some(Token::Quoted(text)) => Base::Literal(text.into()),
            Some(Token::Number(number)) => Base::Literal(Value::Number(number)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ => Base::Function(word),
            },
            Some(Token::Left) => {
                self.next += 1;
                let inner = self.deeper(Self::pipeline)?;
                if self.peek() != Some(&Token::Right) {
                    return Err(self.error("`)` is missing here"));
                }
                Base::Pipeline(Box::new(inner))
            }
            _ => return Ok(None),
        };
        self.next += 1;
        while let Some(Token::Field(name, true)) = self.peek() {
            fields.push(name.clone());
            self.next += 1;
        }
        Ok(Some(Operand { base, fields, at }))
    }
}
