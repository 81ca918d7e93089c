//! The sessions there are, so that one ends when what let it in does not hold any more.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::{
    governor::{Gate, RuleTable},
    recorder::lock,
};

/// All sessions under way; bounded by the connections the gateway takes.
pub struct Live {
    sessions: Mutex<HashMap<u64, One>>,
    next: AtomicU64,
    count: watch::Sender<usize>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("count", &self.count()).finish_non_exhaustive()
    }
}

struct One {
    cgroup: u64,
    gate: Arc<Gate>,
    end: Option<oneshot::Sender<String>>,
}

/// A session's place; given back when this is dropped.
pub struct Entered {
    live: Arc<Live>,
    number: u64,
}

impl Live {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let count = watch::Sender::new(0);
        Arc::new(Self { sessions: Mutex::default(), next: AtomicU64::new(0), count })
    }

    /// A session begins: its place, and what tells it why it has to end.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        cgroup: u64,
        gate: Arc<Gate>,
    ) -> (Entered, oneshot::Receiver<String>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (end, ended) = oneshot::channel();
        lock(&self.sessions).insert(number, One { cgroup, gate, end: Some(end) });
        self.count.send_modify(|count| *count += 1);
        (Entered { live: Arc::clone(self), number }, ended)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Ends each session whose workload is gone, or has another gate to that Target now, or none.
    /// `now` knows the rules of a workload's cgroup.
    pub fn recheck(&self, now: impl Fn(u64) -> Option<Arc<RuleTable>>) {
        for one in lock(&self.sessions).values_mut() {
            let why = match now(one.cgroup) {
                None => "its workload is gone, or not governed any more",
                Some(table) if table.gates.values().any(|gate| same(gate, &one.gate)) => continue,
                Some(_) => "the policy that let it in has changed; connect again",
            };
            if let Some(end) = one.end.take() {
                // It may be ending already.
                let _ = end.send(why.to_owned());
            }
        }
    }

    /// Ends all of them, and waits until they have, for so long.
    pub async fn end_all(&self, why: &str, within: Duration) {
        for one in lock(&self.sessions).values_mut() {
            one.end.take().map(|end| end.send(why.to_owned()));
        }
        let mut count = self.count.subscribe();
        let late = tokio::time::timeout(within, count.wait_for(|count| *count == 0)).await.is_err();
        if late {
            tracing::warn!("{} gated sessions end without their last record", *count.borrow());
        }
    }
}

/// Whether a session let in by one would be let in by the other on the same terms.
fn same(now: &Arc<Gate>, then: &Arc<Gate>) -> bool {
    Arc::ptr_eq(now, then)
        || (now.rule.policy == then.rule.policy
            && now.rule.id == then.rule.id
            && now.target.canonical == then.target.canonical
            && now.statements == then.statements
            && now.session == then.session)
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.live.sessions).remove(&self.number);
        self.live.count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
pub(super) mod tests;
