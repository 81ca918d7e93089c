//! Tests of what a batch adds: order, duplicates, gaps, conflicts, refused records.

use std::collections::BTreeMap;

use pcigate_proto::{Coverage, Gap, Hole, Received, record::Event};
use proptest::prelude::*;

use super::*;
use crate::ledger::Leaf;

const NOW: u64 = 1_000;

fn spool(epoch: u8) -> Spool {
    Spool { node: "n1".into(), epoch: [epoch; 16] }
}

fn good(seq: u64) -> Checked {
    Checked::Good { leaf: Leaf::new(seq.to_be_bytes().to_vec()), stop: false }
}

fn wrong(seq: u64) -> Checked {
    let bytes = seq.to_be_bytes().to_vec();
    Checked::Wrong { bytes, field: "subject", reason: "it is missing".into() }
}

fn batch(epoch: u8, first_seq: u64, records: Vec<Checked>) -> Batch {
    let (spool, place) = (spool(epoch), Vec::new());
    Batch { spool, place, first_seq, records, hole: None, sent_unix_nano: NOW - 10 }
}

/// A collector without a disk: cursors, stored bytes, and all it appended.
#[derive(Default)]
struct Collector {
    cursors: Cursors,
    stored: BTreeMap<(Spool, u64), Vec<u8>>,
    events: Vec<Event>,
}

impl Collector {
    fn take(&mut self, batch: Batch) -> Result<Plan, OutOfOrder> {
        let spool = batch.spool.clone();
        let stored: BTreeMap<_, _> = self
            .stored
            .iter()
            .filter(|((of, _), _)| *of == spool)
            .map(|((_, seq), bytes)| (*seq, bytes.clone()))
            .collect();
        let plan = plan(&self.cursors, batch, &stored, NOW)?;
        for (item, step) in &plan.items {
            if let Some(step) = step {
                self.cursors.apply(step);
            }
            match (item, step) {
                (Item::Node(leaf), Some(Step::Stored { spool, seq, .. })) => {
                    let before = self.stored.insert((spool.clone(), *seq), leaf.bytes.clone());
                    assert_eq!(before, None, "stored twice");
                }
                (Item::Own(event), _) => self.events.push(Event::clone(event)),
                other => panic!("a node's leaf without a place: {other:?}"),
            }
        }
        Ok(plan)
    }

    fn seq(&self, epoch: u8) -> u64 {
        self.cursors.get(&spool(epoch)).unwrap_or_default().seq
    }
}

fn received(first_seq: u64, last_seq: u64) -> Event {
    let spool = spool(1);
    let epoch = spool.epoch.to_vec();
    let node = spool.node;
    let (clock_offset_ns, place) = (-10, Vec::new());
    Event::Received(Received { node, epoch, first_seq, last_seq, clock_offset_ns, place })
}

fn gap(epoch: u8, first_seq: u64, last_seq: u64, reason: &str) -> Event {
    let spool = spool(epoch);
    let (node, epoch, reason) = (spool.node, spool.epoch.to_vec(), reason.into());
    Event::Gap(Gap { node, epoch, first_seq, last_seq, reason })
}

#[test]
fn batches_in_order_are_stored_and_their_receipt_is_recorded() {
    let mut collector = Collector::default();
    assert_eq!(collector.take(batch(1, 1, vec![good(1), good(2)])).unwrap().seq, 2);
    assert_eq!(collector.take(batch(1, 3, vec![good(3)])).unwrap().seq, 3);
    assert_eq!(collector.events, [received(1, 2), received(3, 3)]);
    assert_eq!(collector.stored.len(), 3);
}

#[test]
fn an_empty_batch_adds_nothing() {
    let mut collector = Collector::default();
    assert_eq!(collector.take(batch(1, 1, Vec::new())).unwrap(), Plan::default());
}

#[test]
fn a_batch_sent_again_is_acked_and_adds_nothing() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1), wrong(2), good(3)])).unwrap();
    let before = collector.events.len();
    let again = collector.take(batch(1, 1, vec![good(1), wrong(2), good(3)])).unwrap();
    assert_eq!((again.seq, again.items.len(), collector.events.len()), (3, 0, before));
    assert_eq!(again.refused[0].field, "subject");
}

