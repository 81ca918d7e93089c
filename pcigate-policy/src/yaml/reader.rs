//! From text to nodes: runs the YAML parser's events, refuses duplicate keys, aliases, foreign
//! tags and endless nesting. Iterative, so that no text can exhaust the stack.

use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::mistakes::{Mistakes, shown};
use super::node::{Entry, Node, Value};
use super::scalar;

/// Deepest nesting of lists and mappings that is read; more is refused.
pub const DEPTH_MAX: usize = 64;

/// Reads all documents of a stream. Documents without content are left out.
///
/// # Errors
/// Every duplicate key, alias and foreign tag, and the first syntax error (nothing is readable
/// after it).
pub fn read(file: &str, text: &str) -> Result<Vec<Node>, Mistakes> {
    let mut builder = Builder {
        file: Arc::from(file),
        open: Vec::new(),
        documents: Vec::new(),
        mistakes: Mistakes::default(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => {
                if !builder.event(event, span) {
                    break;
                }
            }
            Err(error) => {
                let message = format!("not valid YAML: {}", error.info());
                builder.mistakes.add(file, error.marker().line(), "", message);
                break;
            }
        }
    }
    builder.mistakes.into_result(builder.documents)
}

/// Reads a stream that must hold exactly one document, such as a configuration file.
///
/// # Errors
/// As [`read`], and when there is no document or more than one.
pub fn read_one(file: &str, text: &str) -> Result<Node, Mistakes> {
    let mut documents = read(file, text)?;
    let mut mistakes = Mistakes::default();
    if let Some(second) = documents.get(1) {
        let message = "a second document; write everything into one document";
        mistakes.add(file, second.line, "", message);
        return Err(mistakes);
    }
    documents.pop().ok_or_else(|| {
        mistakes.add(file, 0, "", "the file is empty; write at least one field");
        mistakes
    })
}

/// A list or mapping whose end has not been seen.
enum Open {
    List { line: usize, items: Vec<Node> },
    Map { line: usize, entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, usize)> },
}

struct Builder {
    file: Arc<str>,
    open: Vec<Open>,
    documents: Vec<Node>,
    mistakes: Mistakes,
}

impl Builder {
    /// Takes one event; false when reading cannot go on.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, _, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), line);
                if self.wants_key() {
                    return self.key(text.into_owned(), line, &value);
                }
                self.place(line, value);
            }
            Event::SequenceStart(_, tag) => {
                self.collection_tag(tag.as_deref(), "seq", line);
                return self.start(line, Open::List { line, items: Vec::new() });
            }
            Event::MappingStart(_, tag) => {
                self.collection_tag(tag.as_deref(), "map", line);
                let (entries, seen) = (Vec::new(), HashSet::new());
                return self.start(line, Open::Map { line, entries, seen, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { line, items }) => self.place(line, Value::List(items)),
                Some(Open::Map { line, entries, .. }) => self.place(line, Value::Map(entries)),
                None => {}
            },
            Event::Alias(_) => {
                self.wrong(line, "an alias (`*name`) is not supported; write the value out");
                if self.wants_key() {
                    return false;
                }
                self.place(line, Value::Null);
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        true
    }

    fn start(&mut self, line: usize, open: Open) -> bool {
        if self.wants_key() {
            self.wrong(line, "a key is a list or a mapping; keys must be text");
            return false;
        }
        if self.open.len() >= DEPTH_MAX {
            self.wrong(line, format!("nested deeper than {DEPTH_MAX} levels"));
            return false;
        }
        self.open.push(open);
        true
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, text: String, line: usize, value: &Value) -> bool {
        if matches!(value, Value::Null) {
            self.wrong(line, "a key is missing before `:`; keys must be text");
        }
        if let Some(Open::Map { key, .. }) = self.open.last_mut() {
            *key = Some((text, line));
        }
        true
    }

    fn place(&mut self, line: usize, value: Value) {
        let node = Node { file: Arc::clone(&self.file), line, value };
        match self.open.last_mut() {
            None => {
                if node.value != Value::Null {
                    self.documents.push(node);
                }
            }
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => {
                let Some((key, line)) = key.take() else { return };
                if seen.insert(key.clone()) {
                    entries.push(Entry { key, line, value: node });
                } else {
                    let message = "given twice in the same mapping; remove one of the two";
                    self.mistakes.add(&self.file, line, shown(&key).trim_matches('`'), message);
                }
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Value {
        match tag {
            None if style == ScalarStyle::Plain => scalar::plain(text),
            None => Value::Text(text.to_owned()),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                Value::Text(text.to_owned())
            }
            Some(tag) => {
                self.foreign_tag(tag, line);
                Value::Text(text.to_owned())
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, own: &str, line: usize) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            self.foreign_tag(tag, line);
        }
    }

    fn foreign_tag(&mut self, tag: &Tag, line: usize) {
        let name = shown(&format!("{}{}", tag.handle, tag.suffix));
        self.wrong(line, format!("the tag {name} is not supported; remove it"));
    }

    fn wrong(&mut self, line: usize, message: impl Into<String>) {
        self.mistakes.add(&self.file, line, "", message);
    }
}
