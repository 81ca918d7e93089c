//! What is committed together: leaves, what they do to the cursors, and who waits for them.

use std::collections::BTreeMap;

use pcigate_proto::{Message, Record, Refused, record::Event};
use tokio::sync::oneshot;

use super::{Done, WriteError};
use crate::{
    cursors::{Batch, Cursors, Item, OutOfOrder, Spool, Step, plan},
    ledger::Leaf,
    metrics::Tally,
    records,
};

/// Bytes of leaves that end a group.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Leaves that end a group.
const GROUP_LEAVES: usize = 65_536;

/// What to tell once the group is durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub seq: u64,
    pub refused: Vec<Refused>,
}

type Reply = oneshot::Sender<Result<Done, WriteError>>;

/// A group in the making.
#[derive(Default)]
pub struct Group {
    pub leaves: Vec<Leaf>,
    /// Position in `leaves`, and what that leaf does to the cursors.
    pub steps: Vec<(u64, Step)>,
    pub answers: Vec<(Reply, Answer)>,
    /// The cursors of the spools of this group as they will be.
    cursors: Cursors,
    pub tally: Tally,
    bytes: usize,
}

impl Group {
    pub fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES || self.leaves.len() >= GROUP_LEAVES
    }

    pub fn expect(&mut self, reply: Reply, answer: Answer) {
        self.answers.push((reply, answer));
    }

    /// How far a spool will have come with this group.
    pub fn cursor(&mut self, durable: &Cursors, spool: &Spool) -> Answer {
        self.cursors.borrow(durable, spool, &Vec::new());
        let seq = self.cursors.get(spool).unwrap_or_default().seq;
        Answer { seq, refused: Vec::new() }
    }

    /// Takes a record of the collector.
    pub fn own(&mut self, record: &Record) -> Answer {
        self.push(Leaf::new(record.encode_to_vec()));
        Answer::default()
    }

    /// Takes what a batch adds; after an error nothing of it.
    pub fn batch(
        &mut self,
        durable: &Cursors,
        origin: &str,
        batch: Batch,
        stored: &BTreeMap<u64, Vec<u8>>,
    ) -> Result<Answer, OutOfOrder> {
        self.cursors.borrow(durable, &batch.spool, &batch.place);
        let count = batch.records.len() as u64;
        let planned = plan(&self.cursors, batch, stored, records::now_unix_nano())?;
        let mut stored = 0;
        for (item, step) in planned.items {
            if let Some(step) = step {
                self.cursors.apply(&step);
                self.steps.push((self.leaves.len() as u64, step));
            }
            let leaf = match item {
                Item::Node(leaf) => {
                    stored += 1;
                    leaf
                }
                Item::Own(event) => {
                    self.count(&event);
                    Leaf::new(records::own(origin, *event).encode_to_vec())
                }
            };
            self.push(leaf);
        }
        let refused = planned.refused.len() as u64;
        self.tally.stored += stored;
        self.tally.refused += refused;
        self.tally.repeated += count.saturating_sub(stored + refused);
        Ok(Answer { seq: planned.seq, refused: planned.refused })
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Gap(_) => self.tally.gaps += 1,
            Event::Conflict(_) => self.tally.conflicts += 1,
            _ => {}
        }
    }

    fn push(&mut self, leaf: Leaf) {
        self.tally.bytes += leaf.bytes.len() as u64;
        self.bytes += leaf.bytes.len();
        self.leaves.push(leaf);
    }
}
