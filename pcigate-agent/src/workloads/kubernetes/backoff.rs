//! How long to wait after a request that failed.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// After many, and at most, whatever a server asks for.
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

    /// The time to wait now; not shorter than a server's Retry-After.
    pub(super) fn next(&mut self, retry_after: Option<Duration>, random: u8) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.max(retry_after.unwrap_or_default()).min(LONGEST);
        wait + wait.mul_f64(f64::from(random) / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_half_a_minute_and_heeds_the_server() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(None, 0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        backoff.reset();
        assert_eq!(backoff.next(Some(Duration::from_secs(7)), 0), Duration::from_secs(7));
        let hour = backoff.next(Some(Duration::from_secs(3600)), 255);
        assert!(hour > LONGEST && hour < LONGEST.mul_f64(1.26), "{hour:?}");
    }
}
