//! What became of the records of earlier generations, in numbers and in words.

use std::fmt::Write as _;

use super::Handover;
use crate::{
    coverage,
    downtime::Downtime,
    draft::{Capability, Lost, LostReason, Queue},
    recorder::{
        RecorderHandle,
        books::{ByRing, add},
        lock,
    },
};

/// What the first Coverage record says.
#[derive(Debug, Default)]
pub struct Report {
    /// For people.
    pub message: String,
    /// Present where no agent ran for a time.
    pub capability: Option<Capability>,
}

impl Handover {
    /// What the kernel has made and nobody recorded or told.
    pub(super) fn losses(&mut self, recorder: &RecorderHandle) -> Vec<Lost> {
        let (mut made, mut ring_full, mut other) = ([0; 2], [0; 2], [0; 2]);
        for before in &mut self.before {
            let Some(rings) = &mut before.rings else { continue };
            let counts = rings.counts();
            add(&mut made, counts.made);
            add(&mut ring_full, counts.ring_full);
            if before.reader.is_none() {
                add(&mut other, rings.count_out());
            }
        }
        let sums = lock(&self.books).sums();
        let mut missing = if self.known { sums.missing(made) } else { other };
        subtract(&mut missing, recorder.unreported());
        let mut full = ring_full;
        subtract(&mut full, sums.ring_full);
        let mut lost = Vec::new();
        for (ring, queue) in [Queue::Events, Queue::Verdicts].into_iter().enumerate() {
            let of = |counts: &ByRing| counts.get(ring).copied().unwrap_or(0);
            let mut rest = of(&missing);
            for (reason, count) in
                [(LostReason::OtherVersion, of(&other)), (LostReason::RingFull, of(&full))]
            {
                let count = count.min(rest);
                rest -= count;
                lost.push(Lost { count, reason, queue });
            }
            lost.push(Lost { count: rest, reason: LostReason::AgentDied, queue });
        }
        lost.retain(|lost| lost.count > 0);
        lost
    }

    pub(super) fn report(&self, lost: &[Lost]) -> Report {
        let mut message = "the agent enforces".to_owned();
        if self.before.is_empty() && self.downtime.is_none() {
            return Report { message, capability: None };
        }
        let lasted = match self.downtime {
            Some(downtime) => format!("{:.1} s", downtime.lasted.as_secs_f64()),
            None => "an unknown time".to_owned(),
        };
        if self.enforced {
            let _ = write!(
                message,
                "; for {lasted} no agent ran, and what an earlier one had pinned enforced; {} of \
                 its records were read from its rings, {} were lost",
                self.read,
                lost.iter().map(|lost| lost.count).sum::<u64>()
            );
            for Lost { count, reason, queue } in lost {
                let _ = write!(message, ", {count} {} ({})", reason.as_str(), queue.as_str());
            }
            if !self.known {
                message.push_str("; how many it had recorded is not known");
            }
        } else {
            let why = match self.downtime {
                Some(Downtime { rebooted: true, .. }) => "the machine was started anew",
                _ => "nothing was pinned",
            };
            let _ = write!(message, "; for {lasted} nothing was enforced: {why}");
        }
        let capability = coverage::downtime(&lasted, self.enforced);
        Report { message, capability: Some(capability) }
    }
}

fn subtract(from: &mut ByRing, less: ByRing) {
    for (from, less) in from.iter_mut().zip(less) {
        *from = from.saturating_sub(less);
    }
}
