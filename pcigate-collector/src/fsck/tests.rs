//! What fsck finds in ledgers that are right, damaged, or hold what they should not.

use std::{fs, path::PathBuf};

use pcigate_proto::{
    Component, Coverage, Gap, Message, Origin, Outcome, Record, Result as Success,
    coverage::State,
    record::{Event, Subject},
};
use tempfile::TempDir;

use super::*;
use crate::{
    index::Index,
    ledger::{Leaf, Ledger},
    records,
};

const LOG: &str = "test/log";

fn node(seq: u64) -> Record {
    let coverage = Coverage { state: State::Change.into(), ..<_>::default() };
    Record {
        origin: Some(Origin { node: "n".into(), epoch: vec![7; 16], seq, kernel: None }),
        time_unix_nano: 1,
        subject: Some(Subject::Component(Component { name: "agent".into(), ..<_>::default() })),
        outcome: Some(Outcome { result: Success::Success.into(), ..<_>::default() }),
        event: Some(Event::Coverage(coverage)),
        ..Record::default()
    }
}

fn gap(first_seq: u64, last_seq: u64) -> Record {
    let gap = Gap { node: "n".into(), epoch: vec![7; 16], first_seq, last_seq, ..<_>::default() };
    records::own(LOG, Event::Gap(gap))
}

/// A state directory whose ledger holds these records.
fn ledger(records: &[Record]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), LOG).unwrap();
    let leaves: Vec<_> = records.iter().map(|record| Leaf::new(record.encode_to_vec())).collect();
    ledger.commit(&leaves).unwrap();
    dir
}

fn found(dir: &TempDir) -> Findings {
    fsck(dir.path(), |_, _| ()).unwrap()
}

fn wrong(records: &[Record]) -> Vec<(u64, String)> {
    let found = found(&ledger(records));
    assert!(found.verified.is_ok());
    assert_eq!(found.is_ok(), found.wrong.is_empty());
    found.wrong.into_iter().map(|wrong| (wrong.leaf, wrong.why)).collect()
}

/// Writes the cursors as a collector does at its end.
fn save(dir: &TempDir) -> PathBuf {
    let ledger = Ledger::open(dir.path(), LOG).unwrap();
    let mut index = Index::open(dir.path(), &ledger.source(), ledger.durable()).unwrap();
    index.save(dir.path(), ledger.durable(), true);
    dir.path().join("index/cursors")
}

#[test]
fn a_ledger_with_gaps_that_are_told_is_right() {
    let mut records: Vec<_> = (1..=600).map(node).collect();
    records.push(records::coverage(LOG, State::Start));
    records.push(gap(601, 700));
    records.push(node(701));
    records.push(gap(702, 0));
    records.push(node(702));
    let dir = ledger(&records);
    save(&dir);
    let mut told = Vec::new();
    let found = fsck(dir.path(), |leaves, all| told.push((leaves, all))).unwrap();
    assert!(found.is_ok(), "{found:?}");
    assert_eq!((found.records, found.spools, found.gaps), (602, 1, (2, 100)));
    assert_eq!(found.cursors, CursorState::Right(605));
    assert_eq!(found.left_over, LeftOver::default());
    assert_eq!(told, [(256, 605), (512, 605), (605, 605)]);
}

