//! The hourly pass: one Deletion record per class that has something old.

use std::time::{Duration, Instant, SystemTime};

use pcigate_proto::{Deletion, record::Event};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::Retention;
use crate::{
    indexer::{IndexTrouble, Indexer},
    records,
    writer::{Job, WriteError, Writer},
};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(3_600);
/// The system's clock may differ from the monotonic one by this much before it counts as set.
const CLOCK_DRIFT: Duration = Duration::from_secs(600);

/// Why a pass ended early; the next one does what is left.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error("the index does not answer")]
    Index {
        #[source]
        source: IndexTrouble,
    },
    #[error("the deletion cannot be recorded")]
    Record {
        #[source]
        source: WriteError,
    },
}

/// Passes at once and then every hour, until `stopping` turns true; not at all when everything is
/// kept for ever.
pub fn start(
    retention: Retention,
    writer: Writer,
    indexer: Indexer,
    stopping: watch::Receiver<bool>,
) {
    if !retention.is_empty() {
        tokio::spawn(run(retention, writer, indexer, stopping));
    }
}

async fn run(
    retention: Retention,
    writer: Writer,
    indexer: Indexer,
    mut stopping: watch::Receiver<bool>,
) {
    let clock = Clock::start();
    let mut hours = tokio::time::interval(EVERY);
    hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hours.tick() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if clock.was_set() {
            tracing::warn!(
                "the system's clock was set while this collector runs: nothing is taken for old \
                 until it is restarted with the right time"
            );
            continue;
        }
        let passed = tokio::select! {
            passed = pass(&retention, &writer, &indexer, records::now_unix_nano()) => passed,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        if let Err(error) = passed {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "retention waits for the next hour");
        }
    }
}

/// Records a deletion for each class that has something old at `now` (ns since 1970).
async fn pass(
    retention: &Retention,
    writer: &Writer,
    indexer: &Indexer,
    now: u64,
) -> Result<(), PassError> {
    for (class, before_unix_nano) in retention.old(now) {
        let size = writer.durable().borrow().size;
        let counted = indexer.count_before(class, before_unix_nano, size).await;
        let records = counted.map_err(|source| PassError::Index { source })?;
        if records == 0 {
            continue;
        }
        let deletion = Deletion { class: class.to_owned(), before_unix_nano, records };
        let record = records::own(writer.origin(), Event::Deletion(deletion));
        let done = writer.ask(Job::Own(Box::new(record))).await;
        done.map_err(|source| PassError::Record { source })?;
        tracing::info!(class, records, "old records leave the index; the ledger keeps them");
    }
    Ok(())
}

/// Both clocks as they were at the start: a clock that is set must not make evidence old.
struct Clock {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    fn was_set(&self) -> bool {
        let expected = self.wall + self.monotonic.elapsed();
        let now = SystemTime::now();
        let apart = now.duration_since(expected).or_else(|_| expected.duration_since(now));
        apart.is_ok_and(|apart| apart > CLOCK_DRIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_in_both_directions() {
        assert!(!Clock::start().was_set());
        for wall in [SystemTime::now() - EVERY, SystemTime::now() + EVERY] {
            assert!(Clock { wall, ..Clock::start() }.was_set());
        }
    }
}
