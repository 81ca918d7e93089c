//! Counts of events without a record, by the queue they came through and the reason.

use std::collections::BTreeMap;

use crate::draft::{Draft, Event, Lost, LostReason, Queue};

/// (queue, reason) → events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses(BTreeMap<(Queue, LostReason), u64>);

impl Losses {
    /// Counts a draft that will have no record. A Lost draft counts for the events it tells of,
    /// under its own reason.
    pub(super) fn add_draft(&mut self, draft: &Draft, reason: LostReason) {
        let (key, count) = match &draft.event {
            Event::Lost(lost) => ((lost.queue, lost.reason), lost.count),
            _ => ((draft.queue(), reason), 1),
        };
        *self.0.entry(key).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (key, count) in other.iter() {
            *self.0.entry(key).or_default() += count;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ((Queue, LostReason), u64)> {
        self.0.iter().map(|(key, count)| (*key, *count))
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One Lost draft per queue and reason; nothing is left.
    pub(super) fn take_drafts(&mut self, time_unix_nano: u64) -> Vec<Draft> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|((queue, reason), count)| {
                let lost = Lost { count, reason, queue };
                Draft::agent(time_unix_nano, Event::Lost(lost))
            })
            .collect()
    }
}
