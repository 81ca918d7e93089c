//! How long to wait after a request that failed.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// After many.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles with every failure, with up to a quarter more so that the agents of 5,000 nodes do not
/// come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many there were since something worked.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The time to wait now.
    pub(super) fn next(&mut self, random: u8) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(LONGEST);
        wait + wait.mul_f64(f64::from(random) / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        backoff.reset();
        let first = backoff.next(255);
        assert!(first > FIRST && first < FIRST.mul_f64(1.26), "{first:?}");
    }
}
