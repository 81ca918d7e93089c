//! Decodes one mapping field by field, noting every mistake and every field nobody asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::mistakes::{Mistakes, shown};
use super::node::{Entry, Node, Value};

/// One mapping being decoded. Every method that takes a field's name marks that name as known.
///
/// Methods returning `Option` give `None` for an absent field as well as for a wrong one; a wrong
/// one has been noted. `required_…` methods also note an absent field.
#[derive(Debug)]
pub struct Fields<'n, 'm> {
    node: &'n Node,
    /// `None`: the node is no mapping, which has been noted; then nothing further is.
    entries: Option<&'n [Entry]>,
    path: String,
    asked: Vec<&'static str>,
    mistakes: &'m mut Mistakes,
}

/// One element of a list with the path that names it in messages.
#[derive(Clone, Debug)]
pub struct Item<'n> {
    /// The element.
    pub node: &'n Node,
    /// For example `spec.egress.rules[2]`.
    pub path: String,
}

impl<'n, 'm> Fields<'n, 'm> {
    /// Starts decoding `node`, found at `path` (empty for a document's root).
    pub fn of(node: &'n Node, path: impl Into<String>, mistakes: &'m mut Mistakes) -> Self {
        let path = path.into();
        let entries = match &node.value {
            Value::Map(entries) => Some(entries.as_slice()),
            _ => {
                let message = format!("expected a mapping of fields, found {}", node.kind());
                mistakes.add(&node.file, node.line, &path, message);
                None
            }
        };
        Self { node, entries, path, asked: Vec::new(), mistakes }
    }

    /// Line on which the mapping starts.
    #[must_use]
    pub fn line(&self) -> usize {
        self.node.line
    }

    /// The path of a field of this mapping, for messages and for decoding its node.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The list of mistakes, for decoding a node of this mapping by other means.
    pub fn mistakes(&mut self) -> &mut Mistakes {
        self.mistakes
    }

    /// Notes a mistake about a field (at its line, or the mapping's where it is absent) or, with
    /// an empty name, about the mapping itself.
    pub fn mistake(&mut self, name: &str, message: impl Into<String>) {
        let line = self.entry(name).map_or(self.node.line, |e| e.line);
        let path = if name.is_empty() { self.path.clone() } else { self.path(name) };
        self.mistakes.add(&self.node.file, line, &path, message);
    }

    /// Whether the field is given (also when its value is wrong). Marks it as known.
    pub fn has(&mut self, name: &'static str) -> bool {
        self.ask(name);
        self.entry(name).is_some()
    }

    /// Whether the field is given as a list without elements. Marks it as known.
    pub fn is_empty_list(&mut self, name: &'static str) -> bool {
        self.ask(name);
        let value = self.entry(name).map(|e| &e.value.value);
        matches!(value, Some(Value::List(items)) if items.is_empty())
    }

    /// Any value. A field without a value is a mistake.
    pub fn node(&mut self, name: &'static str) -> Option<&'n Node> {
        self.ask(name);
        let node = &self.entry(name)?.value;
        if node.value == Value::Null {
            self.mistake(name, "has no value; give it one or remove the field");
            return None;
        }
        Some(node)
    }

    /// Any value, which must be given.
    pub fn required_node(&mut self, name: &'static str) -> Option<&'n Node> {
        self.require(name);
        self.node(name)
    }

    /// A mapping, ready to be decoded. Finish it before going on with this one.
    pub fn fields(&mut self, name: &'static str) -> Option<Fields<'n, '_>> {
        let node = self.node(name)?;
        let path = self.path(name);
        Some(Fields::of(node, path, self.mistakes))
    }

    /// A mapping that must be given.
    pub fn required_fields(&mut self, name: &'static str) -> Option<Fields<'n, '_>> {
        self.require(name);
        self.fields(name)
    }

    /// The elements of a list; empty when absent.
    pub fn list(&mut self, name: &'static str) -> Vec<Item<'n>> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.mistake(name, format!("expected a list, found {}", node.kind()));
            return Vec::new();
        };
        let path = self.path(name);
        let item = |(index, node)| Item { node, path: format!("{path}[{index}]") };
        items.iter().enumerate().map(item).collect()
    }

    /// Text.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    /// Text that must be given and not be empty; empty when it is not (and that is noted).
    pub fn required_string(&mut self, name: &'static str) -> String {
        let parse = |text: &str| match text {
            "" => Err("must not be empty".to_owned()),
            _ => Ok(text.to_owned()),
        };
        self.required_parsed(name, parse).unwrap_or_default()
    }

    /// Text made into something by `parse`, whose error message is noted.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(name)?;
        let path = self.path(name);
        parse_text(node, &path, self.mistakes, &parse)
    }

