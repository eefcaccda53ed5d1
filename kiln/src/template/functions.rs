//! The functions of templates: Go's own, and those that Docker adds.

use std::cmp::Ordering;

use super::printf::printf;
use super::value::{Object, Value};

/// The longest text that padding makes.
const WIDEST: usize = 4096;

/// Calls a function; what is wrong is told without a place.
pub(super) fn call(name: &str, values: Vec<Value>) -> Result<Value, String> {
    match (name, values.as_slice()) {
        ("json", [value]) => Ok(value.json().into()),
        ("lower", [value]) => Ok(text(name, value)?.to_lowercase().into()),
        ("upper", [value]) => Ok(text(name, value)?.to_uppercase().into()),
        ("title", [value]) => Ok(title(text(name, value)?).into()),
        ("split", [value, separator]) => Ok(split(text(name, value)?, text(name, separator)?)),
        ("join", [list, separator]) => join(list, text(name, separator)?),
        ("pad", [value, before, after]) => pad(text(name, value)?, size(before)?, size(after)?),
        ("truncate", [value, length]) => Ok(text(name, value)?.chars().take(size(length)?).collect::<String>().into()),
        ("print", values) => Ok(print(values).into()),
        ("println", values) => Ok(spaced(values).into()),
        ("printf", [format, values @ ..]) => Ok(printf(text(name, format)?, values).into()),
        ("len", [value]) => len(value).map(Value::from),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() < 3 => slice(value, bounds),
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            Ok(Value::Bool(others.iter().any(|other| is_equal(first, other))))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!is_equal(a, b))),
        ("lt", [a, b]) => Ok(Value::Bool(compare(a, b)? == Ordering::Less)),
        ("le", [a, b]) => Ok(Value::Bool(compare(a, b)? != Ordering::Greater)),
        ("gt", [a, b]) => Ok(Value::Bool(compare(a, b)? == Ordering::Greater)),
        ("ge", [a, b]) => Ok(Value::Bool(compare(a, b)? != Ordering::Less)),
        (name, values) if KNOWN.contains(&name) => {
            Err(format!("`{name}` cannot be called with {}", arguments(values.len())))
        }
        _ => Err(format!("there is no function `{name}`: there are {}", KNOWN.join(", "))),
    }
}

const KNOWN: [&str; 23] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// As [`call`], with JSON in lines that are indented.
pub(super) fn call_indented(name: &str, values: Vec<Value>) -> Result<Value, String> {
    match (name, values.as_slice()) {
        ("json", [value]) => Ok(value.indented_json().into()),
        _ => call(name, values),
    }
}

/// In the line of headings, what is done to a value is not done to its heading, as Docker has it.
pub(super) fn call_for_headings(name: &str, mut values: Vec<Value>) -> Result<Value, String> {
    match name {
        "json" | "lower" | "upper" | "title" | "split" | "join" | "truncate" if !values.is_empty() => {
            // Arguments like a separator stand behind the value, or before it where it comes through a pipe.
            let place = values.iter().position(is_heading).unwrap_or(0);
            Ok(values.swap_remove(place))
        }
        _ => call(name, values),
    }
}

fn is_heading(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.chars().any(char::is_alphabetic))
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no argument".to_owned(),
        1 => "one argument".to_owned(),
        _ => format!("{count} arguments"),
    }
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Nothing | Value::Null => Ok(""),
        other => Err(format!("`{name}` takes a text, not {}", other.kind())),
    }
}

fn size(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| format!("`{value}` is no length"))
}

/// Go's `strings.Title`: a capital letter where a word begins.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut capital = |letter: char| {
        let begins = !(before.is_alphanumeric() || before == '_');
        before = letter;
        if begins { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    text.chars().map(&mut capital).collect()
}

fn split(text: &str, separator: &str) -> Value {
    let parts: Vec<Value> = match separator {
        "" => text.chars().map(|letter| letter.to_string().into()).collect(),
        _ => text.split(separator).map(Value::from).collect(),
    };
    Value::List(parts)
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::List(list) => Ok(list.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator).into()),
        Value::Null | Value::Nothing => Ok("".into()),
        other => Err(format!("`join` takes a list, not {}", other.kind())),
    }
}

fn pad(text: &str, before: usize, after: usize) -> Result<Value, String> {
    if before > WIDEST || after > WIDEST {
        return Err(format!("`pad` makes at most {WIDEST} spaces"));
    }
    if text.is_empty() {
        return Ok("".into());
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

/// Go's `fmt.Sprint`: a space between two values where neither is a text.
fn print(values: &[Value]) -> String {
    let mut printed = String::new();
    let mut was_text = true;
    for value in values {
        let is_text = matches!(value, Value::Text(_));
        if !printed.is_empty() && !is_text && !was_text {
            printed.push(' ');
        }
        printed.push_str(&value.to_string());
        was_text = is_text;
    }
    printed
}

fn spaced(values: &[Value]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") + "\n"
}

fn len(value: &Value) -> Result<usize, String> {
    match value {
        Value::Text(text) => Ok(text.len()),
        Value::List(list) => Ok(list.len()),
        Value::Object(Object { is_map: true, entries }) => Ok(entries.len()),
        Value::Null | Value::Nothing => Ok(0),
        other => Err(format!("`len` of {}", other.kind())),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::List(list), Value::Number(_)) => {
            let place = size(key)?;
            let missing = || format!("`index`: there is no element {place} in a list of {}", list.len());
            list.get(place).cloned().ok_or_else(missing)
        }
        // What a map of texts does not have is an empty one.
        (Value::Object(object), Value::Text(key)) => Ok(object.get(key).cloned().unwrap_or_else(|| "".into())),
        (Value::Null | Value::Nothing, Value::Text(_)) => Ok("".into()),
        (Value::Text(text), Value::Number(_)) => {
            let byte = text.as_bytes().get(size(key)?);
            byte.map(|byte| Value::from(usize::from(*byte)))
                .ok_or_else(|| "`index`: the text is not so long".to_owned())
        }
        (value, key) => Err(format!("`index` cannot look up {} in {}", key.kind(), value.kind())),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let from = bounds.first().map_or(Ok(0), size)?;
    let to = |length: usize| bounds.get(1).map_or(Ok(length), size);
    match value {
        Value::Text(text) => {
            let range = from..to(text.len())?;
            text.get(range).map(Value::from).ok_or_else(|| "`slice`: the text does not reach so far".to_owned())
        }
        Value::List(list) => {
            let range = from..to(list.len())?;
            let part = list.get(range).map(|part| Value::List(part.to_vec()));
            part.ok_or_else(|| "`slice`: the list does not reach so far".to_owned())
        }
        other => Err(format!("`slice` takes a text or a list, not {}", other.kind())),
    }
}

fn is_equal(a: &Value, b: &Value) -> bool {
    let is_nothing = |value: &Value| matches!(value, Value::Null | Value::Nothing);
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b || is_nothing(a) && is_nothing(b),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        },
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| format!("{} and {} cannot be compared", a.kind(), b.kind()))
}
