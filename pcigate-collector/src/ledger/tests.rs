//! Tests of the ledger on disk against a model: appends, reopening, crashes, faults.

use std::{fs, os::unix::fs::PermissionsExt};

use pcigate_ledger::{VerifierKey, entries, verify};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn leaf(number: u64) -> Leaf {
    let length = usize::try_from(number * 37 % 211).unwrap();
    Leaf::new(number.to_be_bytes().iter().copied().cycle().take(length).collect())
}

fn leaves(from: u64, count: u64) -> Vec<Leaf> {
    (from..from + count).map(leaf).collect()
}

fn open(dir: &TempDir) -> Ledger {
    Ledger::open(dir.path(), "test/log").unwrap()
}

/// The log on disk passes verification and holds exactly the first `size` leaves.
fn assert_holds(dir: &Path, size: u64) {
    let key = VerifierKey::parse(&fs::read_to_string(dir.join("ledger.vkey")).unwrap()).unwrap();
    let source = Directory::new(dir.join("ledger"));
    let report = verify(&source, &key, None, |_| ()).unwrap();
    assert_eq!(report.size, size);
    let read = entries(&source, size, 0..size).map(|entry| entry.unwrap().1);
    assert!(read.eq((0..size).map(|number| leaf(number).bytes)));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Reopen,
    /// A commit of so many leaves that did not get as far as its checkpoint.
    Crash(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = || prop_oneof![4 => 1_u64..20, 2 => 200_u64..300, 1 => 500_u64..1_100];
    let step = prop_oneof![
        5 => count().prop_map(Step::Append),
        1 => Just(Step::Reopen),
        2 => count().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_acked_leaf_is_there_after_any_appends_reopenings_and_crashes(steps in steps()) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut ledger = open(&dir);
        let mut size = 0;
        for step in steps {
            match step {
                Step::Append(count) => {
                    let durable = ledger.commit(&leaves(size, count)).unwrap();
                    size += count;
                    prop_assert_eq!(durable.size, size);
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = open(&dir);
                }
                Step::Crash(count) => {
                    // What is written before the checkpoint stays; the rest is as it was.
                    let crashed = tempfile::tempdir().unwrap();
                    copy(dir.path(), crashed.path());
                    let mut doomed = open(&crashed);
                    let other = (0..count).map(|_| Leaf::new(b"never acked".to_vec()));
                    doomed.commit(&other.collect::<Vec<_>>()).unwrap();
                    drop((doomed, ledger));
                    copy(dir.path(), crashed.path());
                    dir = crashed;
                    ledger = open(&dir);
                }
            }
            prop_assert_eq!(ledger.durable().size, size);
        }
        assert_holds(dir.path(), size);
    }
}

#[test]
fn a_new_ledger_has_a_signed_checkpoint_and_a_secret_key() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir);
    assert_holds(dir.path(), 0);
    let mode = fs::metadata(dir.path().join("ledger.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(dir.path().join("ledger.vkey")).unwrap();
    assert_eq!(text, format!("{}\n", ledger.verifier_key()));
}

#[test]
fn two_collectors_on_one_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&dir);
    let error = Ledger::open(dir.path(), "test/log").err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains("another collector uses the state directory"), "{error}");
}

#[test]
fn partial_tiles_live_until_the_full_tile_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    ledger.commit(&leaves(0, 10)).unwrap();
    ledger.commit(&leaves(10, 10)).unwrap();
    let tile = |name: &str| dir.path().join("ledger/tile").join(name).exists();
    assert!(tile("0/000.p/10") && tile("0/000.p/20") && tile("entries/000.p/10"));
    ledger.commit(&leaves(20, 240)).unwrap();
    assert!(tile("0/000") && tile("entries/000") && tile("0/001.p/4") && tile("1/000.p/1"));
    assert!(!tile("0/000.p") && !tile("entries/000.p"));
}

#[test]
fn a_truncated_tile_is_refused_at_the_start_by_name() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).commit(&leaves(0, 3)).unwrap();
    let tile = dir.path().join("ledger/tile/0/000.p/3");
    fs::write(&tile, &fs::read(&tile).unwrap()[..70]).unwrap();
    let error = Ledger::open(dir.path(), "test/log").err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("restore the file named here from a copy"), "{error}");
    assert!(cause.starts_with("tile/0/000.p/3 holds 70 bytes instead of 96"), "{cause}");
}

#[test]
fn a_changed_checkpoint_and_a_missing_file_are_refused_and_never_taken_for_a_new_ledger() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).commit(&leaves(0, 3)).unwrap();
    let error = |dir: &TempDir| Ledger::open(dir.path(), "test/log").err().unwrap();
    let keep = |name: &str| (dir.path().join(name), fs::read(dir.path().join(name)).unwrap());
    let (path, bytes) = keep("ledger/checkpoint");
    fs::write(&path, "no checkpoint").unwrap();
    assert!(matches!(error(&dir), OpenError::Checkpoint { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(error(&dir), OpenError::Missing { .. }));
    fs::write(&path, bytes).unwrap();
    for name in ["ledger.key", "ledger.vkey"] {
        let (path, bytes) = keep(name);
        fs::remove_file(&path).unwrap();
        assert!(matches!(error(&dir), OpenError::Missing { .. }), "{name}");
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(open(&dir).durable().size, 3);
    let other = Ledger::open(dir.path(), "other/log").err().unwrap();
    assert!(matches!(other, OpenError::Origin { .. }));
}

#[test]
fn a_commit_that_cannot_be_written_leaves_no_trace_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(&dir);
    ledger.commit(&leaves(0, 5)).unwrap();
    for obstacle in ["tile/entries/000.p/9", "checkpoint.tmp"] {
        let path = dir.path().join("ledger").join(obstacle);
        fs::create_dir_all(&path).unwrap();
        let before = Arc::clone(ledger.durable());
        let error = ledger.commit(&leaves(5, 4)).unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        assert_eq!(*ledger.durable(), before);
        assert_holds(dir.path(), 5);
        fs::remove_dir_all(&path).unwrap();
    }
    ledger.commit(&leaves(5, 4)).unwrap();
    assert_holds(dir.path(), 9);
}