    /// As [`Self::parsed`]; the field must be given.
    pub fn required_parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.require(name);
        self.parsed(name, parse)
    }

    /// A list of texts; empty when absent.
    pub fn string_list(&mut self, name: &'static str) -> Vec<String> {
        self.parsed_list(name, |text| Ok(text.to_owned()))
    }

    /// A list of texts, each made into something by `parse`; wrong ones are noted and left out.
    pub fn parsed_list<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = self.list(name);
        let one = |item: Item<'n>| parse_text(item.node, &item.path, self.mistakes, &parse);
        items.into_iter().filter_map(one).collect()
    }

    /// A mapping from text to text, such as labels; empty when absent.
    pub fn string_map(&mut self, name: &'static str) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let Some(node) = self.node(name) else { return map };
        let Value::Map(entries) = &node.value else {
            self.mistake(name, format!("expected a mapping, found {}", node.kind()));
            return map;
        };
        for entry in entries {
            let path = format!("{}.{}", self.path(name), shown(&entry.key).trim_matches('`'));
            let text = parse_text(&entry.value, &path, self.mistakes, &|text| Ok(text.to_owned()));
            map.insert(entry.key.clone(), text.unwrap_or_default());
        }
        map
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        let node = self.node(name)?;
        if let Value::Bool(flag) = node.value {
            return Some(flag);
        }
        self.mistake(name, format!("expected true or false, found {}", node.kind()));
        None
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(name)?;
        let (least, most) = (range.start(), range.end());
        match node.value {
            Value::Integer(number) if range.contains(&number) => Some(number),
            Value::Integer(_) | Value::Float(_) => {
                self.mistake(name, format!("must be a whole number from {least} to {most}"));
                None
            }
            _ => {
                let found = node.kind();
                let message =
                    format!("expected a whole number from {least} to {most}, found {found}");
                self.mistake(name, message);
                None
            }
        }
    }

    /// A whole number within `range` that must be given.
    pub fn required_integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        self.require(name);
        self.integer(name, range)
    }

    /// One of a few words, each standing for a value.
    pub fn one_of<T: Clone>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| choice(text, choices))
    }

    /// As [`Self::one_of`]; the field must be given.
    pub fn required_one_of<T: Clone>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        self.require(name);
        self.one_of(name, choices)
    }

    /// Ends decoding: every field that was never asked for is noted as unknown.
    pub fn finish(self) {
        for entry in self.entries.unwrap_or_default() {
            if self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let mut message = "unknown field; ".to_owned();
            if let Some(near) = nearest(&entry.key, &self.asked) {
                message.push_str(&format!("did you mean `{near}`? "));
            }
            message.push_str(&format!("known fields: {}", self.asked.join(", ")));
            let path = self.path(shown(&entry.key).trim_matches('`'));
            self.mistakes.add(&self.node.file, entry.line, &path, message);
        }
    }

    fn ask(&mut self, name: &'static str) {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
    }

    fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.entries?.iter().find(|e| e.key == name)
    }

    fn require(&mut self, name: &'static str) {
        self.ask(name);
        if self.entries.is_some() && self.entry(name).is_none() {
            self.mistake(name, "is required; add it");
        }
    }
}

fn parse_text<T>(
    node: &Node,
    path: &str,
    mistakes: &mut Mistakes,
    parse: &impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let result = match &node.value {
        Value::Text(text) => parse(text),
        Value::List(_) | Value::Map(_) => Err(format!("expected text, found {}", node.kind())),
        _ => Err(format!("expected text, found {}; put it in quotes", node.kind())),
    };
    match result {
        Ok(value) => Some(value),
        Err(message) => {
            mistakes.add(&node.file, node.line, path, message);
            None
        }
    }
}

/// The value a word stands for.
///
/// # Errors
/// A message naming the known words and the nearest of them.
pub fn choice<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let near = nearest(text, &words);
    let (text, known) = (shown(text), words.join(", "));
    Err(match near {
        Some(near) => format!("{text} is not known; did you mean `{near}`? known: {known}"),
        None => format!("{text} is not known; known: {known}"),
    })
}

/// The known name that differs from `text` by at most a third of its letters.
fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &&str| edits(&text.to_lowercase(), &name.to_lowercase());
    let best = known.iter().copied().min_by_key(|name| distance(name))?;
    (distance(&best) <= best.chars().count().div_ceil(3)).then_some(best)
}

/// Edit distance (insert, remove, replace), one row of the table at a time.
fn edits(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST).enumerate() {
        let mut next = vec![i + 1];
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            let left = next.last().copied().unwrap_or_default();
            next.push((left + 1).min(above + 1).min(diagonal + usize::from(x != *y)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
