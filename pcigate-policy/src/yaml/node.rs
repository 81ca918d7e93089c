//! One value of a document with its file and line.

use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use super::mistakes::Mistakes;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The file's name as the caller of [`super::read`] gave it.
    pub file: Arc<str>,
    /// Line on which the value starts, from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What a node holds (YAML 1.2 core schema: `yes` and `on` are text).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text, quoted or not.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; no key occurs twice.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as text.
    pub key: String,
    /// Line of the key, from 1.
    pub line: usize,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What this is, for messages: `text`, `a number`, `a list`, …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// JSON as a node; all of it stands on line 0, which messages leave out.
    ///
    /// # Errors
    /// It is nested deeper than [`super::DEPTH_MAX`].
    pub fn of_json(file: &str, json: &Json) -> Result<Self, Mistakes> {
        Self::of_value(&file.into(), json, super::DEPTH_MAX).ok_or_else(|| {
            let mut mistakes = Mistakes::default();
            let message = format!("nested deeper than {} levels", super::DEPTH_MAX);
            mistakes.add(file, 0, "", message);
            mistakes
        })
    }

    fn of_value(file: &Arc<str>, json: &Json, depth: usize) -> Option<Self> {
        let within = || depth.checked_sub(1);
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Integer(number),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => {
                let depth = within()?;
                let items = items.iter().map(|item| Self::of_value(file, item, depth));
                Value::List(items.collect::<Option<_>>()?)
            }
            Json::Object(fields) => {
                let depth = within()?;
                let entries = fields.iter().map(|(key, value)| {
                    let value = Self::of_value(file, value, depth)?;
                    Some(Entry { key: key.clone(), line: 0, value })
                });
                Value::Map(entries.collect::<Option<_>>()?)
            }
        };
        Some(Self { file: Arc::clone(file), line: 0, value })
    }

    /// The same value as JSON, for types that others decode. Infinities and NaN become null.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Integer(number) => Json::Number(Number::from(*number)),
            Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.value.to_json()));
                Json::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}
