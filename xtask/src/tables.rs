//! Tables that tests make as they run: gathered by kernel from their output, kept as docs/NAME.md.
//!
//! A test prints `table NAME: ROW | CELL` (`tests/src/table.rs`). A run, native or in a virtual
//! machine, is a column; what the rows of one name say of it is its cells.

mod document;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run;
use document::Document;

/// A table there may be; a line of any other is a mistake.
struct Known {
    name: &'static str,
    title: &'static str,
    /// Head of the first column.
    rows: &'static str,
    /// Whether a run whose cells differ from the document fails.
    exact: bool,
    /// What the document says above the table.
    text: &'static str,
}

const KNOWN: [Known; 2] = [
    Known {
        name: "bypass",
        title: "Ways around",
        rows: "way",
        exact: true,
        text: "What becomes of each way out of a governed workload, on each kernel.",
    },
    Known {
        name: "verifier-cost",
        title: "Cost of the programs at the verifier",
        rows: "program",
        exact: false,
        text: "Instructions the verifier looks at before it lets a program in \
               (`bpf_prog_info.verified_insns`), on each\nkernel. It gives up at 1,000,000; \
               a kernel test fails above the limit that\n\
               `tests/tests/kernel/verifier_cost.rs` states. `-` is a program that is not loaded \
               there.",
    },
];

const REMEDY: &str = "run `cargo xtask vm --all --write` as root and look at the difference";

/// What all runs of a chore printed.
#[derive(Default)]
pub struct Tables {
    /// Table, then column, then row.
    cells: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    /// Lines that are wrong, each as a sentence.
    wrong: Vec<String>,
}

/// How much of the tests a run had: a part cannot show that a row is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every test of this kernel.
    Whole,
    /// Those a person chose.
    Part,
}

impl Tables {
    /// Takes one line of what a test program printed on the kernel `column` stands for.
    pub fn take(&mut self, column: &str, line: &str) {
        let Some((name, rest)) = line.strip_prefix("table ").and_then(|l| l.split_once(": "))
        else {
            return;
        };
        if !KNOWN.iter().any(|known| known.name == name) {
            let why = "there is no table of this name in xtask/src/tables.rs";
            self.wrong.push(format!("`{line}`: {why}"));
            return;
        }
        let Some((row, cell)) = rest.split_once(" | ") else {
            self.wrong.push(format!("`{line}`: it has no ` | ` between row and cell"));
            return;
        };
        let columns = self.cells.entry(name.to_owned()).or_default();
        let rows = columns.entry(column.to_owned()).or_default();
        let before = rows.insert(row.to_owned(), cell.to_owned());
        if before.is_some_and(|before| before != cell) {
            self.wrong.push(format!("`{line}` on {column}: the row was told before, differently"));
        }
    }

    /// What is wrong with the lines, and where a document that has to be exact is not what was
    /// printed: a sentence each.
    ///
    /// # Errors
    /// A document is there and cannot be read.
    pub fn stale(&self, extent: Extent) -> Result<Vec<String>> {
        let mut all = self.wrong.clone();
        for (known, columns) in self.exact() {
            let Some(document) = read(known)? else {
                all.push(format!("docs/{}.md is missing: {REMEDY}", known.name));
                continue;
            };
            for (column, rows) in columns {
                let found = document.differences(column, rows, extent);
                let place = format!("docs/{}.md, {column}", known.name);
                all.extend(found.iter().map(|what| format!("stale: {place}: {what}: {REMEDY}")));
            }
        }
        Ok(all)
    }

    /// Writes what was printed into the documents; the columns of other runs stay.
    ///
    /// # Errors
    /// A document cannot be read or written.
    pub fn write(&self, extent: Extent, order: &[String]) -> Result<()> {
        for known in &KNOWN {
            let Some(columns) = self.cells.get(known.name) else { continue };
            let mut document = read(known)?.unwrap_or_default();
            for (column, rows) in columns {
                document.put(column, rows, extent);
            }
            document.sort(order);
            let path = path(known);
            let text = document.render(known.title, known.rows, known.text);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("written: {}", path.display());
        }
        Ok(())
    }

    fn exact(&self) -> impl Iterator<Item = (&Known, &BTreeMap<String, BTreeMap<String, String>>)> {
        let exact = KNOWN.iter().filter(|known| known.exact);
        exact.filter_map(|known| Some((known, self.cells.get(known.name)?)))
    }
}

/// The column of a run on this machine's own kernel.
pub fn native() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = text("/proc/sys/kernel/osrelease");
    let series: Vec<&str> = release.trim().splitn(3, ['.', '-']).take(2).collect();
    let has_lsm = text("/sys/kernel/security/lsm").trim().split(',').any(|module| module == "bpf");
    let lsm = if has_lsm { "BPF-LSM" } else { "no BPF-LSM" };
    format!("native {} ({lsm})", series.join("."))
}

fn path(known: &Known) -> PathBuf {
    run::root().join("docs").join(format!("{}.md", known.name))
}

fn read(known: &Known) -> Result<Option<Document>> {
    let path = path(known);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(Some(Document::parse(&text)))
}

#[cfg(test)]
mod tests {
    use super::{Extent, KNOWN, Tables};

    #[test]
    fn a_line_of_a_table_nobody_knows_or_without_a_cell_is_wrong() {
        let mut tables = Tables::default();
        for line in ["table bypas: a | b", "table bypass: a", "table verifier-cost: a | 1"] {
            tables.take("6.1", line);
        }
        tables.take("6.1", "table verifier-cost: a | 1");
        tables.take("6.12", "table verifier-cost: a | 2");
        assert_eq!(tables.stale(Extent::Whole).unwrap().len(), 2);
        tables.take("6.12", "table verifier-cost: a | 3");
        assert_eq!(tables.stale(Extent::Whole).unwrap().len(), 3);
    }

    #[test]
    fn other_lines_are_no_rows() {
        let mut tables = Tables::default();
        tables.take("6.1", "test table bypass: a | b ... ok");
        tables.take("6.1", "tables: a | b");
        assert!(tables.cells.is_empty() && tables.wrong.is_empty());
    }

    #[test]
    fn every_document_is_what_its_own_cells_render() {
        for known in &KNOWN {
            let Some(document) = super::read(known).unwrap() else { continue };
            let written = std::fs::read_to_string(super::path(known)).unwrap();
            let rendered = document.render(known.title, known.rows, known.text);
            assert!(written == rendered, "docs/{}.md was changed by hand", known.name);
        }
    }
}
