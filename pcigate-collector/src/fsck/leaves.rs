//! What the leaves mean together, in order: does each follow on the others?

use super::{NAMED_MAX, look::Looked};
use crate::{
    cursors::{Spool, Step},
    index::Index,
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
    /// Nothing seen yet; the index is kept aside at `stop_at` leaves.
    pub fn new(stop_at: u64) -> Self {
        Self {
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

    /// Takes a bundle whose hashes are right; `first` is its first leaf.
    pub fn bundle(&mut self, first: u64, bundle: Vec<Looked>) {
        for (leaf, looked) in (first..).zip(bundle) {
            if let Err(why) = self.leaf(leaf, looked) {
                self.note(leaf, why);
            }
            if leaf + 1 == self.stop_at {
                self.at_snapshot = Some(self.index.clone());
            }
        }
    }

    fn leaf(&mut self, leaf: u64, looked: Looked) -> Result<(), String> {
        let Looked { wrong, step, gap, is_conflict } = looked;
        self.conflicts += u64::from(is_conflict);
        if let Some((first, last)) = gap {
            self.gaps.0 += 1;
            if last > 0 {
                self.gaps.1 += last.saturating_sub(first).saturating_add(1);
            }
        }
        let Some(step) = step else { return wrong.map_or(Ok(()), Err) };
        let follows = self.follows(&step, gap);
        self.records += u64::from(matches!(step, Step::Stored { .. }));
        self.index.apply(leaf, &step);
        wrong.map_or(follows, Err)
    }

    /// Whether a step begins where its spool ended.
    fn follows(&self, step: &Step, gap: Option<(u64, u64)>) -> Result<(), String> {
        let expected = self.next(step.spool());
        let (first, what) = match (step, gap) {
            (Step::Stored { seq, .. }, _) => (*seq, "it is seq"),
            (Step::Missing { .. }, Some((first, last))) if first > last => {
                return Err(format!("it is a Gap from seq {first} to {last}, which is backwards"));
            }
            (Step::Missing { .. }, Some((first, _))) => (first, "it is a Gap from seq"),
            _ => return Ok(()),
        };
        if first == expected {
            return Ok(());
        }
        let spool = step.spool();
        let epoch = hex::encode(spool.epoch);
        let of = format!("of node {}, epoch {epoch}", crate::logging::foreign(&spool.node));
        Err(if first > expected {
            format!("{what} {first} {of}, although seq {expected} comes next and no Gap covers it")
        } else {
            format!(
                "{what} {first} {of}, which an earlier leaf accounts for; seq {expected} comes next"
            )
        })
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
