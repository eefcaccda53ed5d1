//! How commands that list things print them: as a table, as JSON, or by a template.

use super::value::{Object, Value};
use super::{Template, TemplateError, tabs};

/// What `--format` of such a command says.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    template: Template,
    is_table: bool,
}

impl Format {
    /// Reads `json`, `table`, `table TEMPLATE` or a template, in which `\t` and `\n` stand for what they usually do;
    /// nothing, or `table` alone, is a table with these columns.
    ///
    /// # Errors
    /// When the template is malformed.
    pub(crate) fn parse(text: Option<&str>, columns: &str) -> Result<Self, TemplateError> {
        let text = text.unwrap_or("table");
        if text == "json" {
            return Ok(Self { template: Template::parse("{{json .}}")?, is_table: false });
        }
        let table = text.strip_prefix("table").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\\']));
        let template = match table.map(str::trim) {
            Some("") => columns,
            Some(template) => template,
            None => text,
        };
        let template = Template::parse(&template.replace("\\t", "\t").replace("\\n", "\n"))?;
        Ok(Self { template, is_table: table.is_some() })
    }

    /// A line for each thing, below the headings of the fields if it is a table.
    ///
    /// # Errors
    /// When the template asks for what is not there.
    pub(crate) fn render(&self, headings: &[(&str, &str)], things: &[Value]) -> Result<String, TemplateError> {
        let mut text = String::new();
        if self.is_table {
            let headings = headings.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)));
            let headings = Value::Object(Object { is_map: false, entries: headings.collect() });
            text.push_str(&self.template.render_headings(&headings)?);
            text.push('\n');
        }
        for thing in things {
            text.push_str(&self.template.render(thing)?);
            text.push('\n');
        }
        Ok(if self.is_table { tabs::align(&text) } else { text })
    }
}
