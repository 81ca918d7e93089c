//! A sign of life: whoever works says now and then that it does, and others see how long ago.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The last sign; cheap to clone and to give.
#[derive(Clone, Debug)]
pub struct Beat {
    began: Instant,
    /// Milliseconds after `began`.
    last: Arc<AtomicU64>,
}

impl Beat {
    /// The first sign is now.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default() }
    }

    /// Gives a sign.
    pub fn now(&self) {
        self.last.store(self.at(), Ordering::Relaxed);
    }

    /// How long ago the last sign was, to the millisecond.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        Duration::from_millis(self.at().saturating_sub(last))
    }

    fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self::new()
    }
}
