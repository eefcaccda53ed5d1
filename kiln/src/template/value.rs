//! The data that templates are about: JSON whose objects keep their order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Number;

/// Objects under these keys have keys of the user's: one that is not there is no mistake.
const MAPS: [&str; 5] = ["Labels", "Annotations", "ExposedPorts", "Volumes", "BuildArgs"];

/// A value of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// What a map does not have.
    Nothing,
    /// `nil`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// Fields or keys.
    Object(Object),
}

/// Fields or keys, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object {
    /// Whether any key may be asked for: as in Go's maps, and unlike structs.
    pub(super) is_map: bool,
    /// Names and values.
    pub(super) entries: Vec<(String, Value)>,
}

impl Value {
    /// What something looks like as JSON; `None` where it has no such form.
    pub(crate) fn of(data: &impl Serialize) -> Option<Self> {
        serde_json::from_str(&serde_json::to_string(data).ok()?).ok()
    }

    /// Fields with texts, as lists of things have them.
    pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let entries = fields.into_iter().map(|(name, text)| (name.to_owned(), Self::Text(text))).collect();
        Self::Object(Object { is_map: false, entries })
    }

    /// A field of an object.
    pub(crate) fn field_mut(&mut self, name: &str) -> Option<&mut Self> {
        let Self::Object(object) = self else { return None };
        object.entries.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Gives an object a field that it does not have.
    pub(crate) fn default(&mut self, name: &str, value: Self) {
        if let Self::Object(object) = self
            && object.get(name).is_none()
        {
            object.entries.push((name.to_owned(), value));
        }
    }

    /// Whether `if` takes it for true: as in Go, what is empty or zero is not.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nothing | Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => number.as_f64() != Some(0.0),
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            // A struct is true whatever is in it.
            Self::Object(object) => !object.is_map || !object.entries.is_empty(),
        }
    }

    /// Its kind, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(Object { is_map: true, .. }) => "a map",
            Self::Object(_) => "an object",
        }
    }

    /// JSON on one line.
    pub(crate) fn json(&self) -> String {
        // Maps with keys that are no texts, of which there are none, are all that can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// JSON in lines that are indented.
    pub(super) fn indented_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The same, where any key may be asked for if it is an object.
    #[must_use]
    pub(crate) fn into_map(mut self) -> Self {
        if let Self::Object(object) = &mut self {
            object.is_map = true;
        }
        self
    }

    /// An object of these fields, in this order.
    pub(crate) fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self::Object(Object { is_map: false, entries })
    }
}

impl Object {
    /// The value of a field. As in Go, `.MediaType` is what JSON calls `mediaType`; the keys of maps are as they are.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        let alike = |(key, _): &&(String, Value)| !self.is_map && key.eq_ignore_ascii_case(name);
        self.get(name).or_else(|| self.entries.iter().find(alike).map(|(_, value)| value))
    }

    /// The value of a field or key.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number.into())
    }
}

/// As Go's `%v` prints it.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("<no value>"),
            Self::Null => formatter.write_str("<nil>"),
            Self::Bool(value) => value.fmt(formatter),
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => formatter.write_str(text),
            Self::List(list) => {
                formatter.write_str("[")?;
                for (index, value) in list.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(formatter, "{gap}{value}")?;
                }
                formatter.write_str("]")
            }
            Self::Object(Object { entries, is_map }) => {
                formatter.write_str(if *is_map { "map[" } else { "{" })?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    match is_map {
                        true => write!(formatter, "{gap}{key}:{value}")?,
                        false => write!(formatter, "{gap}{value}")?,
                    }
                }
                formatter.write_str(if *is_map { "]" } else { "}" })
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing | Self::Null => serializer.serialize_none(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::List(list) => list.serialize(serializer),
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.entries.len()))?;
                for (key, value) in &object.entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, mut value)) = map.next_entry::<String, Value>()? {
            if let Value::Object(object) = &mut value {
                object.is_map |= MAPS.contains(&key.as_str());
            }
            entries.push((key, value));
        }
        Ok(Value::Object(Object { is_map: false, entries }))
    }
}
