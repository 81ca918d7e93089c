//! Which parts of an array map are in use: first-fit allocation of runs of slots.

use std::{collections::BTreeMap, ops::Range};

/// Free and used runs of `0..size`.
pub struct Regions {
    size: u32,
    /// Start → end of the used runs, not overlapping.
    used: BTreeMap<u32, u32>,
}

impl Regions {
    /// All of `0..size` is free.
    pub fn new(size: u32) -> Self {
        Self { size, used: BTreeMap::new() }
    }

    /// Takes the first free run of `len` slots; `None` where there is none. An empty run takes
    /// nothing.
    pub fn take(&mut self, len: u32) -> Option<Range<u32>> {
        if len == 0 {
            return Some(0..0);
        }
        let mut start = 0u32;
        for (&used_start, &used_end) in &self.used {
            if used_start - start >= len {
                break;
            }
            start = used_end;
        }
        let end = start.checked_add(len).filter(|&end| end <= self.size)?;
        self.used.insert(start, end);
        Some(start..end)
    }

    /// Gives a run back.
    pub fn give_back(&mut self, run: &Range<u32>) {
        if !run.is_empty() {
            self.used.remove(&run.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_array_has_no_room_until_something_is_given_back() {
        let mut regions = Regions::new(10);
        let first = regions.take(6).unwrap();
        assert_eq!(regions.take(6), None);
        assert_eq!(regions.take(4), Some(6..10));
        regions.give_back(&first);
        assert_eq!(regions.take(2), Some(0..2));
        assert_eq!(regions.take(4), Some(2..6));
        assert_eq!(regions.take(1), None);
    }

    proptest! {
        #[test]
        fn runs_in_use_never_overlap(
            actions in proptest::collection::vec((any::<bool>(), 0u32..20), 0..60),
        ) {
            let mut regions = Regions::new(64);
            let mut live: Vec<Range<u32>> = Vec::new();
            for (take, n) in actions {
                if take {
                    if let Some(run) = regions.take(n) {
                        prop_assert!(run.end <= 64);
                        let apart = |other: &Range<u32>| {
                            run.is_empty() || run.end <= other.start || other.end <= run.start
                        };
                        prop_assert!(live.iter().all(apart));
                        if !run.is_empty() {
                            live.push(run);
                        }
                    }
                } else if !live.is_empty() {
                    let run = live.swap_remove(n as usize % live.len());
                    regions.give_back(&run);
                }
            }
        }
    }
}
