//! How long statements wait for us: for their verdict, and for their record.

use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// What a gateway's process may tell of a statement at most: more is no decision, and not believed.
const DECIDING_MAX: Duration = Duration::from_secs(3600);

/// Both, counted; cheap to clone.
#[derive(Clone, Debug)]
pub struct Timings {
    /// From taking up a statement's message to its verdict, seconds.
    pub decision: Histogram,
    /// From the records of a session to their place on disk, seconds.
    pub durable: Histogram,
}

impl Timings {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        // 10 µs to 160 ms, and 100 µs to 1.6 s.
        let decision = Histogram::new(exponential_buckets(0.000_01, 2.0, 15));
        let durable = Histogram::new(exponential_buckets(0.000_1, 2.0, 15));
        Self { decision, durable }
    }

    /// A statement was decided in that time.
    pub fn decided(&self, took: Duration) {
        self.decision.observe(took.min(DECIDING_MAX).as_secs_f64());
    }

    /// Records were on disk after that time, or could not be kept.
    pub fn waited(&self, took: Duration) {
        self.durable.observe(took.as_secs_f64());
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}
