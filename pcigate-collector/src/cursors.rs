//! How far each node's spools have come: order, duplicates, gaps. Pure.
//!
//! The one rule of how a leaf moves a cursor is [`Cursors::apply`]; planning a batch, and
//! rebuilding the table from the ledger, both go through it.

mod plan;

use std::collections::HashMap;

use pcigate_proto::{
    Record,
    coverage::State,
    record::{Event, Subject},
};

pub use plan::{Batch, Checked, Item, OutOfOrder, Plan, plan};

/// A spool's random id, made with the spool.
pub type Epoch = [u8; 16];

/// Where a spool lies on its node: 16 bytes, or none from agents that do not tell.
pub type Place = Vec<u8>;

/// One spool of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spool {
    /// The node, from its certificate.
    pub node: String,
    /// The spool.
    pub epoch: Epoch,
}

/// How far a spool has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Last sequence number accounted for: stored, or covered by a Gap record.
    pub seq: u64,
    /// Nothing more is expected: the last record is a Coverage STOP, or a Gap record already says
    /// that the rest may be missing.
    pub closed: bool,
}

/// What a leaf means for the cursors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The leaf is record `seq` of the spool; `stop` when it is a Coverage STOP.
    Stored {
        /// The spool.
        spool: Spool,
        /// Its sequence number.
        seq: u64,
        /// Whether it ends the spool.
        stop: bool,
    },
    /// The leaf is a Gap record up to `last` in place of records of the spool.
    Missing {
        /// The spool.
        spool: Spool,
        /// Last sequence number that will never come.
        last: u64,
    },
    /// The leaf says that the spool was left behind and its rest may be missing.
    Abandoned {
        /// The spool.
        spool: Spool,
    },
    /// The leaf is a Received record: it says where the spool lies.
    Received {
        /// The spool.
        spool: Spool,
        /// Its place.
        place: Place,
    },
}

impl Step {
    /// What a stored leaf means; `None` for most of the collector's own records.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let origin = record.origin.as_ref()?;
        if let Ok(epoch) = Epoch::try_from(origin.epoch.as_slice()) {
            let spool = Spool { node: origin.node.clone(), epoch };
            return Some(Self::Stored { spool, seq: origin.seq, stop: is_stop(record) });
        }
        if let Some(Event::Received(received)) = &record.event {
            let epoch = received.epoch.as_slice().try_into().ok()?;
            let spool = Spool { node: received.node.clone(), epoch };
            return Some(Self::Received { spool, place: received.place.clone() });
        }
        let Some(Event::Gap(gap)) = &record.event else { return None };
        let spool = Spool { node: gap.node.clone(), epoch: gap.epoch.as_slice().try_into().ok()? };
        Some(match gap.last_seq {
            0 => Self::Abandoned { spool },
            last => Self::Missing { spool, last },
        })
    }

    /// The spool it is about.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        match self {
            Self::Stored { spool, .. }
            | Self::Missing { spool, .. }
            | Self::Abandoned { spool }
            | Self::Received { spool, .. } => spool,
        }
    }
}

/// Whether a record says that its agent has stopped orderly.
#[must_use]
pub fn is_stop(record: &Record) -> bool {
    let stop = |event: &Event| matches!(event, Event::Coverage(c) if c.state() == State::Stop);
    matches!(record.subject, Some(Subject::Component(_))) && record.event.as_ref().is_some_and(stop)
}

/// All cursors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    spools: HashMap<Spool, Cursor>,
    /// Where each spool lies.
    places: HashMap<Spool, Place>,
    /// Per node and place the spool that began last there.
    latest: HashMap<(String, Place), Epoch>,
}

impl Cursors {
    /// Moves the cursor of the step's spool.
    pub fn apply(&mut self, step: &Step) {
        let spool = step.spool();
        let moved = |before: Cursor| match step {
            Step::Stored { seq, stop, .. } => Cursor { seq: *seq, closed: *stop },
            Step::Missing { last, .. } => Cursor { seq: *last, closed: false },
            Step::Abandoned { .. } => Cursor { closed: true, ..before },
            Step::Received { .. } => before,
        };
        // Once per record: nothing is copied for a spool that is known.
        if let Some(cursor) = self.spools.get_mut(spool) {
            *cursor = moved(*cursor);
        } else {
            self.spools.insert(spool.clone(), moved(Cursor::default()));
        }
        if let Step::Received { place, .. } = step {
            self.lies_at(spool, place);
        }
    }

    /// The first place told counts; any replaces none, for the agent may be newer than its spool.
    fn lies_at(&mut self, spool: &Spool, place: &Place) {
        let known = self.places.get(spool);
        if known.is_none_or(|known| known.is_empty() && !place.is_empty()) {
            self.places.insert(spool.clone(), place.clone());
            self.latest.insert((spool.node.clone(), place.clone()), spool.epoch);
        }
    }

    /// How far a spool has come; `None` when nothing of it is in the ledger.
    #[must_use]
    pub fn get(&self, spool: &Spool) -> Option<Cursor> {
        self.spools.get(spool).copied()
    }

    /// The spool of a node that began last at a place.
    #[must_use]
    pub fn latest(&self, node: &str, place: &Place) -> Option<Spool> {
        let epoch = *self.latest.get(&(node.to_owned(), place.clone()))?;
        Some(Spool { node: node.to_owned(), epoch })
    }

    /// Copies what a plan for `spool` at `place` looks at, where this table does not know it yet.
    pub fn borrow(&mut self, from: &Self, spool: &Spool, place: &Place) {
        if self.latest(&spool.node, place).is_none()
            && let Some(latest) = from.latest(&spool.node, place)
        {
            self.copy(from, &latest);
            self.latest.insert((latest.node, place.clone()), latest.epoch);
        }
        self.copy(from, spool);
    }

    fn copy(&mut self, from: &Self, spool: &Spool) {
        if let (None, Some(cursor)) = (self.get(spool), from.get(spool)) {
            self.spools.insert(spool.clone(), cursor);
        }
        if let (None, Some(place)) = (self.places.get(spool), from.places.get(spool)) {
            self.places.insert(spool.clone(), place.clone());
        }
    }

    /// All spools in order of their names, for the snapshot: cursor, and place where it is known.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&Spool, Cursor, Option<&Place>)> {
        let all = self.spools.iter();
        let mut all: Vec<_> =
            all.map(|(spool, cursor)| (spool, *cursor, self.places.get(spool))).collect();
        all.sort_by_key(|(spool, ..)| *spool);
        all
    }

    /// Which spool began last at each place, in order, for the snapshot.
    #[must_use]
    pub fn sorted_latest(&self) -> Vec<(&str, &Place, &Epoch)> {
        let all = self.latest.iter();
        let mut all: Vec<_> =
            all.map(|((node, place), epoch)| (node.as_str(), place, epoch)).collect();
        all.sort_unstable();
        all
    }

    /// Puts back one line of a snapshot.
    pub fn restore(&mut self, spool: Spool, cursor: Cursor, place: Option<Place>) {
        if let Some(place) = place {
            self.places.insert(spool.clone(), place);
        }
        self.spools.insert(spool, cursor);
    }

    /// Puts back one line of a snapshot.
    pub fn restore_latest(&mut self, node: String, place: Place, epoch: Epoch) {
        self.latest.insert((node, place), epoch);
    }
}

#[cfg(test)]
mod tests;