#[test]
fn a_batch_that_overlaps_stores_only_what_is_new() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1), good(2)])).unwrap();
    let plan = collector.take(batch(1, 2, vec![good(2), good(3)])).unwrap();
    assert_eq!((plan.seq, plan.items.len()), (3, 2));
    assert_eq!(collector.events.last(), Some(&received(3, 3)));
}

#[test]
fn other_bytes_for_a_stored_record_become_a_conflict_and_the_first_stays() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1), good(2)])).unwrap();
    let plan = collector.take(batch(1, 1, vec![good(7), good(2)])).unwrap();
    assert_eq!((plan.seq, plan.refused.len(), plan.refused[0].seq), (2, 1, 1));
    let Some(Event::Conflict(conflict)) = collector.events.last() else { panic!("no conflict") };
    assert_eq!((conflict.seq, conflict.node.as_str()), (1, "n1"));
    assert_ne!(conflict.stored_sha256, conflict.refused_sha256);
    assert_eq!(collector.stored[&(spool(1), 1)], 1_u64.to_be_bytes());
}

#[test]
fn a_wrong_record_leaves_a_gap_in_its_place_and_the_cursor_goes_on() {
    let mut collector = Collector::default();
    let plan = collector.take(batch(1, 1, vec![good(1), wrong(2), good(3)])).unwrap();
    assert_eq!((plan.seq, plan.refused.len()), (3, 1));
    assert_eq!((plan.refused[0].seq, plan.refused[0].field.as_str()), (2, "subject"));
    assert_eq!(collector.events, [gap(1, 2, 2, "refused: subject"), received(1, 3)]);
    let better = collector.take(batch(1, 2, vec![good(2)])).unwrap();
    assert_eq!((better.items.len(), better.refused[0].field.as_str()), (0, "origin.seq"));
}

#[test]
fn a_jump_without_a_hole_says_what_was_expected_and_stores_nothing() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1)])).unwrap();
    let error = collector.take(batch(1, 5, vec![good(5)])).unwrap_err();
    assert_eq!(error, OutOfOrder::Jump { expected: 2, got: 5 });
    assert!(error.to_string().contains("expected at most seq 2, got 5"), "{error}");
    assert_eq!(collector.seq(1), 1);
}

#[test]
fn a_declared_hole_becomes_a_gap() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1)])).unwrap();
    let hole = |first_seq, last_seq| Some(Hole { first_seq, last_seq, reason: "disk".into() });
    for (first, last) in [(3, 4), (2, 3), (2, 9)] {
        let batch = Batch { hole: hole(first, last), ..batch(1, 5, vec![good(5)]) };
        assert!(collector.take(batch).is_err(), "{first}..{last}");
    }
    let batch = Batch { hole: hole(1, 4), ..batch(1, 5, vec![good(5)]) };
    assert_eq!(collector.take(batch.clone()).unwrap().seq, 5);
    assert_eq!(collector.events[1..], [gap(1, 2, 4, "disk"), received(5, 5)]);
    assert_eq!(collector.take(batch).unwrap().items, []);
}

#[test]
fn a_hole_at_the_end_of_a_spool_needs_no_records() {
    let mut collector = Collector::default();
    let hole = Some(Hole { first_seq: 1, last_seq: 9, reason: "disk".into() });
    let plan = collector.take(Batch { hole, ..batch(1, 10, Vec::new()) }).unwrap();
    assert_eq!((plan.seq, collector.seq(1)), (9, 9));
    assert_eq!(collector.events, [gap(1, 1, 9, "disk")]);
}

#[test]
fn a_spool_left_without_a_stop_is_reported_once() {
    let mut collector = Collector::default();
    collector.take(batch(1, 1, vec![good(1), good(2)])).unwrap();
    collector.take(batch(2, 1, vec![good(1)])).unwrap();
    let reason = "the node began a new spool; records after seq 2 of the old one may be missing";
    assert_eq!(collector.events[1], gap(1, 3, 0, reason));
    collector.take(batch(2, 2, vec![good(2)])).unwrap();
    assert_eq!(collector.events.len(), 4);
    assert_eq!(collector.cursors.get(&spool(1)), Some(Cursor { seq: 2, closed: true }));
}

