//! Process events that two generations recorded: tracepoints of both run for a moment, and one
//! fork, exec or exit has one record.
//!
//! What the old programs wrote since the new ones began to be attached is remembered; the same from
//! the new ring is left out. Decisions about destinations need none of this: a cgroup link runs one
//! program or the other.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use pcigate_common::event::{Event, Header};

use crate::{recorder::books::ByRing, sensor::Batch};

/// A tracepoint runs its programs one right after the other; this outlasts an interruption.
const APART_NS_MAX: u64 = 100_000_000;

/// What tells one process event from all others: kind, process, verdict, content. The verdict,
/// because where the generations differ both records are true.
type Key = (u32, u32, u64, u32, u64);

/// Process events the earlier generations recorded while both ran.
#[derive(Debug)]
pub struct Twice {
    from_ns: u64,
    until_ns: u64,
    seen: HashMap<Key, u32>,
}

impl Twice {
    /// From the boot clock's time on at which the new programs began to be attached.
    #[must_use]
    pub fn from(from_ns: u64) -> Self {
        Self { from_ns, until_ns: u64::MAX, seen: HashMap::new() }
    }

    /// The old programs have ended by this time of the boot clock.
    pub fn ends(&mut self, until_ns: u64) {
        self.until_ns = until_ns.saturating_add(APART_NS_MAX);
    }

    /// An earlier generation recorded this.
    pub fn saw(&mut self, event: &Event<'_>) {
        if event.header().time_ns >= self.from_ns
            && let Some(key) = key(event)
        {
            *self.seen.entry(key).or_default() += 1;
        }
    }

    /// Takes out of a batch of the new generation what an earlier one recorded; how many of each
    /// ring.
    pub fn strip(&mut self, batch: &mut Batch) -> ByRing {
        let mut stripped = ByRing::default();
        batch.retain(|event| {
            let is_second = event.header().time_ns <= self.until_ns && self.take(event);
            if is_second {
                let [events, verdicts] = &mut stripped;
                let sum = if event.header().decision.allows() { events } else { verdicts };
                *sum += 1;
            }
            !is_second
        });
        stripped
    }

    /// Whether nothing can be twice.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.seen.is_empty()
    }

    fn take(&mut self, event: &Event<'_>) -> bool {
        let Some(left) = key(event).and_then(|key| self.seen.get_mut(&key)) else { return false };
        let is_there = *left > 0;
        *left = left.saturating_sub(1);
        is_there
    }
}

/// `None`: no tracepoint recorded it.
fn key(event: &Event<'_>) -> Option<Key> {
    let of = |header: &Header, content: u64| {
        let task = &header.task;
        (header.kind as u32, task.pid, task.start_ns, header.decision.verdict, content)
    };
    match event {
        Event::Fork(fork) => {
            Some(of(&fork.header, fork.child_start_ns ^ u64::from(fork.child_pid)))
        }
        Event::Exit(exit) => Some(of(&exit.header, 0)),
        Event::Exec(exec) => {
            let mut hash = DefaultHasher::new();
            (exec.path, exec.invoked, exec.argv).hash(&mut hash);
            Some(of(&exec.exec.header, hash.finish()))
        }
        Event::Egress(_) | Event::Attempt(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use pcigate_common::{
        event::{Exit, Kind, Task},
        maps::Decision,
    };
    use zerocopy::IntoBytes;

    use super::*;

    fn exit(pid: u32, time_ns: u64) -> Exit {
        let task = Task { pid, tid: pid, start_ns: 1, parent_pid: 1, uid: 0, parent_start_ns: 1 };
        let decision = Decision::enforced(1, 0);
        let (kind, flags, cgroup) = (Kind::Exit, 0, 1);
        let (seq, cpu, policy, workload) = (time_ns, 0, 0, 1);
        let header =
            Header { kind, flags, time_ns, seq, cpu, policy, cgroup, workload, task, decision };
        Exit { header, status: 0, reserved: 0 }
    }

    fn times(batch: &Batch) -> Vec<u64> {
        batch.events().map(|event| event.header().time_ns).collect()
    }

    #[test]
    fn what_both_generations_recorded_is_left_out_once_and_only_within_the_time_of_both() {
        let mut twice = Twice::from(100);
        for old in [exit(1, 90), exit(2, 110), exit(3, 120)] {
            twice.saw(&Event::Exit(&old));
        }
        twice.ends(200);
        let late = 201 + APART_NS_MAX;
        let new = [exit(1, 91), exit(2, 111), exit(2, 112), exit(3, late)];
        let mut batch = Batch::default();
        batch.refill(new.iter().map(IntoBytes::as_bytes));
        assert_eq!(twice.strip(&mut batch), [1, 0]);
        assert_eq!(times(&batch), [91, 112, late]);
        assert!(!twice.is_over() && Twice::from(1).is_over());
    }
}
