//! A value of an answer as a cell of a table, as JSON and as CSV. Text cannot steer a terminal.

use std::collections::BTreeSet;

use pcigate_proto::SqlValue;
use pcigate_proto::sql_value::Value;
use serde_json::json;

use crate::record_view::safe;
use crate::table::plain;
use crate::time;

/// How a table shows that there is no value.
const NULL: &str = "NULL";

/// The names of columns, each once: a name that comes again gets a number (`leaf`, `leaf_2`).
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    names
        .map(|name| {
            let mut distinct = name.to_owned();
            let mut number = 2_u32;
            while !taken.insert(distinct.clone()) {
                distinct = format!("{name}_{number}");
                number = number.saturating_add(1);
            }
            distinct
        })
        .collect()
}

/// A cell of the table.
pub fn cell(value: &SqlValue) -> String {
    match &value.value {
        None => NULL.to_owned(),
        Some(Value::TimeUnixNano(time)) => time::shortest(*time),
        Some(value) => plain(&text(value)),
    }
}

/// A row as one JSON object, its fields in the order of the columns. Numbers have all their
/// digits; a real number JSON cannot write is a string; bytes are hex.
pub fn json(names: &[String], values: &[SqlValue]) -> String {
    let fields = names.iter().zip(values).map(|(name, value)| {
        let value = match &value.value {
            None => json!(null),
            Some(Value::Boolean(value)) => json!(value),
            Some(Value::Integer(value)) => json!(value),
            Some(Value::Unsigned(value)) => json!(value),
            Some(Value::Real(value)) if value.is_finite() => json!(value),
            Some(value) => json!(text(value)),
        };
        format!("{}:{value}", json!(name))
    });
    safe(&format!("{{{}}}", fields.collect::<Vec<_>>().join(",")))
}

/// The line of names.
pub fn csv_head(names: &[String]) -> String {
    names.iter().map(|name| csv_text(name)).collect::<Vec<_>>().join(",")
}

/// A row of CSV (RFC 4180). NULL is empty, an empty text is `""`.
pub fn csv(values: &[SqlValue]) -> String {
    let fields = values.iter().map(|value| match &value.value {
        None => String::new(),
        Some(Value::Text(text)) => csv_text(text),
        Some(value) => text(value),
    });
    fields.collect::<Vec<_>>().join(",")
}

/// Text is quoted where it must be. A spreadsheet runs what begins like a formula, and whoever
/// is recorded chooses their own arguments: a `'` in front makes it text.
fn csv_text(text: &str) -> String {
    let shown = plain(text);
    let formula = shown.starts_with(['=', '+', '-', '@']);
    let shown = if formula { format!("'{shown}") } else { shown };
    if shown.is_empty() || shown.contains(['"', ',', ' ']) {
        format!("\"{}\"", shown.replace('"', "\"\""))
    } else {
        shown
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Real(value) => format!("{value:?}"),
        Value::Text(value) => value.clone(),
        Value::Binary(value) => hex::encode(value),
        Value::TimeUnixNano(value) => time::exact(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<SqlValue> {
        [
            None,
            Some(Value::Boolean(true)),
            Some(Value::Integer(-5)),
            Some(Value::Unsigned(u64::MAX)),
            Some(Value::Real(0.5)),
            Some(Value::Real(f64::NAN)),
            Some(Value::Text("a\u{1b}[2J, \"b\"\n\u{202e}é".into())),
            Some(Value::Text(String::new())),
            Some(Value::Text("=cmd()".into())),
            Some(Value::Binary(vec![0, 255])),
            Some(Value::TimeUnixNano(1_795_381_486_000_000_001)),
            Some(Value::TimeUnixNano(1_795_381_440_000_000_000)),
            Some(Value::TimeUnixNano(-1)),
        ]
        .map(|value| SqlValue { value })
        .into()
    }

    #[test]
    fn a_table_shows_null_and_escapes_what_steers_a_terminal() {
        let cells: Vec<String> = values().iter().map(cell).collect();
        assert_eq!(
            cells,
            [
                "NULL",
                "true",
                "-5",
                "18446744073709551615",
                "0.5",
                "NaN",
                "a\\u{1b}[2J, \"b\"\\n\\u{202e}é",
                "",
                "=cmd()",
                "00ff",
                "2026-11-22T21:04:46.000000001Z",
                "2026-11-22T21:04:00Z",
                "1969-12-31T23:59:59.999999999Z",
            ]
        );
    }

    #[test]
    fn json_keeps_the_order_and_every_digit() {
        let names = distinct(["z", "b", "i", "u", "r", "n", "t"].into_iter());
        assert_eq!(
            json(&names, &values()[..7]),
            "{\"z\":null,\"b\":true,\"i\":-5,\"u\":18446744073709551615,\"r\":0.5,\"n\":\"NaN\",\
             \"t\":\"a\\u001b[2J, \\\"b\\\"\\n\\u202eé\"}"
        );
        let read: serde_json::Value = serde_json::from_str(&json(&names, &values()[..7])).unwrap();
        assert_eq!(read["t"], "a\u{1b}[2J, \"b\"\n\u{202e}é");
    }

    #[test]
    fn csv_tells_null_from_empty_and_starts_no_formula() {
        assert_eq!(
            csv(&values()),
            ",true,-5,18446744073709551615,0.5,NaN,\"a\\u{1b}[2J, \"\"b\"\"\\n\\u{202e}é\",\"\",\
             '=cmd(),00ff,2026-11-22T21:04:46.000000001Z,2026-11-22T21:04:00.000000000Z,\
             1969-12-31T23:59:59.999999999Z"
        );
        assert_eq!(csv_head(&["count(*)".to_owned(), "a,b".to_owned()]), "count(*),\"a,b\"");
    }

    #[test]
    fn a_name_that_comes_twice_gets_a_number() {
        assert_eq!(
            distinct(["leaf", "leaf", "leaf_2"].into_iter()),
            ["leaf", "leaf_2", "leaf_2_2"]
        );
    }
}
