//! One spelling of a document's content, so that its hash changes only when its meaning may.

use std::fmt::Write;

use super::names::ObjectName;
use crate::yaml::{Node, Value};

/// Kind, name and `spec` as JSON with sorted keys and no blanks. Layout, comments, the order of
/// keys and metadata other than the name do not show; the order of lists does.
pub(super) fn of_document(root: &Node, name: &ObjectName) -> String {
    let kind = root.get("kind").and_then(Node::as_text).unwrap_or_default();
    let mut out = format!("{kind} {name} ");
    if let Some(spec) = root.get("spec") {
        write_value(spec, &mut out);
    }
    out
}

fn write_value(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
            let _ = write!(out, "{}", node.to_json());
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.key.cmp(&b.key));
            out.push('{');
            for (index, entry) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", serde_json::Value::from(entry.key.as_str()));
                write_value(&entry.value, out);
            }
            out.push('}');
        }
    }
}
