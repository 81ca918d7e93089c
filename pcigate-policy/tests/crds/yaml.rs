//! JSON as YAML that people can read.

use serde_json::Value;

/// A file that says where it comes from.
pub fn file(value: &Value) -> String {
    let mut out = "# Made from pcigate-policy/tests/crds by PCIGATE_BLESS=1 cargo test -p \
                   pcigate-policy --test crds.\n"
        .to_owned();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                out.push_str(&format!("{pad}{}:", text(key)));
                inside(value, indent + 2, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut inner = String::new();
                        block(item, indent + 2, &mut inner);
                        out.push_str(&format!("{pad}- {}", inner.trim_start()));
                    }
                    _ => {
                        out.push_str(&format!("{pad}-"));
                        inside(item, indent + 2, out);
                    }
                }
            }
        }
        _ => {}
    }
}

fn inside(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if fields.is_empty() => out.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Object(_) => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::Array(_) => {
            out.push('\n');
            block(value, indent - 2, out);
        }
        Value::String(string) => out.push_str(&format!(" {}\n", text(string))),
        other => out.push_str(&format!(" {other}\n")),
    }
}

/// Plain where nothing in it could be read as something else; otherwise quoted as JSON has it.
fn text(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.');
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./,;()+=".contains(c);
    let lower = text.to_ascii_lowercase();
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins && text.chars().all(plain) && !words.contains(&&*lower) && !text.ends_with(' ') {
        return text.to_owned();
    }
    Value::from(text).to_string()
}
