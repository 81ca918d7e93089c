//! What a batch adds to the ledger, decided from the cursors and what is stored already. Pure.

use std::collections::BTreeMap;

use pcigate_proto::{Conflict, Gap, Hole, Received, Refused, record::Event};
use sha2::{Digest, Sha256};

use super::{Cursor, Cursors, Place, Spool, Step};
use crate::{ledger::Leaf, records::masked};

/// A batch of a node, its records decoded and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Whose records.
    pub spool: Spool,
    /// Where that spool lies on its node.
    pub place: Place,
    /// Sequence number of the first record.
    pub first_seq: u64,
    /// The records, in order.
    pub records: Vec<Checked>,
    /// What the node says is gone before the first record.
    pub hole: Option<Hole>,
    /// The node's clock when it sent the batch; 0 = not told.
    pub sent_unix_nano: u64,
}

/// A record after the checks that need no ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Complete and where it belongs; `stop` when it is a Coverage STOP.
    Good {
        /// Its bytes.
        leaf: Leaf,
        /// Whether it ends the spool.
        stop: bool,
    },
    /// Not to be stored.
    Wrong {
        /// Its bytes.
        bytes: Vec<u8>,
        /// The missing or wrong field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Checked {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Good { leaf, .. } => &leaf.bytes,
            Self::Wrong { bytes, .. } => bytes,
        }
    }
}

/// One leaf to append.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A record of the node, as it came.
    Node(Leaf),
    /// Something the collector has to say.
    Own(Box<Event>),
}

/// What to append, and what to answer once it is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Leaves in order, with what each does to the cursors.
    pub items: Vec<(Item, Option<Step>)>,
    /// Records that are not stored.
    pub refused: Vec<Refused>,
    /// The cursor afterwards.
    pub seq: u64,
}

/// A batch that does not follow on what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    /// Sequence numbers are missing and not declared gone.
    #[error(
        "batch.first_seq: expected at most seq {expected}, got {got}: send the records between, \
         or declare all of them in batch.hole"
    )]
    Jump {
        /// The next sequence number.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// A hole that covers records of the batch itself.
    #[error("batch.hole: it ends with seq {last}, but the batch itself begins with seq {first}")]
    Hole {
        /// First sequence number of the batch.
        first: u64,
        /// Last sequence number of the hole.
        last: u64,
    },
    /// Sequence numbers begin with 1 and fit in 64 bits.
    #[error("batch.first_seq: {first} is not a sequence number: they begin with 1")]
    Number {
        /// What came.
        first: u64,
    },
}

/// Decides what a batch adds. `stored` holds the bytes of those of its records that are in the
/// ledger already; `received_unix_nano` is the collector's clock.
///
/// # Errors
/// The batch leaves out records without saying so. Nothing is to be appended.
pub fn plan(
    cursors: &Cursors,
    batch: Batch,
    stored: &BTreeMap<u64, Vec<u8>>,
    received_unix_nano: u64,
) -> Result<Plan, OutOfOrder> {
    let Batch { spool, place, first_seq: first, records, hole, sent_unix_nano } = batch;
    let next = u64::try_from(records.len()).ok().and_then(|count| first.checked_add(count));
    let next = next.filter(|_| first > 0).ok_or(OutOfOrder::Number { first })?;
    let before = cursors.get(&spool);
    let seq = before.unwrap_or_default().seq;
    let missing = missing(seq, first, hole.as_ref())?;
    let mut plan = Plan { seq: seq.max(next - 1), ..Plan::default() };
    if before.is_none() && plan.seq > 0 {
        plan.items.extend(abandoned(cursors, &spool, &place));
    }
    if let (Some(last), Some(hole)) = (missing, hole) {
        plan.items.push(gap(&spool, seq + 1, last, masked(&hole.reason)));
    }
    for (at, record) in (first..).zip(records) {
        if at <= seq {
            plan.again(&spool, at, record, stored.get(&at));
        } else {
            plan.store(&spool, at, record);
        }
    }
    if next > seq.saturating_add(1).max(first) {
        let clock_offset_ns = match sent_unix_nano {
            0 => 0,
            sent => sent.wrapping_sub(received_unix_nano).cast_signed(),
        };
        let received = Received {
            node: spool.node.clone(),
            epoch: spool.epoch.to_vec(),
            first_seq: first.max(seq + 1),
            last_seq: next - 1,
            clock_offset_ns,
            place: place.clone(),
        };
        let step = Step::Received { spool, place };
        plan.items.push((Item::Own(Box::new(Event::Received(received))), Some(step)));
    }
    Ok(plan)
}

