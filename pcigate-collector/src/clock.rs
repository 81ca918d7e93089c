//! A clock that was set back: the collector's own records would seem to be in the wrong order.
//!
//! Nothing is refused and nothing is moved: the ledger's order is the order of things. What is due
//! is a sentence in the log, a count, and a Coverage record that tells the difference.

use std::time::Duration;

use pcigate_ledger::{Directory, TILE_WIDTH, read_bundle};
use pcigate_proto::{Message, Record};

/// A clock may be adjusted by so much without a word.
const TOLERANCE_NS: u64 = 1_000_000_000;
/// Bundles read backwards in search of the newest own record: more than a group holds.
const BUNDLES_MAX: u64 = 512;

/// The time of the newest own record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    newest: u64,
}

impl Clock {
    /// A clock that knows the newest own record of a ledger of `size` leaves. What cannot be read
    /// is told by others; then it knows nothing.
    #[must_use]
    pub fn of_ledger(source: &Directory, size: u64, origin: &str) -> Self {
        let bundles = size.div_ceil(TILE_WIDTH);
        let newest = (bundles.saturating_sub(BUNDLES_MAX)..bundles)
            .rev()
            .find_map(|index| newest_own(source, size, index, origin));
        Self { newest: newest.unwrap_or_default() }
    }

    /// Takes in the time of an own record.
    pub fn saw(&mut self, unix_nano: u64) {
        self.newest = unix_nano;
    }

    /// How far the clock is behind the newest own record, where that is worth a word. The next
    /// look compares with `now_unix_nano`, so that one setting back is told once.
    pub fn look(&mut self, now_unix_nano: u64) -> Option<Duration> {
        let behind = self.newest.saturating_sub(now_unix_nano);
        self.newest = now_unix_nano;
        (behind > TOLERANCE_NS).then(|| Duration::from_nanos(behind))
    }
}

/// What the Coverage record and the log say.
#[must_use]
pub fn sentence(behind: Duration) -> String {
    format!(
        "the collector's clock was set back: it is {:.3} s behind the newest record the collector \
         made itself; times of own records before and after this one do not compare, the order of \
         the ledger does",
        behind.as_secs_f64()
    )
}

fn newest_own(source: &Directory, size: u64, index: u64, origin: &str) -> Option<u64> {
    let bundle = read_bundle(source, size, index).ok()?;
    let own = |bytes: &[u8]| {
        let record = Record::decode(bytes).ok()?;
        let from = record.origin?;
        (from.epoch.is_empty() && from.node == origin).then_some(record.time_unix_nano)
    };
    bundle.entries().filter_map(|entry| own(entry.ok()?.1)).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_clock_set_back_by_more_than_a_second_is_told_once() {
        let mut clock = Clock::default();
        assert_eq!(clock.look(100 * SECOND), None);
        assert_eq!(clock.look(99 * SECOND), None, "a second is tolerated");
        clock.saw(100 * SECOND);
        assert_eq!(clock.look(40 * SECOND), Some(Duration::from_secs(60)));
        assert_eq!(clock.look(41 * SECOND), None);
        assert_eq!(clock.look(42 * SECOND), None);
    }
}
