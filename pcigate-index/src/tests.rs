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
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

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