impl Plan {
    fn store(&mut self, spool: &Spool, seq: u64, record: Checked) {
        match record {
            Checked::Good { leaf, stop } => {
                let step = Step::Stored { spool: spool.clone(), seq, stop };
                self.items.push((Item::Node(leaf), Some(step)));
            }
            Checked::Wrong { field, reason, .. } => {
                self.items.push(gap(spool, seq, seq, format!("refused: {field}")));
                self.refuse(seq, field, reason);
            }
        }
    }

    /// A record whose sequence number is accounted for already.
    fn again(&mut self, spool: &Spool, seq: u64, record: Checked, stored: Option<&Vec<u8>>) {
        match (stored, record) {
            (Some(stored), record) if stored == record.bytes() => {}
            (Some(stored), record) => {
                let conflict = Conflict {
                    node: spool.node.clone(),
                    epoch: spool.epoch.to_vec(),
                    seq,
                    stored_sha256: Sha256::digest(stored).to_vec(),
                    refused_sha256: Sha256::digest(record.bytes()).to_vec(),
                };
                self.items.push((Item::Own(Box::new(Event::Conflict(conflict))), None));
                let reason = "it was stored before with other bytes; the first stays";
                self.refuse(seq, "record", reason.to_owned());
            }
            (None, Checked::Wrong { field, reason, .. }) => self.refuse(seq, field, reason),
            (None, Checked::Good { .. }) => {
                let reason = "a Gap record already says that it is missing";
                self.refuse(seq, "origin.seq", reason.to_owned());
            }
        }
    }

    fn refuse(&mut self, seq: u64, field: &str, reason: String) {
        self.refused.push(Refused { seq, field: field.to_owned(), reason });
    }
}

/// The last sequence number that is missing before the batch, if the node has declared it.
fn missing(seq: u64, first: u64, hole: Option<&Hole>) -> Result<Option<u64>, OutOfOrder> {
    if let Some(hole) = hole.filter(|hole| hole.last_seq >= first) {
        return Err(OutOfOrder::Hole { first, last: hole.last_seq });
    }
    let expected = seq.saturating_add(1);
    if first <= expected {
        return Ok(None);
    }
    let covers = |hole: &Hole| hole.first_seq <= expected && hole.last_seq + 1 == first;
    match hole {
        Some(hole) if covers(hole) => Ok(Some(hole.last_seq)),
        _ => Err(OutOfOrder::Jump { expected, got: first }),
    }
}

/// A new spool where the old one did not end orderly: its rest may be missing. A spool at another
/// place is another agent's, and goes on beside it.
fn abandoned(cursors: &Cursors, new: &Spool, place: &Place) -> Option<(Item, Option<Step>)> {
    let old = cursors.latest(&new.node, place)?;
    let Cursor { seq, closed } = cursors.get(&old)?;
    if closed {
        return None;
    }
    let reason = format!(
        "the node began a new spool; records after seq {seq} of the old one may be missing"
    );
    let (item, _) = gap(&old, seq.saturating_add(1), 0, reason);
    Some((item, Some(Step::Abandoned { spool: old })))
}

fn gap(spool: &Spool, first_seq: u64, last_seq: u64, reason: String) -> (Item, Option<Step>) {
    let epoch = spool.epoch.to_vec();
    let gap = Gap { node: spool.node.clone(), epoch, first_seq, last_seq, reason };
    let step = Step::Missing { spool: spool.clone(), last: last_seq };
    (Item::Own(Box::new(Event::Gap(gap))), Some(step))
}
