//! Looks into the leaves, in order: is each a complete record, and does it follow on the others?

use pcigate_ledger::TILE_WIDTH;
use pcigate_proto::{
    Message, Record,
    record::{Event, RECORD_BYTES_MAX, check_complete},
};

use super::NAMED_MAX;
use crate::{
    cursors::{Spool, Step},
    index::Index,
    ingest,
};

/// A leaf that should not be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The leaf.
    pub leaf: u64,
    /// What is wrong with it, without any text of the record.
    pub why: String,
}

/// What the leaves so far mean together.
pub struct Leaves {
    origin: String,
    index: Index,
    stop_at: u64,
    /// The index when `stop_at` leaves had been seen.
    pub at_snapshot: Option<Index>,
    pub wrong: Vec<Wrong>,
    pub wrong_count: u64,
    pub records: u64,
    pub gaps: (u64, u64),
    pub conflicts: u64,
}

impl Leaves {
    /// Nothing seen yet of the log `origin`; the index is kept aside at `stop_at` leaves.
    pub fn new(origin: &str, stop_at: u64) -> Self {
        Self {
            origin: origin.to_owned(),
            index: Index::default(),
            stop_at,
            at_snapshot: None,
            wrong: Vec::new(),
            wrong_count: 0,
            records: 0,
            gaps: (0, 0),
            conflicts: 0,
        }
    }

    /// How many spools were seen.
    pub fn spools(&self) -> usize {
        self.index.cursors.sorted().len()
    }

    /// Takes the bundle whose last leaf is `done - 1`; its hashes are right.
    pub fn bundle(&mut self, done: u64, bytes: &[u8]) {
        let first = done.saturating_sub(1) / TILE_WIDTH * TILE_WIDTH;
        let mut rest = bytes;
        for leaf in first..done {
            let entry = rest.split_first_chunk::<2>().and_then(|(length, rest)| {
                rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
            });
            let Some((entry, after)) = entry else {
                self.note(leaf, "its bundle is cut".to_owned());
                return;
            };
            rest = after;
            if let Err(why) = self.leaf(leaf, entry) {
                self.note(leaf, why);
            }
            if leaf + 1 == self.stop_at {
                self.at_snapshot = Some(self.index.clone());
            }
        }
    }

    fn leaf(&mut self, leaf: u64, bytes: &[u8]) -> Result<(), String> {
        let record = Record::decode(bytes).map_err(|_| "it is not a record".to_owned())?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(format!("it has {} bytes; at most {RECORD_BYTES_MAX}", bytes.len()));
        }
        check_complete(&record)
            .map_err(|(field, why)| format!("its {field} is missing or empty ({why})"))?;
        let from = record.origin.as_ref().ok_or("its origin is missing")?;
        if from.epoch.is_empty() {
            if from.node != self.origin {
                return Err("it has no epoch and is not of this log".to_owned());
            }
        } else if from.node == self.origin || ingest::speaks_for_others(&record) {
            return Err("a node says in it what only the collector may say".to_owned());
        }
        match &record.event {
            Some(Event::Conflict(_)) => self.conflicts += 1,
            Some(Event::Gap(gap)) => {
                self.gaps.0 += 1;
                if gap.last_seq > 0 {
                    self.gaps.1 += gap.last_seq.saturating_sub(gap.first_seq).saturating_add(1);
                }
            }
            _ => {}
        }
        let Some(step) = Step::of(&record) else {
            return match (&record.event, from.epoch.is_empty()) {
                (Some(Event::Gap(_)), _) | (_, false) => {
                    Err("its epoch does not have 16 bytes".to_owned())
                }
                _ => Ok(()),
            };
        };
        let follows = self.follows(&step, &record);
        self.records += u64::from(matches!(step, Step::Stored { .. }));
        self.index.apply(leaf, &step);
        follows
    }

    /// Whether a step begins where its spool ended.
    fn follows(&self, step: &Step, record: &Record) -> Result<(), String> {
        let expected = self.next(step.spool());
        let (first, what) = match (step, &record.event) {
            (Step::Stored { seq, .. }, _) => (*seq, "it is seq"),
            (Step::Missing { last, .. }, Some(Event::Gap(gap))) => {
                if gap.first_seq > *last {
                    return Err(format!(
                        "it is a Gap from seq {} to {last}, which is backwards",
                        gap.first_seq
                    ));
                }
                (gap.first_seq, "it is a Gap from seq")
            }
            _ => return Ok(()),
        };
        let spool = step.spool();
        let epoch = hex::encode(spool.epoch);
        let of = format!("of node {}, epoch {epoch}", crate::logging::foreign(&spool.node));
        match first.cmp(&expected) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(format!(
                "{what} {first} {of}, although seq {expected} comes next and no Gap covers it"
            )),
            std::cmp::Ordering::Less => Err(format!(
                "{what} {first} {of}, which an earlier leaf accounts for; seq {expected} comes next"
            )),
        }
    }

    fn next(&self, spool: &Spool) -> u64 {
        self.index.cursors.get(spool).unwrap_or_default().seq.saturating_add(1)
    }

    fn note(&mut self, leaf: u64, why: String) {
        self.wrong_count += 1;
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(Wrong { leaf, why });
        }
    }
}
