//! Kept traffic as a transcript in the manner of psql: text from outside, none of which can steer
//! a terminal or begin a message of its own.
//!
//! A kept line is a message: its name and then its parts, a tab before each, escaped as
//! docs/record.md says. What is none of these is shown all the same, escaped.

use super::words::{escaped, several};

/// A part of a message.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Null,
    Text(String),
    /// Of bytes that are no text, their digits.
    Bytes(String),
}

/// The lines of a transcript for one record of traffic: for each message at least one, further
/// ones where its text has several.
pub fn messages(text: &str) -> Vec<Vec<String>> {
    text.strip_suffix('\n').unwrap_or(text).split('\n').map(message).collect()
}

fn message(line: &str) -> Vec<String> {
    let mut fields = line.split('\t');
    let name = fields.next().unwrap_or_default();
    let parts: Vec<Part> = fields.map(part).collect();
    let words: Vec<String> = parts.iter().map(word).collect();
    let all = || words.join(" | ");
    match (name, parts.as_slice()) {
        ("Query", [Part::Text(sql)]) => several(sql),
        ("Parse", [Part::Text(statement), Part::Text(sql)]) => named("Parse", statement, sql),
        ("RowDescription", _) => {
            let rule = words.iter().map(|name| "-".repeat(name.chars().count().max(1)));
            vec![all(), rule.collect::<Vec<_>>().join("-+-")]
        }
        ("DataRow", _) => vec![all()],
        ("CommandComplete", [_]) => vec![all()],
        ("ErrorResponse" | "NoticeResponse", [Part::Text(_), _, Part::Text(said), ..]) => {
            report(&words, said)
        }
        ("CopyData", [Part::Text(data)]) => {
            several(data).into_iter().map(|line| format!("copy: {line}")).collect()
        }
        ("CopyData", [_]) => vec![format!("copy: {}", all())],
        ("NotificationResponse", [_, _]) => vec![format!("notification {}", words.join(": "))],
        ("Execute", [Part::Text(portal)]) if portal.is_empty() => vec!["Execute".to_owned()],
        _ => vec![format!("{} {}", escaped(name), all()).trim_end().to_owned()],
    }
}

/// Severity, SQLSTATE and message as the server orders them; then details and hints.
fn report(words: &[String], said: &str) -> Vec<String> {
    let mut said = several(said).into_iter();
    let (severity, state) = (words.first(), words.get(1));
    let (severity, state) = (severity.map_or("", String::as_str), state.map_or("", String::as_str));
    let first = said.next().unwrap_or_default();
    let mut lines = vec![format!("{severity}:  {first}  [{state}]")];
    lines.extend(said);
    lines.extend(words.iter().skip(3).cloned());
    lines
}

fn named(what: &str, name: &str, text: &str) -> Vec<String> {
    let mut lines = several(text);
    if let Some(first) = lines.first_mut() {
        let name = if name.is_empty() { String::new() } else { format!(" {}", escaped(name)) };
        first.insert_str(0, &format!("{what}{name}: "));
    }
    lines
}

fn word(part: &Part) -> String {
    match part {
        Part::Null => "NULL".to_owned(),
        Part::Text(text) => escaped(text),
        Part::Bytes(digits) => format!("\\x{}", escaped(digits)),
    }
}

/// Takes a part's escapes back. What was cut ends in `…`.
fn part(field: &str) -> Part {
    if field == "\\N" {
        return Part::Null;
    }
    if let Some(digits) = field.strip_prefix("\\x") {
        return Part::Bytes(digits.replace("\\.", "…"));
    }
    let mut text = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('.') => text.push('…'),
            Some('\\') | None => text.push('\\'),
            Some(other) => text.extend(['\\', other]),
        }
    }
    Part::Text(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::is_tricky;

    fn shown(text: &str) -> Vec<String> {
        messages(text).concat()
    }

    #[test]
    fn a_query_and_its_answer_look_like_psql() {
        let text = "RowDescription\tid\tpan\tcvv\nDataRow\t1\t411111******1111\t\\N\n\
                    CommandComplete\tSELECT 1\n";
        assert_eq!(
            shown(text),
            ["id | pan | cvv", "---+-----+----", "1 | 411111******1111 | NULL", "SELECT 1"]
        );
        assert_eq!(shown("Query\tSELECT 1,\\n\\t2\n"), ["SELECT 1,", "    2"]);
        assert_eq!(
            shown("Parse\ts1\tSELECT $1\nBind\t7\t\\N\nExecute\t\n").join("; "),
            "Parse s1: SELECT $1; Bind 7 | NULL; Execute"
        );
        assert_eq!(
            shown("ErrorResponse\tERROR\t42501\tpcigate: no\trule: x\tAsk.\n"),
            ["ERROR:  pcigate: no  [42501]", "rule: x", "Ask."]
        );
        assert_eq!(shown("CopyData\t1\\ttea\\n\n"), ["copy: 1    tea"]);
        assert_eq!(shown("NotificationResponse\tjobs\t7\n"), ["notification jobs: 7"]);
    }

    #[test]
    fn a_value_cannot_steer_the_terminal_or_forge_a_line() {
        let text = "DataRow\t\u{1b}[2J\\n< DROP TABLE\t\\x1b5b324a\tx\u{9b}y\\.\n";
        assert_eq!(shown(text), ["\\x1b[2J\\n< DROP TABLE | \\x1b5b324a | x\\x9by…"]);
        assert_eq!(shown("who\u{1b}\tknows\n"), ["who\\x1b knows"]);
    }

    proptest! {
        #[test]
        fn any_text_is_shown_without_a_control_character(
            text in prop_oneof![
                any::<String>(),
                "(Query|DataRow|Parse|CopyData|X)(\t(.|\n|\\\\[Nxnrt.]|\x1b){0,9}){0,5}",
                "(Error|Notice)Response(\t(.|\n|\\\\[Nxnrt.]|\x1b){0,9}){2,5}",
            ]
        ) {
            for lines in messages(&text) {
                prop_assert!(!lines.is_empty());
                prop_assert!(lines.iter().all(|line| !line.chars().any(is_tricky)), "{lines:?}");
            }
        }

        #[test]
        fn foreign_bytes_are_shown_too(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for lines in messages(&String::from_utf8_lossy(&bytes)) {
                prop_assert!(lines.iter().all(|line| !line.chars().any(is_tricky)), "{lines:?}");
            }
        }
    }
}
