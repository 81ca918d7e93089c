//! Saying the same thing at most once a minute, with how often it happened since.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// Decides whether something is said.
#[derive(Debug, Default)]
pub struct Occasionally {
    said: Option<Instant>,
    untold: u64,
}

impl Occasionally {
    /// It happened again: how often since it was last said, if it is to be said now.
    pub fn tell(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.said.is_some_and(|said| said.elapsed() < EVERY) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_told_and_the_next_ones_are_counted() {
        let mut seldom = Occasionally::default();
        assert_eq!(seldom.tell(), Some(1));
        assert_eq!((seldom.tell(), seldom.tell()), (None, None));
        seldom.said = Instant::now().checked_sub(EVERY);
        assert_eq!(seldom.tell(), Some(3));
    }
}
