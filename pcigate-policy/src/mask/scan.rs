//! Goes through a text from left to right, takes out what is found, and looks again where that may
//! have made something new; so the result, looked at again, has nothing left.

use std::borrow::Cow;

use super::find::{AHEAD, BEHIND, DEPTH, Looked, View};
use super::prefilter::{Batch, collect};
use super::render::{Edit, Hit};
use super::{Cut, Finding, Kind, Rules, unfinished};

/// Bytes before a changed card number in plain digits that are looked at again.
const AGAIN: usize = 64;

/// How far a text has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Everything before it is done.
    pub at: usize,
    /// Up to where no other spelling needs to be looked for.
    quiet: usize,
    /// Where to go on in a long run of digits that may be hexadecimal.
    hex: Option<usize>,
}

/// Something taken out of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub finding: Finding,
    /// Whether a word takes its place.
    pub word: bool,
}

impl Scan {
    /// Masks all candidates before `until`. Where text follows that is not there yet, `until` is
    /// at least [`AHEAD`] bytes before its end.
    pub(super) fn run(
        &mut self,
        text: &mut Cow<'_, [u8]>,
        until: usize,
        cut: Cut,
        rules: &Rules,
        taken: &mut Vec<Taken>,
    ) {
        while let Some(hit) = self.next(text, until, cut, rules) {
            let wide = !matches!(hit.edit, Edit::Digits);
            let word = matches!(hit.edit, Edit::Word);
            let (kind, number, more) = (hit.kind, hit.number, hit.more);
            let text = text.to_mut();
            let (start, end) = hit.apply(text, rules);
            let fingerprint = number.and_then(|number| rules.fingerprint(number.as_slice()));
            taken.push(Taken { finding: Finding { start, end, kind, fingerprint }, word });
            for (start, end, kind) in more.into_iter().flatten() {
                let hit = Hit { start, end, kind, edit: Edit::Word, number: None, more: [None; 3] };
                hit.apply(text, rules);
                let finding = Finding { start, end, kind, fingerprint: None };
                taken.push(Taken { finding, word: true });
            }
            self.at = start.saturating_sub(if wide { BEHIND } else { AGAIN });
            self.quiet = self.at;
            self.hex = None;
        }
    }

    /// Masks the whole text.
    pub(super) fn whole(
        mut self,
        text: &mut Cow<'_, [u8]>,
        cut: Cut,
        rules: &Rules,
        taken: &mut Vec<Taken>,
    ) {
        let end = text.len();
        self.run(text, end, cut, rules, taken);
        if cut == Cut::Whole {
            return;
        }
        while let Some((start, end)) = unfinished::mask(text) {
            let finding = Finding { start, end, kind: Kind::Pan, fingerprint: None };
            taken.push(Taken { finding, word: false });
            self.at = start.saturating_sub(BEHIND);
            (self.quiet, self.hex) = (self.at, None);
            let end = text.len();
            self.run(text, end, cut, rules, taken);
        }
    }

    fn next(&mut self, text: &[u8], until: usize, cut: Cut, rules: &Rules) -> Option<Hit> {
        let view = View { text, cut, rules, depth: DEPTH };
        let mut batch = Batch::new();
        while self.at < until {
            if let Some(place) = self.hex.take() {
                let looked = view.hex(place);
                if let Some(hit) = self.after(&view, looked, until) {
                    return Some(hit);
                }
                if self.hex.is_some() {
                    return None;
                }
            }
            let done = collect(text, self.at, until, &mut batch);
            for (place, why) in batch.iter() {
                let looked = view.look(place, why, self.quiet);
                if let Some(hit) = self.after(&view, looked, until) {
                    return Some(hit);
                }
                if let Some(hex) = self.hex {
                    // The rest of the run is not there yet.
                    self.at = place + 1;
                    self.quiet = self.quiet.max(hex);
                    return None;
                }
            }
            self.at = done;
        }
        None
    }

    /// Keeps what was learnt, and follows a long run of digits to its end.
    fn after(&mut self, view: &View<'_>, mut looked: Looked, until: usize) -> Option<Hit> {
        loop {
            self.quiet = self.quiet.max(looked.quiet);
            if looked.hit.is_some() {
                return looked.hit;
            }
            let again = looked.again?;
            if again >= until {
                self.hex = Some(again);
                return None;
            }
            looked = view.hex(again);
        }
    }

    /// Before it, nothing will change any more.
    pub(super) fn settled(&self) -> usize {
        self.at.min(self.hex.unwrap_or(usize::MAX)).saturating_sub(BEHIND)
    }

    /// The same place in a text whose first `by` bytes are gone.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self {
            at: self.at.saturating_sub(by),
            quiet: self.quiet.saturating_sub(by),
            hex: self.hex.map(|at| at.saturating_sub(by)),
        }
    }

    /// Up to where a text of this length may be looked through while more follows.
    pub(super) const fn reach(length: usize) -> usize {
        length.saturating_sub(AHEAD)
    }
}

/// Orders what was taken out and resolves overlaps: words stay whole, card numbers that overlap
/// each other become one, and a card number keeps only what lies outside a word.
pub(super) fn disjoint(taken: &mut Vec<Taken>) {
    taken.sort_by_key(|one| (one.finding.start, !one.word, one.finding.end));
    let mut kept: Vec<Taken> = Vec::with_capacity(taken.len());
    for mut one in taken.drain(..) {
        if let Some(last) = kept.last_mut()
            && one.finding.start < last.finding.end
        {
            match (last.word, one.word) {
                (false, false) => {
                    last.finding.end = last.finding.end.max(one.finding.end);
                    continue;
                }
                (false, true) => last.finding.end = one.finding.start,
                (true, _) if one.finding.end <= last.finding.end => continue,
                (true, _) => one.finding.start = last.finding.end,
            }
        }
        kept.push(one);
    }
    kept.retain(|one| one.finding.start < one.finding.end);
    *taken = kept;
}
