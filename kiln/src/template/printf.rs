//! Go's `printf`, as far as its verbs make sense for JSON.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use super::value::Value;

/// The widest field.
const WIDEST: usize = 4096;

/// Flags between `%` and the verb.
#[derive(Default)]
struct Directive {
    is_left: bool,
    has_zeros: bool,
    has_sign: bool,
    width: usize,
    precision: Option<usize>,
}

/// Prints `values` as `format` says. What does not fit is shown in the text, as Go does it.
pub(super) fn printf(format: &str, values: &[Value]) -> String {
    let mut text = String::new();
    let mut values = values.iter();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = letters.next_if(|letter| matches!(letter, '-' | '0' | '+' | ' ' | '#')) {
            directive.is_left |= flag == '-';
            directive.has_zeros |= flag == '0';
            directive.has_sign |= flag == '+';
        }
        directive.width = number(&mut letters).unwrap_or(0);
        if letters.next_if_eq(&'.').is_some() {
            directive.precision = Some(number(&mut letters).unwrap_or(0));
        }
        match letters.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match values.next() {
                None => {
                    let _ = write!(text, "%!{verb}(MISSING)");
                }
                Some(value) => directive.print(verb, value, &mut text),
            },
        }
    }
    if let Some(first) = values.next() {
        let rest = values.fold(first.to_string(), |all, value| format!("{all}, {value}"));
        let _ = write!(text, "%!(EXTRA {rest})");
    }
    text
}

fn number(letters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number: Option<usize> = None;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        letters.next();
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
    }
    number.map(|number| number.min(WIDEST))
}

impl Directive {
    fn print(&self, verb: char, value: &Value, text: &mut String) {
        let bare = match (verb, value) {
            ('v' | 's', value) => self.cut(value.to_string()),
            ('q', Value::Text(_)) => value.json(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('d', Value::Number(number)) if !number.is_f64() => self.signed(number.to_string()),
            ('x' | 'X', Value::Number(number)) if !number.is_f64() => {
                let digits = number.as_i64().map_or_else(|| number.to_string(), |number| format!("{number:x}"));
                if verb == 'X' { digits.to_uppercase() } else { digits }
            }
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('f' | 'F' | 'g' | 'e', Value::Number(number)) => {
                let number = number.as_f64().unwrap_or_default();
                self.signed(format!("{number:.*}", self.precision.unwrap_or(6)))
            }
            (verb, value) => format!("%!{verb}({value})"),
        };
        let missing = self.width.saturating_sub(bare.chars().count());
        match (self.is_left, self.has_zeros && matches!(value, Value::Number(_))) {
            (true, _) => text.extend([bare.as_str(), &" ".repeat(missing)]),
            (false, false) => text.extend([&" ".repeat(missing), bare.as_str()]),
            (false, true) => {
                let (sign, digits) = bare.split_at(bare.len() - bare.trim_start_matches(['-', '+']).len());
                text.extend([sign, &"0".repeat(missing), digits]);
            }
        }
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        }
    }

    fn signed(&self, number: String) -> String {
        if self.has_sign && !number.starts_with('-') { format!("+{number}") } else { number }
    }
}
