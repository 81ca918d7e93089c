//! Columns of text for people: widths, colour, and text that cannot play tricks on a terminal.

use std::io::{self, IsTerminal};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

/// How a line stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// Column heads.
    Head,
    /// Something was refused.
    Refused,
    /// Something is missing or needs a look.
    Warning,
}

/// Lays out rows of cells, one line per row. `widths` are the least widths of the columns.
pub fn lines(rows: &[Vec<String>], widths: &[u16]) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row);
    }
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether stdout is a terminal that wants colour (`NO_COLOR` is not set).
pub fn wants_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The line in the colour of its tone.
pub fn coloured(line: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        _ if !colour => return line.to_owned(),
        Tone::Plain => return line.to_owned(),
        Tone::Head => "1",
        Tone::Refused => "31",
        Tone::Warning => "33",
    };
    format!("\u{1b}[{code}m{line}\u{1b}[0m")
}

/// Text from outside, safe to show: tricky letters are written as escapes.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_tricky(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether a letter can steer a terminal or reorder what is read: control characters (C0, DEL, C1),
/// separators of lines, and the marks of writing direction.
pub fn is_tricky(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}')
}

/// The beginning of a text of more than `max` characters, with `…`.
pub fn beginning(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The end of a text of more than `max` characters, with `…`.
pub fn ending(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(count - max.saturating_sub(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_keep_their_least_width() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(lines(&rows, &[]), ["A     B", "long  x"]);
        assert_eq!(lines(&rows, &[6]), ["A     B", "long  x"]);
        assert_eq!(lines(&rows, &[10]), ["A         B", "long      x"]);
    }

    #[test]
    fn a_record_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{9b}c\u{202e}d→é"), "a\\u{1b}[2Jb\\n\\u{9b}c\\u{202e}d→é");
    }

    #[test]
    fn long_text_is_cut_where_it_matters_least() {
        assert_eq!(beginning("abcdef", 4), "abc…");
        assert_eq!(ending("/usr/bin/curl", 6), "…/curl");
        assert_eq!((beginning("abcd", 4), ending("abcd", 4)), ("abcd".into(), "abcd".into()));
    }

    #[test]
    fn colour_is_only_used_when_asked_for() {
        assert_eq!(coloured("x", Tone::Refused, false), "x");
        assert_eq!(coloured("x", Tone::Refused, true), "\u{1b}[31mx\u{1b}[0m");
    }
}
