//! Golden tests of everything that shows records. `PCIGATE_BLESS=1` writes the files anew.

use std::path::Path;

use crate::row;
use crate::samples::records;
use crate::{record, record_view, table};

fn check(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PCIGATE_BLESS").is_some() {
        std::fs::write(&path, shown).expect("tests/golden can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file exists");
    assert_eq!(shown, golden, "{name} differs; if it should, run with PCIGATE_BLESS=1");
}

fn table(wide: bool) -> String {
    let mut rows = vec![row::HEADS.map(str::to_owned).to_vec()];
    if wide {
        rows[0].extend(row::MORE_HEADS.map(str::to_owned));
    }
    rows.extend((0..).zip(records()).map(|(index, record)| row::cells(index, &record, wide).0));
    rows.push(row::unreadable(99, "bad \u{1b} wire").0);
    table::lines(&rows, &[]).join("\n") + "\n"
}

#[test]
fn the_table_of_records_looks_as_agreed() {
    check("records.txt", &table(false));
}

#[test]
fn the_wide_table_of_records_looks_as_agreed() {
    check("records-wide.txt", &table(true));
}

#[test]
fn json_records_keep_their_field_names() {
    let mut text = String::new();
    for (index, record) in (0..).zip(records()) {
        text += &format!("{}\n", record_view::line(&record_view::json(index, &record)));
    }
    text += &format!("{}\n", record_view::line(&record_view::unreadable(99, "bad \u{9b} wire")));
    check("records.ndjson", &text);
}

#[test]
fn one_record_is_shown_in_full() {
    let shown = record_view::json(7, &records()[0]);
    check("record.txt", &(table::lines(&record::rows(&shown), &[]).join("\n") + "\n"));
}

#[test]
fn no_golden_output_holds_a_control_character() {
    for text in [table(false), table(true)] {
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
    }
}

#[test]
fn every_kind_of_record_has_a_sample_and_its_own_words() {
    let shown: Vec<String> = records()
        .iter()
        .filter_map(|record| record.event.as_ref())
        .map(|event| pcigate_proto::record::kind(event).to_owned())
        .collect();
    for kind in pcigate_proto::record::KINDS {
        assert!(shown.iter().any(|one| one == kind), "{kind}");
    }
}
