//! The texts of an event, cut to what crosses, and what masking took out of them.

use pcigate_gateway::{Masked, MaskedCounts};

use super::{Found, MANY, TEXTS_MAX, WORD_MAX};

/// Takes texts out of an event, and counts what masking took out of them.
#[derive(Default)]
pub(super) struct Texts {
    counts: MaskedCounts,
}

impl Texts {
    pub(super) fn take(&mut self, text: Masked, most: usize) -> String {
        for finding in text.findings() {
            *self.counts.entry(finding.kind).or_default() += 1;
        }
        let mut text = text.into_string();
        text.truncate(text.floor_char_boundary(most));
        text
    }

    pub(super) fn word(&mut self, text: Masked) -> String {
        self.take(text, WORD_MAX)
    }

    /// As many as fit, and one more cut: the record then has none of what is left out.
    pub(super) fn parameters(&mut self, all: Vec<Option<Masked>>) -> Vec<Option<String>> {
        let mut room = TEXTS_MAX;
        let mut kept = Vec::new();
        for parameter in all.into_iter().take(MANY) {
            let text = parameter.map(|text| self.take(text, room));
            let length = text.as_ref().map_or(0, String::len);
            kept.push(text);
            room = room.saturating_sub(length);
            if room == 0 {
                break;
            }
        }
        kept
    }

    pub(super) fn tables(&mut self, all: Vec<Masked>) -> Vec<String> {
        let mut room = TEXTS_MAX;
        let mut kept = Vec::new();
        for table in all.into_iter().take(MANY) {
            let table = self.take(table, WORD_MAX.min(room));
            room -= table.len();
            kept.push(table);
            if room == 0 {
                break;
            }
        }
        kept
    }

    pub(super) fn add(&mut self, counts: &MaskedCounts) {
        for (kind, count) in counts {
            *self.counts.entry(*kind).or_default() += count;
        }
    }

    pub(super) fn found(self) -> Found {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let all = self.counts.into_iter().map(|(kind, count)| (kind, small(count)));
        all.take(MANY).collect()
    }
}
