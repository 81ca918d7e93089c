//! One table as a Markdown document: read, changed by the columns of a run, written.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Extent;

/// A cell nothing was said for.
const NOTHING: &str = "";

/// Columns in their order; rows in the order of their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Document {
    columns: Vec<String>,
    /// By row, then column.
    cells: BTreeMap<String, BTreeMap<String, String>>,
}

impl Document {
    /// Reads what [`Self::render`] wrote; lines that are no table are passed over.
    pub fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut lines = text.lines().filter(|line| line.starts_with('|')).map(cells_of);
        let Some(head) = lines.next() else { return document };
        document.columns = head.into_iter().skip(1).collect();
        // The line under the head.
        lines.next();
        for line in lines {
            let mut cells = line.into_iter();
            let Some(row) = cells.next() else { continue };
            let told = document.columns.iter().cloned().zip(cells);
            let told = told.filter(|(_, cell)| cell != NOTHING).collect();
            document.cells.insert(row, told);
        }
        document
    }

    /// Where the cells of a column are not these; nothing where the document has no such column.
    pub fn differences(
        &self,
        column: &str,
        rows: &BTreeMap<String, String>,
        extent: Extent,
    ) -> Vec<String> {
        if !self.columns.iter().any(|known| known == column) {
            return Vec::new();
        }
        let kept = |row: &str| self.cells.get(row).and_then(|cells| cells.get(column));
        let mut found = Vec::new();
        for (row, cell) in rows {
            match kept(row) {
                Some(kept) if kept == cell => {}
                Some(kept) => found.push(format!("`{row}` is `{cell}`, not `{kept}`")),
                None => found.push(format!("`{row}` is `{cell}`, and was not there")),
            }
        }
        let all = self.cells.keys().filter(|_| extent == Extent::Whole);
        let gone = all.filter(|row| kept(row).is_some() && !rows.contains_key(*row));
        found.extend(gone.map(|row| format!("no test tells of `{row}`")));
        found
    }

    /// Makes the cells of a column these; of a part of a run, only those it told.
    pub fn put(&mut self, column: &str, rows: &BTreeMap<String, String>, extent: Extent) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        if extent == Extent::Whole {
            self.cells.values_mut().for_each(|cells| drop(cells.remove(column)));
        }
        for (row, cell) in rows {
            let cells = self.cells.entry(row.clone()).or_default();
            cells.insert(column.to_owned(), cell.clone());
        }
        self.cells.retain(|_, cells| !cells.is_empty());
    }

    /// Columns in the order of these names, native ones first, others last.
    pub fn sort(&mut self, order: &[String]) {
        self.columns.sort_by_key(|column| {
            let at = order.iter().position(|name| name == column);
            (!column.starts_with("native "), at.unwrap_or(order.len()))
        });
    }

    /// The document.
    pub fn render(&self, title: &str, rows: &str, text: &str) -> String {
        let mut out = format!("# {title}\n\n{text}\n\nMade by `cargo xtask vm --all --write`.\n\n");
        let mut line = |first: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells: String = cells.fold(String::new(), |all, cell| all + " | " + cell);
            // A `String` takes everything.
            let _ = writeln!(out, "| {first}{cells} |");
        };
        line(rows, &mut self.columns.iter().map(String::as_str));
        line("---", &mut self.columns.iter().map(|_| "---"));
        for (row, cells) in &self.cells {
            let of = |column| cells.get(column).map_or(NOTHING, String::as_str);
            line(row, &mut self.columns.iter().map(of));
        }
        out
    }
}

/// The cells of `| a | b |`.
fn cells_of(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split(" | ").map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Document, Extent};

    fn rows(cells: &[(&str, &str)]) -> BTreeMap<String, String> {
        cells.iter().map(|(row, cell)| ((*row).to_owned(), (*cell).to_owned())).collect()
    }

    fn two_columns() -> Document {
        let mut document = Document::default();
        document.put("6.1", &rows(&[("b", "1"), ("a", "2")]), Extent::Whole);
        document.put("native 6.18", &rows(&[("b", "3")]), Extent::Whole);
        document.sort(&["6.1".to_owned()]);
        document
    }

    #[test]
    fn what_was_written_is_read_back() {
        let document = two_columns();
        let text = document.render("Title", "row", "Words.");
        let table = "| row | native 6.18 | 6.1 |\n| --- | --- | --- |\n\
                     | a |  | 2 |\n| b | 3 | 1 |\n";
        assert!(text.ends_with(table), "{text}");
        assert_eq!(Document::parse(&text), document);
    }

    #[test]
    fn a_changed_a_new_and_a_missing_row_are_differences() {
        let document = two_columns();
        let same = rows(&[("a", "2"), ("b", "1")]);
        assert!(document.differences("6.1", &same, Extent::Whole).is_empty());
        assert!(document.differences("7.3", &same, Extent::Whole).is_empty(), "no such column");
        let other = rows(&[("a", "9"), ("c", "1")]);
        let found = document.differences("6.1", &other, Extent::Whole);
        let expected =
            ["`a` is `9`, not `2`", "`c` is `1`, and was not there", "no test tells of `b`"];
        assert_eq!(found, expected);
        assert_eq!(document.differences("6.1", &other, Extent::Part).len(), 2);
    }

    #[test]
    fn a_part_of_a_run_changes_only_what_it_told_and_a_whole_one_drops_what_is_gone() {
        let mut document = two_columns();
        document.put("6.1", &rows(&[("b", "7")]), Extent::Part);
        let both = rows(&[("a", "2"), ("b", "7")]);
        assert!(document.differences("6.1", &both, Extent::Whole).is_empty());
        document.put("6.1", &rows(&[("b", "8")]), Extent::Whole);
        assert!(!document.render("", "", "").contains("| a |"));
    }
}
