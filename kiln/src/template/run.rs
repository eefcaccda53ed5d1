//! Carrying a template out.

use std::fmt::Write as _;

use super::functions;
use super::parse::{Base, Branch, Command, Node, Operand, Pipeline};
use super::value::{Object, Value};
use super::{Mode, TemplateError};

/// What a list of nodes ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Prints `data` as the nodes say.
pub(super) fn run(template: &str, nodes: &[Node], data: &Value, mode: Mode) -> Result<String, TemplateError> {
    let variables = vec![(String::new(), data.clone())];
    let mut run = Run { template, variables, output: String::new(), mode };
    run.nodes(nodes, data)?;
    Ok(run.output)
}

struct Run<'a> {
    template: &'a str,
    /// The last of a name counts.
    variables: Vec<(String, Value)>,
    output: String,
    mode: Mode,
}

impl Run<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError::new(self.template, at, message)
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.output.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let _ = write!(self.output, "{value}");
                    }
                    Flow::On
                }
                Node::If(branch) => self.scoped(|run| run.branch(branch, dot, false))?,
                Node::With(branch) => self.scoped(|run| run.branch(branch, dot, true))?,
                Node::Range(branch) => self.scoped(|run| run.range(branch, dot))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Variables that are made within are gone afterwards.
    fn scoped(&mut self, work: impl FnOnce(&mut Self) -> Result<Flow, TemplateError>) -> Result<Flow, TemplateError> {
        let known = self.variables.len();
        let outcome = work(self);
        self.variables.truncate(known);
        outcome
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, is_with: bool) -> Result<Flow, TemplateError> {
        let value = self.pipeline(&branch.pipeline, dot)?;
        match value.is_true() {
            true => self.nodes(&branch.body, if is_with { &value } else { dot }),
            false => self.nodes(&branch.otherwise, dot),
        }
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, TemplateError> {
        let Branch { pipeline, body, otherwise } = branch;
        // The variables of a range are set for each element, not to the list.
        let value = self.commands(pipeline, dot)?;
        let elements: Vec<(Value, Value)> = match value {
            Value::List(list) => list.into_iter().enumerate().map(|(index, value)| (index.into(), value)).collect(),
            Value::Object(Object { is_map: true, mut entries }) => {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Null | Value::Nothing => Vec::new(),
            other => return Err(self.error(pipeline.at, format!("`range` cannot go over {}", other.kind()))),
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in elements {
            let known = self.variables.len();
            match pipeline.variables.as_slice() {
                [] => {}
                [only] => self.set(only, value.clone(), pipeline)?,
                [first, second, ..] => {
                    self.set(first, key, pipeline)?;
                    self.set(second, value.clone(), pipeline)?;
                }
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, pipeline: &Pipeline) -> Result<(), TemplateError> {
        if pipeline.declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => return Err(self.error(pipeline.at, format!("there is no variable `${name}`"))),
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        match pipeline.variables.as_slice() {
            [] => {}
            [only] => self.set(only, value.clone(), pipeline)?,
            _ => return Err(self.error(pipeline.at, "two variables are for `range` alone")),
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Nothing))
    }

    fn command(&mut self, command: &Command, last: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let Command { first, arguments } = command;
        if let Base::Function(name) = &first.base {
            if let Some(value) = self.short_circuit(name, arguments, last.as_ref(), dot)? {
                return self.fields(value, first);
            }
            let mut values = Vec::with_capacity(arguments.len() + 1);
            for argument in arguments {
                values.push(self.operand(argument, dot)?);
            }
            values.extend(last);
            return self.call(first, name, values);
        }
        if !arguments.is_empty() || last.is_some() {
            return Err(self.error(first.at, "only a function takes arguments"));
        }
        self.operand(first, dot)
    }

    /// `and` and `or` look at no more arguments than it takes.
    fn short_circuit(
        &mut self,
        name: &str,
        arguments: &[Operand],
        last: Option<&Value>,
        dot: &Value,
    ) -> Result<Option<Value>, TemplateError> {
        let stops_at = match name {
            "and" => false,
            "or" => true,
            _ => return Ok(None),
        };
        let mut value = None;
        for argument in arguments {
            let found = self.operand(argument, dot)?;
            let stops = found.is_true() == stops_at;
            value = Some(found);
            if stops {
                return Ok(value);
            }
        }
        Ok(last.cloned().or(value))
    }

    fn call(&self, at: &Operand, name: &str, values: Vec<Value>) -> Result<Value, TemplateError> {
        let called = match self.mode {
            Mode::Data => functions::call(name, values),
            Mode::Indented => functions::call_indented(name, values),
            Mode::Headings => functions::call_for_headings(name, values),
        };
        let value = called.map_err(|message| self.error(at.at, message))?;
        self.fields(value, at)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let value = match &operand.base {
            Base::Dot => return self.fields_of(dot, operand),
            Base::Literal(value) => value.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let missing = || self.error(operand.at, format!("there is no variable `${name}`"));
                return self.fields_of(&found.ok_or_else(missing)?.1, operand);
            }
            Base::Function(name) => return self.call(operand, name, Vec::new()),
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        self.fields(value, operand)
    }

    fn fields(&self, value: Value, operand: &Operand) -> Result<Value, TemplateError> {
        if operand.fields.is_empty() { Ok(value) } else { self.fields_of(&value, operand) }
    }

    /// Follows fields down.
    fn fields_of(&self, value: &Value, operand: &Operand) -> Result<Value, TemplateError> {
        let mut value = value;
        for field in &operand.fields {
            value = match value {
                Value::Object(object) => match object.field(field) {
                    Some(value) => value,
                    None if object.is_map => return Ok(Value::Nothing),
                    None => return Err(self.error(operand.at, unknown(field, object))),
                },
                Value::Null | Value::Nothing => return Ok(Value::Nothing),
                other => {
                    let message = format!("`.{field}` cannot be had of {}", other.kind());
                    return Err(self.error(operand.at, message));
                }
            };
        }
        Ok(value.clone())
    }
}

fn unknown(field: &str, object: &Object) -> String {
    let known: Vec<String> = object.entries.iter().map(|(name, _)| format!("`.{name}`")).collect();
    match known.is_empty() {
        true => format!("there is no field `.{field}`"),
        false => format!("there is no field `.{field}`: there are {}", known.join(", ")),
    }
}
