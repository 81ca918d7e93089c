//! The books: which page counts, and what is missing.

use super::*;
use crate::draft::{
    Lost,
    samples::{exec, refused_connect},
};

const EPOCH: [u8; 16] = [7; 16];

fn open(path: &Path, durable: u64) -> Books {
    Books::open(path, EPOCH, durable).unwrap()
}

fn lost(count: u64, reason: LostReason) -> Draft {
    Draft::agent(1, Event::Lost(Lost { count, reason, queue: Queue::Verdicts }))
}

#[test]
fn a_group_counts_if_and_only_if_the_spool_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    let mut books = open(&path, 0);
    books.begin(About { root: 5, generation: 2 }, [0, 3]).unwrap();
    books.enter(&refused_connect());
    books.enter(&exec(""));
    books.prepare(2).unwrap();
    // Killed before the group was in the spool, and after.
    assert_eq!(open(&path, 0).sums(), Sums { carried: [0, 3], ..Sums::default() });
    let sums = Sums { recorded: [1, 1], carried: [0, 3], ..Sums::default() };
    assert_eq!(open(&path, 2).sums(), sums);
    books.conclude(true, 2);
    books.enter(&lost(10, LostReason::RingFull));
    books.enter(&lost(4, LostReason::ReaderBehind));
    books.prepare(4).unwrap();
    assert_eq!(open(&path, 2).sums(), sums);
    let sums = Sums { lost: [0, 14], ring_full: [0, 10], ..sums };
    assert_eq!(open(&path, 4).sums(), sums);
    assert_eq!(open(&path, 4).about(), About { root: 5, generation: 2 });
    assert_eq!(sums.missing([1, 20]), [0, 8], "20 + 3 - 1 - 14");
}

#[test]
fn a_group_that_failed_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    let mut books = open(&path, 0);
    books.enter(&refused_connect());
    books.prepare(1).unwrap();
    books.conclude(false, 1);
    assert_eq!(books.sums(), Sums::default());
    books.settle([2, 0]).unwrap();
    books.enter(&refused_connect());
    books.prepare(1).unwrap();
    assert_eq!(open(&path, 0).sums(), Sums { settled: [2, 0], ..Sums::default() });
    let sums = Sums { recorded: [0, 1], settled: [2, 0], ..Sums::default() };
    assert_eq!(open(&path, 1).sums(), sums);
}

#[test]
fn nothing_begins_while_a_group_is_on_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut books = open(&directory.path().join("books"), 0);
    books.prepare(1).unwrap();
    let error = books.begin(About { root: 1, generation: 1 }, [0, 0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    books.conclude(true, 1);
    books.begin(About { root: 1, generation: 1 }, [0, 0]).unwrap();
}

#[test]
fn books_of_another_spool_or_torn_ones_are_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books");
    let mut books = open(&path, 0);
    books.begin(About { root: 5, generation: 2 }, [1, 1]).unwrap();
    assert_eq!(Books::open(&path, [8; 16], 0).unwrap().about(), About::default());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path, 0).about(), About::default());
}
