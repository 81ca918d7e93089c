//! How often one asker may ask: so many times within a window, for a bounded number of askers.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Counts by asker.
#[derive(Debug)]
pub(super) struct Limits<K> {
    window: Duration,
    per_window: u32,
    askers_max: usize,
    seen: HashMap<K, (Instant, u32)>,
}

impl<K: Eq + Hash> Limits<K> {
    /// `per_window` times within `window`, for `askers_max` askers.
    pub(super) fn new((window, per_window, askers_max): (Duration, u32, usize)) -> Self {
        Self { window, per_window, askers_max, seen: HashMap::new() }
    }

    /// Whether this asker may ask once more at `now`. Where there are too many askers, a new one
    /// may not.
    pub(super) fn admit(&mut self, asker: K, now: Instant) -> bool {
        let window = self.window;
        let is_over = |begun: Instant| now.saturating_duration_since(begun) >= window;
        if self.seen.len() >= self.askers_max && !self.seen.contains_key(&asker) {
            self.seen.retain(|_, (begun, _)| !is_over(*begun));
            if self.seen.len() >= self.askers_max {
                return false;
            }
        }
        let (begun, count) = self.seen.entry(asker).or_insert((now, 0));
        if is_over(*begun) {
            (*begun, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= self.per_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asker_is_turned_away_beyond_its_share_until_the_window_is_over() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut limits = Limits::new((second * 60, 2, 10));
        let asked: Vec<_> = (0..3).map(|_| limits.admit("a", start)).collect();
        assert_eq!(asked, [true, true, false]);
        assert!(limits.admit("b", start), "another has its own share");
        assert!(!limits.admit("a", start + second * 59));
        assert!(limits.admit("a", start + second * 60));
    }

    #[test]
    fn more_askers_than_are_kept_are_turned_away_and_old_ones_make_room() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut limits = Limits::new((minute, 5, 2));
        assert!(limits.admit(1, start) && limits.admit(2, start));
        assert!(!limits.admit(3, start));
        assert!(limits.admit(1, start), "one that is known goes on");
        assert!(limits.admit(3, start + minute));
        assert!(limits.seen.len() <= 2);
    }
}