#[test]
fn spools_at_different_places_of_a_node_go_on_beside_each_other() {
    let mut collector = Collector::default();
    let at = |place: u8, batch: Batch| Batch { place: vec![place; 16], ..batch };
    collector.take(at(1, batch(1, 1, vec![good(1)]))).unwrap();
    collector.take(at(2, batch(2, 1, vec![good(1)]))).unwrap();
    collector.take(at(1, batch(1, 2, vec![good(2)]))).unwrap();
    let gaps = |collector: &Collector| {
        let gap = |event: &&Event| matches!(event, Event::Gap(_));
        collector.events.iter().filter(gap).cloned().collect::<Vec<_>>()
    };
    assert_eq!(gaps(&collector), []);
    // A new spool at the first place, while the second one goes on.
    collector.take(at(1, batch(3, 1, vec![good(1)]))).unwrap();
    collector.take(at(2, batch(2, 2, vec![good(2)]))).unwrap();
    let reason = "the node began a new spool; records after seq 2 of the old one may be missing";
    assert_eq!(gaps(&collector), [gap(1, 3, 0, reason)]);
}

#[test]
fn a_spool_is_at_the_place_its_agent_tells_after_an_upgrade() {
    let mut collector = Collector::default();
    let at = |batch: Batch| Batch { place: vec![1; 16], ..batch };
    collector.take(batch(1, 1, vec![good(1)])).unwrap();
    collector.take(at(batch(1, 2, vec![good(2)]))).unwrap();
    collector.take(at(batch(2, 1, vec![good(1)]))).unwrap();
    assert!(collector.events.iter().any(|event| matches!(event, Event::Gap(_))));
}

#[test]
fn a_spool_that_ended_with_a_stop_is_left_in_order() {
    let mut collector = Collector::default();
    let stop = Checked::Good { leaf: Leaf::new(b"stop".to_vec()), stop: true };
    collector.take(batch(1, 1, vec![good(1), stop])).unwrap();
    collector.take(batch(2, 1, vec![good(1)])).unwrap();
    assert!(!collector.events.iter().any(|event| matches!(event, Event::Gap(_))));
}

#[test]
fn sequence_numbers_begin_with_one_and_fit() {
    let mut collector = Collector::default();
    for first in [0, u64::MAX] {
        let error = collector.take(batch(1, first, vec![good(1)])).unwrap_err();
        assert_eq!(error, OutOfOrder::Number { first });
    }
}

#[test]
fn only_a_coverage_stop_of_a_component_is_a_stop() {
    let mut record = crate::records::coverage("log", State::Stop);
    assert!(is_stop(&record));
    record.event = Some(Event::Coverage(Coverage { state: State::Start.into(), ..<_>::default() }));
    assert!(!is_stop(&record));
}

proptest! {
    /// Whatever windows a node sends again after whatever lost Acks: every record is stored once,
    /// in order, and what the cursors know can be rebuilt from the leaves alone.
    #[test]
    fn resent_windows_never_lose_double_or_reorder(
        windows in prop::collection::vec((0_u64..12, 0_u64..9), 1..40),
    ) {
        let mut collector = Collector::default();
        let mut order = Vec::new();
        for (back, count) in windows {
            let first = (collector.seq(1) + 1).saturating_sub(back).max(1);
            let record = |seq| if seq % 7 == 0 { wrong(seq) } else { good(seq) };
            let records = (first..first + count).map(record);
            let plan = collector.take(batch(1, first, records.collect())).unwrap();
            prop_assert_eq!(plan.seq, collector.seq(1));
            order.extend(plan.items.into_iter().filter_map(|(_, step)| step));
        }
        let places: Vec<_> = order.iter().map(|step| match step {
            Step::Stored { seq, .. } => *seq,
            Step::Missing { last, .. } => *last,
            Step::Abandoned { .. } | Step::Received { .. } => 0,
        }).filter(|seq| *seq > 0).collect();
        prop_assert!(places.iter().copied().eq(1..=collector.seq(1)));
        let mut rebuilt = Cursors::default();
        order.iter().for_each(|step| rebuilt.apply(step));
        prop_assert_eq!(rebuilt, collector.cursors);
    }
}
