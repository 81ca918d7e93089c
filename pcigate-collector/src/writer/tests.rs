//! Tests of the writer with a real ledger: groups, faults, and rebuilding the index.

use std::{fs, path::Path};

use pcigate_ledger::{Directory, VerifierKey, entries, verify};
use pcigate_proto::{
    Component, Coverage, Message, Origin, Outcome, Result as Success,
    coverage::State,
    record::{Event, Subject},
};

use super::*;
use crate::cursors::Checked;

fn spool(node: &str) -> Spool {
    Spool { node: node.into(), epoch: [7; 16] }
}

fn record(node: &str, seq: u64, text: &str) -> Checked {
    let origin = Origin { node: node.into(), epoch: vec![7; 16], seq, kernel: None };
    let coverage = Coverage { state: State::Change.into(), message: text.into(), ..<_>::default() };
    let record = Record {
        origin: Some(origin),
        time_unix_nano: seq,
        subject: Some(Subject::Component(Component { name: "agent".into(), ..<_>::default() })),
        outcome: Some(Outcome { result: Success::Success.into(), ..<_>::default() }),
        event: Some(Event::Coverage(coverage)),
        ..Record::default()
    };
    crate::ingest::check_record(record.encode_to_vec(), &spool(node), seq, "log")
}

fn batch(node: &str, first_seq: u64, count: u64) -> Job {
    let records = (first_seq..first_seq + count).map(|seq| record(node, seq, "x")).collect();
    let (spool, place) = (spool(node), Vec::new());
    Job::Batch(Batch { spool, place, first_seq, records, hole: None, sent_unix_nano: 0 })
}

struct Running {
    writer: Writer,
    thread: JoinHandle<()>,
}

fn run(dir: &Path) -> Running {
    let ledger = Ledger::open(dir, "log").unwrap();
    let index = Index::open(dir, &ledger.source(), ledger.durable()).unwrap();
    let (writer, thread) = start(ledger, index, dir.to_owned()).unwrap();
    Running { writer, thread }
}

impl Running {
    async fn stop(self) {
        self.writer.ask(Job::Stop).await.unwrap();
        self.thread.join().unwrap();
    }
}

fn kinds(dir: &Path) -> Vec<&'static str> {
    let key = VerifierKey::parse(&fs::read_to_string(dir.join("ledger.vkey")).unwrap()).unwrap();
    let source = Directory::new(dir.join("ledger"));
    let size = verify(&source, &key, None, |_| ()).unwrap().size;
    entries(&source, size, 0..size)
        .map(|entry| Record::decode(entry.unwrap().1.as_slice()).unwrap().event.unwrap())
        .map(|event| pcigate_proto::record::kind(&event))
        .collect()
}

#[tokio::test]
async fn queued_batches_are_committed_together_and_acked_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    let mut pending = Vec::new();
    for first in [1, 4, 7] {
        pending.push(running.writer.submit(batch("n", first, 3)).await.unwrap());
    }
    let mut seqs = Vec::new();
    for pending in pending {
        seqs.push(pending.await.unwrap().unwrap().seq);
    }
    assert_eq!(seqs, [3, 6, 9]);
    let cursor = running.writer.ask(Job::Cursor(spool("n"))).await.unwrap();
    assert_eq!((cursor.seq, cursor.durable.size), (9, 12));
    running.stop().await;
    assert_eq!(kinds(dir.path()).iter().filter(|kind| **kind == "received").count(), 3);
}

#[tokio::test]
async fn a_batch_sent_twice_in_one_group_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    let first = running.writer.submit(batch("n", 1, 3)).await.unwrap();
    let again = running.writer.submit(batch("n", 1, 3)).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().seq, 3);
    let again = again.await.unwrap().unwrap();
    assert_eq!((again.seq, again.refused.len()), (3, 0));
    running.stop().await;
    assert_eq!(kinds(dir.path()), ["coverage", "coverage", "coverage", "received"]);
}

#[tokio::test]
async fn a_conflict_is_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    running.writer.ask(batch("other", 1, 300)).await.unwrap();
    running.writer.ask(batch("n", 1, 300)).await.unwrap();
    running.stop().await;
    let running = run(dir.path());
    let changed = Batch {
        spool: spool("n"),
        place: Vec::new(),
        first_seq: 299,
        records: vec![record("n", 299, "x"), record("n", 300, "changed"), record("n", 301, "x")],
        hole: None,
        sent_unix_nano: 0,
    };
    let done = running.writer.ask(Job::Batch(changed)).await.unwrap();
    assert_eq!((done.seq, done.refused.len(), done.refused[0].seq), (301, 1, 300));
    running.stop().await;
    assert_eq!(kinds(dir.path())[602..], ["conflict", "coverage", "received"]);
}

#[tokio::test]
async fn a_write_error_refuses_the_request_and_the_writer_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    running.writer.ask(batch("n", 1, 2)).await.unwrap();
    let obstacle = dir.path().join("ledger/checkpoint.tmp");
    fs::create_dir(&obstacle).unwrap();
    let error = running.writer.ask(batch("n", 3, 2)).await.unwrap_err();
    assert!(matches!(error, WriteError::NotDurable { .. }), "{error}");
    assert!(!error.to_string().contains(&dir.path().display().to_string()), "{error}");
    assert_eq!(running.writer.ask(Job::Cursor(spool("n"))).await.unwrap().seq, 2);
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(running.writer.ask(batch("n", 3, 2)).await.unwrap().seq, 4);
    running.stop().await;
    assert_eq!(kinds(dir.path()).len(), 6);
}

#[tokio::test]
async fn after_the_stop_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    let writer = running.writer.clone();
    running.stop().await;
    let error = writer.ask(batch("n", 1, 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::Stopped));
}

#[tokio::test]
async fn the_index_is_the_same_with_a_saved_a_damaged_a_foreign_and_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let running = run(dir.path());
    for first in 0..40 {
        running.writer.ask(batch("a", first * 500 + 1, 500)).await.unwrap();
        running.writer.ask(batch("b", first + 1, 1)).await.unwrap();
    }
    running.stop().await;
    let snapshot = dir.path().join("index/cursors");
    let saved = fs::read_to_string(&snapshot).unwrap();
    let ledger = Ledger::open(dir.path(), "log").unwrap();
    let open = || Index::open(dir.path(), &ledger.source(), ledger.durable()).unwrap();
    let from_snapshot = open();
    fs::remove_file(&snapshot).unwrap();
    let rebuilt = open();
    assert!(from_snapshot.same_as(&rebuilt));
    let stale = saved.replacen("pcigate-cursors 2 ", "pcigate-cursors 2 9", 1);
    let damaged = saved.replace(" 40 0 ", " 39 0 ");
    assert!(stale != saved && damaged != saved);
    for text in [stale.as_str(), damaged.as_str(), "", "pcigate-cursors 1 0 0 0", "\u{0}"] {
        fs::write(&snapshot, text).unwrap();
        assert!(open().same_as(&rebuilt), "{text:.60}");
    }
    for (first, last) in [(1, 20), (16_000, 17_000), (19_990, 20_100)] {
        let found = rebuilt
            .stored(&ledger.source(), ledger.durable().size, &spool("a"), first, last)
            .unwrap();
        assert!(found.keys().copied().eq(first..=last.min(20_000)), "{first}..={last}");
    }
}
