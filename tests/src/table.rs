//! A row of a table that `cargo xtask vm --write` keeps as docs/NAME.md: what this kernel says.

use std::io::Write;

/// Prints `table NAME: ROW | CELL`; a run is a column of the document, and names are known to
/// `xtask/src/tables.rs`.
///
/// # Panics
/// Standard output is closed, or a text holds what separates cells or lines.
pub fn row(name: &str, row: &str, cell: &str) {
    let plain = |text: &str| !text.contains(['|', '\n']);
    assert!(plain(row) && plain(cell), "`|` and line ends cannot be in a table: {row}, {cell}");
    // Not by `println!`, which the test harness keeps to itself when a test passes.
    let line = format!("\ntable {name}: {row} | {cell}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("standard output is open");
}

/// Prints a figure for people: no test asserts a time.
///
/// # Panics
/// Standard output is closed.
pub fn measured(what: &str) {
    let line = format!("\nmeasured: {what}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("standard output is open");
}
