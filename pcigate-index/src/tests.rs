//! The index against the records themselves: whatever was flushed, merged, cut or reopened.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pcigate_proto::Record;
use proptest::prelude::*;

use crate::{
    AdvanceError, QueryError, Question, Settings, remove,
    testing::{
        HOUR, Log, catch_up, deletion, egress, exec, questions, record, records, small, wait,
    },
};

/// A time at which every hour of the tests is over.
fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(HOUR) + Duration::from_secs(90_000)
}

fn any_rows() -> Question {
    Question { limit: 1_000_000, ..Question::default() }
}

/// One thing that happens to an index.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Record>),
    Flush,
    Compact,
    Reopen,
    Delete(&'static str, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop::sample::select(vec!["exec", "egress", "gap"]);
    let before = (0_u64..5).prop_map(|hour| HOUR + hour * 3_600_000_000_000);
    let step = prop_oneof![
        4 => prop::collection::vec(records(), 1..90).prop_map(Step::Append),
        2 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => (class, before).prop_map(|(class, before)| Step::Delete(class, before)),
    ];
    prop::collection::vec(step, 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_that_of_the_records_whatever_was_flushed_merged_cut_or_reopened(
        steps in steps(),
        questions in prop::collection::vec((questions(), 0_u64..=100), 8),
    ) {
        let mut log = Log::new();
        let mut index = log.open(small());
        for step in steps {
            match step {
                Step::Append(records) => {
                    log.append(&records);
                    catch_up(&index, log.size());
                }
                Step::Delete(class, before) => {
                    log.append(&[deletion(class, before)]);
                    catch_up(&index, log.size());
                }
                Step::Flush => index.flush().unwrap(),
                Step::Compact => while index.compact(later()).unwrap() {},
                Step::Reopen => {
                    drop(index);
                    index = log.open(small());
                    catch_up(&index, log.size());
                }
            }
        }
        for (question, percent) in questions {
            let size = log.size() * percent / 100;
            let selection = wait(index.select(&question, size)).unwrap();
            prop_assert_eq!(selection, log.expected(&question, size), "{:?} at {}", question, size);
        }
    }
}

#[test]
fn rows_are_answered_before_and_after_they_are_flushed_and_leaves_beyond_the_size_are_left_out() {
    let all: Vec<_> = (0..300).map(|n| record(HOUR + n, "a", exec("/bin/sh"))).collect();
    let log = Log::of(&all);
    let index = log.caught_up(small());
    assert!(index.status().flushed > 0 && index.status().tail_rows > 0);
    for size in [0, 1, 100, 299, 300] {
        let selection = wait(index.select(&any_rows(), size)).unwrap();
        assert_eq!(selection.matched, size);
        assert_eq!(selection.leaves, (0..size).collect::<Vec<_>>());
    }
    assert_eq!(wait(index.count_before("exec", HOUR + 10, 300)).unwrap(), 10);
    assert_eq!(wait(index.count_before("exec", HOUR + 10, 5)).unwrap(), 5);
    assert_eq!(wait(index.count_before("fork", u64::MAX, 300)).unwrap(), 0);
}

#[test]
fn a_question_beyond_the_index_waits_and_then_says_how_far_it_has_come() {
    let log = Log::of(&[record(HOUR, "a", exec("/bin/sh"))]);
    let index = log.open(Settings { wait_max: Duration::from_millis(20), ..small() });
    let error = wait(index.select(&any_rows(), 1)).unwrap_err();
    assert_eq!(error, QueryError::Behind { indexed: 0, size: 1 });
    let text = "the index has come to leaf 0 of 1; ask again, or see the collector's log";
    assert_eq!(error.to_string(), text);
    let index = log.open(small());
    let asked = wait(async {
        let (answer, advanced) =
            tokio::join!(async { index.select(&any_rows(), 1).await }, async { index.advance(1) });
        advanced.unwrap();
        answer
    });
    assert_eq!(asked.unwrap().matched, 1);
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn parquet_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(parquet_files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn mixed_log() -> Log {
    let mut all = Vec::new();
    for n in 0..400 {
        let pod = if n % 3 == 0 { "a" } else { "b" };
        let event = if n % 2 == 0 { exec("/bin/sh") } else { egress("10.0.0.1", 443) };
        all.push(record(HOUR + n * 60_000_000_000, pod, event));
    }
    all.insert(250, deletion("exec", HOUR + 3_600_000_000_000));
    Log::of(&all)
}

#[test]
fn a_stop_between_files_and_manifest_leaves_nothing_twice_and_nothing_out() {
    let log = mixed_log();
    let index = log.open(small());
    let dir = log.index_dir();
    let mut before: Option<tempfile::TempDir> = None;
    for size in (25..=log.size()).step_by(47).chain([log.size()]) {
        catch_up(&index, size);
        index.flush().unwrap();
        while index.compact(later()).unwrap() {}
        if let Some(before) = before.take() {
            // The files of both states, the manifest of the one before: it was not replaced.
            let torn = Log::of(&log.records);
            copy(&dir.join("events"), &torn.index_dir().join("events"));
            copy(&before.path().join("events"), &torn.index_dir().join("events"));
            let manifest = before.path().join("manifest.json");
            fs::copy(&manifest, torn.index_dir().join("manifest.json")).unwrap();
            fs::write(torn.index_dir().join("manifest.tmp"), "{").unwrap();
            let named = parquet_files(&before.path().join("events")).len();
            let reopened = torn.open(small());
            assert_eq!(parquet_files(&torn.index_dir().join("events")).len(), named);
            assert!(!torn.index_dir().join("manifest.tmp").exists());
            assert!(reopened.indexed() > 0, "the manifest of before counts");
            catch_up(&reopened, torn.size());
            let selection = wait(reopened.select(&any_rows(), torn.size())).unwrap();
            assert_eq!(selection, torn.expected(&any_rows(), torn.size()));
        }
        let state = tempfile::TempDir::new().unwrap();
        copy(&dir, state.path());
        before = Some(state);
    }
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing_and_trying_again_goes_on() {
    let log = mixed_log();
    let index = log.open(Settings { tail_rows: 1_000, ..small() });
    index.advance(200).unwrap();
    // A file where the directory should be: also root cannot write below it.
    let blocked = log.index_dir().join("events/kind=egress");
    fs::write(&blocked, "").unwrap();
    let error = index.flush().unwrap_err();
    assert!(matches!(error, AdvanceError::File { .. }), "{error:?}");
    assert!(!log.index_dir().join("manifest.json").exists());
    assert_eq!(wait(index.select(&any_rows(), 200)).unwrap().matched, 200);
    let left = parquet_files(&log.index_dir().join("events"));
    assert_eq!(left, std::slice::from_ref(&blocked), "what was written before is removed");
    // With the Deletion: nothing of it is shown before it is whole.
    assert!(index.advance(log.size()).is_err());
    assert_eq!(index.indexed(), 200);
    fs::remove_file(&blocked).unwrap();
    catch_up(&index, log.size());
    let selection = wait(index.select(&any_rows(), log.size())).unwrap();
    assert_eq!(selection, log.expected(&any_rows(), log.size()));
}

#[test]
fn an_index_of_another_or_a_longer_ledger_is_derived_again() {
    let log = mixed_log();
    let index = log.caught_up(small());
    index.flush().unwrap();
    drop(index);
    let shorter = Log::of(&log.records[..100]);
    let mut changed = log.records.clone();
    changed[0].time_unix_nano += 1;
    let other = Log::of(&changed);
    for ledger in [shorter, other] {
        copy(&log.index_dir(), &ledger.index_dir());
        let index = ledger.open(small());
        assert_eq!(index.indexed(), 0);
        assert_eq!(parquet_files(&ledger.index_dir().join("events")).len(), 0);
        catch_up(&index, ledger.size());
        let selection = wait(index.select(&any_rows(), ledger.size())).unwrap();
        assert_eq!(selection, ledger.expected(&any_rows(), ledger.size()));
    }
    let mut longer = Log::of(&log.records);
    longer.append(&[record(HOUR, "a", exec("/bin/sh"))]);
    copy(&log.index_dir(), &longer.index_dir());
    assert_eq!(longer.open(small()).indexed(), log.size(), "a longer ledger is caught up with");
}

#[test]
fn a_missing_short_or_changed_file_is_found_at_the_start_and_everything_is_derived_again() {
    let log = mixed_log();
    let index = log.caught_up(small());
    index.flush().unwrap();
    drop(index);
    let spoils: [fn(&Path); 4] = [
        |file| fs::remove_file(file).unwrap(),
        |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        },
        |file| {
            let mut bytes = fs::read(file).unwrap();
            let end = bytes.len() - 9;
            bytes[end] ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| {
            let manifest = file.ancestors().nth(5).unwrap().join("manifest.json");
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(manifest, text.replacen("\"rows\":", "\"rows\":1", 1)).unwrap();
        },
    ];
    for spoil in spoils {
        let again = Log::of(&log.records);
        copy(&log.index_dir(), &again.index_dir());
        let file = parquet_files(&again.index_dir().join("events")).remove(0);
        spoil(&file);
        let index = again.open(small());
        assert_eq!(index.indexed(), 0);
        catch_up(&index, again.size());
        let selection = wait(index.select(&any_rows(), again.size())).unwrap();
        assert_eq!(selection, again.expected(&any_rows(), again.size()));
    }
}

#[test]
fn a_file_that_changes_while_it_is_open_gives_an_error_that_names_it_and_no_answer() {
    let log = mixed_log();
    let index = log.caught_up(small());
    index.flush().unwrap();
    let file = parquet_files(&log.index_dir().join("events")).remove(0);
    let whole = fs::read(&file).unwrap();
    for at in [4, whole.len() / 2, whole.len() - 20] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        let error = wait(index.select(&any_rows(), log.size())).unwrap_err();
        let QueryError::Damaged { file: named } = &error else { panic!("{error:?}") };
        assert!(file.ends_with(named), "{named}");
        assert!(error.to_string().contains("pcigate-collector reindex"), "{error}");
    }
    fs::write(&file, &whole).unwrap();
    assert!(wait(index.select(&any_rows(), log.size())).is_ok());
}

#[test]
fn reindex_gives_the_same_answers() {
    let log = mixed_log();
    let index = log.caught_up(small());
    while index.compact(later()).unwrap() {}
    let questions = [any_rows(), Question { pod: "a".into(), limit: 7, ..Question::default() }];
    let before: Vec<_> = questions.iter().map(|q| wait(index.select(q, log.size()))).collect();
    drop(index);
    remove(&log.index_dir()).unwrap();
    fs::write(log.index_dir().join("cursors"), "not ours").unwrap();
    let index = log.open(small());
    assert_eq!(index.indexed(), 0);
    catch_up(&index, log.size());
    let after: Vec<_> = questions.iter().map(|q| wait(index.select(q, log.size()))).collect();
    assert_eq!(before, after);
    assert_eq!(before[0], Ok(log.expected(&questions[0], log.size())));
    assert!(log.index_dir().join("cursors").exists());
}

#[test]
fn a_deletion_removes_whole_files_and_parts_of_files_and_says_how_many_before() {
    let mut log = Log::new();
    let hour = 3_600_000_000_000;
    let all: Vec<_> = (0..120).map(|n| record(HOUR + n % 3 * hour, "a", exec("/bin/sh"))).collect();
    log.append(&all);
    let index = log.caught_up(small());
    index.flush().unwrap();
    let count = wait(index.count_before("exec", HOUR + hour, 120)).unwrap();
    assert_eq!(count, 40);
    log.append(&[deletion("exec", HOUR + hour)]);
    // Comes later with an early time: the Deletion does not speak of it.
    log.append(&[record(HOUR, "late", exec("/bin/sh"))]);
    catch_up(&index, log.size());
    let selection = wait(index.select(&any_rows(), log.size())).unwrap();
    assert_eq!(selection.matched, 122 - count);
    assert_eq!(selection, log.expected(&any_rows(), log.size()));
    let hours = parquet_files(&log.index_dir().join("events/kind=exec"));
    assert!(hours.iter().all(|file| !file.to_string_lossy().contains("hour=18")), "{hours:?}");
}

#[test]
fn a_bad_clock_makes_few_files() {
    let all: Vec<_> =
        (0..64).map(|n| record(HOUR.wrapping_mul(n * 7 + 3), "a", exec("/bin/sh"))).collect();
    let log = Log::of(&all);
    let index = log.caught_up(small());
    index.flush().unwrap();
    assert_eq!(index.status().files, 1);
    let file = parquet_files(&log.index_dir().join("events")).remove(0);
    assert!(file.to_string_lossy().contains("date=mixed/hour=mixed"));
    let selection = wait(index.select(&any_rows(), log.size())).unwrap();
    assert_eq!(selection.matched, 64);
}

#[test]
fn replaced_files_stay_while_a_query_reads_them_and_go_with_it() {
    let log = mixed_log();
    let index = log.caught_up(small());
    index.flush().unwrap();
    let events = log.index_dir().join("events");
    let before = parquet_files(&events).len();
    let reader = index.snapshot();
    while index.compact(later()).unwrap() {}
    let named = usize::try_from(index.status().files).unwrap();
    assert!(named < before);
    assert!(parquet_files(&events).len() > named, "the reader's files are still there");
    drop(reader);
    assert_eq!(parquet_files(&events).len(), named);
}