#[test]
fn a_hole_a_repeat_and_a_gap_out_of_place_are_named_by_their_leaf() {
    let found = wrong(&[node(1), node(3)]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 1);
    assert!(found[0].1.contains("it is seq 3 of node n"), "{}", found[0].1);
    assert!(found[0].1.contains("although seq 2 comes next"), "{}", found[0].1);
    let found = wrong(&[node(1), node(2), node(2), node(3)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == 2 && found[0].1.contains("which an earlier leaf accounts for"));
    let found = wrong(&[node(1), gap(3, 4), node(5)]);
    assert!(found.len() == 1 && found[0].1.contains("it is a Gap from seq 3"), "{found:?}");
    let found = wrong(&[node(1), gap(5, 2)]);
    assert!(found.len() == 1 && found[0].1.contains("backwards"), "{found:?}");
}

#[test]
fn an_incomplete_record_and_one_that_speaks_for_others_are_named() {
    let nobody = Record { subject: None, ..node(2) };
    let mut other = records::coverage("else", State::Start);
    other.time_unix_nano = 1;
    let mut forged = node(3);
    forged.event = Some(Event::Gap(Gap { node: "n".into(), ..<_>::default() }));
    let found = wrong(&[node(1), nobody, other, forged]);
    let told: Vec<_> = found.iter().map(|(leaf, why)| (*leaf, why.as_str())).collect();
    assert!(told[0].0 == 1 && told[0].1.contains("its subject is missing"), "{told:?}");
    assert!(told[1].0 == 2 && told[1].1.contains("not of this log"), "{told:?}");
    assert!(told[2].0 == 3 && told[2].1.contains("only the collector may say"), "{told:?}");
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), LOG).unwrap();
    ledger.commit(&[Leaf::new(vec![0xff, 0xff])]).unwrap();
    assert_eq!(super::tests::found(&dir).wrong[0].why, "it is not a record");
}

#[test]
fn a_flipped_bit_is_found_and_what_comes_before_it_is_still_looked_at() {
    let mut records: Vec<_> = (1..=600).map(node).collect();
    records[100] = node(102);
    let dir = ledger(&records);
    let bundle = dir.path().join("ledger/tile/entries/001");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[20] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let found = found(&dir);
    assert!(!found.is_ok());
    let error = found.verified.unwrap_err().to_string();
    assert!(error.contains("leaf 256 in tile/entries/001"), "{error}");
    assert_eq!(found.wrong[0].leaf, 100);
}

#[test]
fn cursors_that_say_something_else_are_found_and_damaged_ones_are_harmless() {
    let records: Vec<_> = (1..=300).map(node).collect();
    let dir = ledger(&records);
    assert_eq!(found(&dir).cursors, CursorState::None);
    let path = save(&dir);
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace(" 300 0 ", " 299 0 ")).unwrap();
    let damaged = found(&dir);
    assert!(damaged.is_ok() && damaged.cursors == CursorState::Ignored);
    // Whole, of this ledger, and wrong: no damage makes that.
    let ledger = Ledger::open(dir.path(), LOG).unwrap();
    let mut other = Index::default();
    for seq in 1..=299 {
        other.apply(seq - 1, &crate::cursors::Step::of(&node(seq)).unwrap());
    }
    other.save(dir.path(), ledger.durable(), true);
    let lying = found(&dir);
    assert!(!lying.is_ok() && lying.cursors == CursorState::Wrong(300), "{lying:?}");
}

#[test]
fn files_nobody_needs_are_named_as_harmless() {
    let records: Vec<_> = (1..=300).map(node).collect();
    let dir = ledger(&records);
    let tile = dir.path().join("ledger/tile");
    fs::create_dir_all(tile.join("0/002.p")).unwrap();
    fs::write(tile.join("0/002.p/9"), [0; 288]).unwrap();
    for width in [3, 4] {
        fs::write(tile.join(format!("0/001.p/{width}")), [0; 96]).unwrap();
    }
    fs::write(dir.path().join("ledger/checkpoint.tmp"), "").unwrap();
    let found = found(&dir);
    assert!(found.is_ok());
    let LeftOver { beyond, older, foreign, mut names } = found.left_over;
    names.sort();
    assert_eq!((beyond, older, foreign), (1, 2, 1));
    let named = ["checkpoint.tmp", "tile/0/001.p/3", "tile/0/001.p/4", "tile/0/002.p/9"];
    assert_eq!(names, named);
}

#[test]
fn a_changed_signature_or_no_ledger_is_an_error_and_no_finding() {
    let dir = ledger(&[node(1)]);
    let path = dir.path().join("ledger/checkpoint");
    let note = fs::read_to_string(&path).unwrap();
    fs::write(&path, note.replace("\n1\n", "\n2\n")).unwrap();
    assert!(matches!(fsck(dir.path(), |_, _| ()), Err(BackupError::Checkpoint { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(fsck(dir.path(), |_, _| ()), Err(BackupError::NoLedger { .. })));
}
