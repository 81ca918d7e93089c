//! Words and figures of sessions: durations, what was masked, text that cannot steer a terminal.

use std::collections::BTreeMap;

use crate::table::is_tricky;

/// Milliseconds, seconds, or hours, minutes and seconds.
pub fn duration(nanoseconds: u64) -> String {
    let millis = nanoseconds / 1_000_000;
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}.{} ms", nanoseconds / 100_000 % 10),
        1..60 => format!("{seconds}.{:03} s", millis % 1_000),
        _ => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

/// `; masked 3 pan, 1 cvv`, or nothing.
pub fn findings(masked: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = masked.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if words.is_empty() { String::new() } else { format!("; masked {}", words.join(", ")) }
}

/// Text from outside on one line: what could steer a terminal is written as an escape (`\x1b`,
/// `\n`, `\u{202e}`).
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if !is_tricky(letter) => shown.push(letter),
            _ if u32::from(letter) < 0x100 => {
                shown.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            _ => shown.extend(letter.escape_unicode()),
        }
    }
    shown
}

/// A text of several lines, each safe; tabs become spaces. At least one line.
pub fn several(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\t').map(escaped).collect::<Vec<_>>().join("    ")
    };
    text.trim_end_matches(['\n', '\r']).split('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_as_an_escape() {
        let text = "a\u{1b}[2J\u{7f}\u{9b}\u{0}\n\r\t\u{202e}é→";
        assert_eq!(escaped(text), "a\\x1b[2J\\x7f\\x9b\\x00\\n\\r\\t\\u{202e}é→");
        assert_eq!(several("SELECT\r\n\t1\u{1b}c\n\n"), ["SELECT", "    1\\x1bc"]);
        assert_eq!(several(""), [""]);
    }

    #[test]
    fn durations_are_told_as_people_say_them() {
        let cases = [
            (1_560_000, "1.5 ms"),
            (12_345_678_901, "12.345 s"),
            (3_723_000_000_000, "1:02:03"),
            (0, "0.0 ms"),
        ];
        for (nanoseconds, words) in cases {
            assert_eq!(duration(nanoseconds), words);
        }
    }
}
