//! Goes through a text from left to right, takes out what is found, and looks again where that may
//! have made something new; so the result, looked at again, has nothing left.

use std::borrow::Cow;

use super::find::{AHEAD, BEHIND, DEPTH, Looked, Quiet, View};
use super::prefilter::{BATCH_BYTES, Batch, collect};
use super::render::{Edit, Hit};
use super::unfinished::{self, Open};
use super::{Cut, Finding, Kind, Rules};

/// Bytes before a candidate that decide about it: words, the beginning of its token, its piece.
const CONTEXT: usize = 512;
/// Bytes of the least that can be found, `cvv=123`.
const LEAST: usize = 7;
/// Bytes before a changed card number in plain digits that are looked at again.
const AGAIN: usize = 64;

/// Bytes that the first batch behind a change looks at: the next change may be near, and makes the
/// rest of a batch worthless.
const STEP: usize = 2 * AGAIN;

/// How far a text has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Everything before it is done.
    pub at: usize,
    /// The farthest place where something was taken out.
    far: usize,
    /// Up to where other spellings have been looked for.
    quiet: Quiet,
    /// Where to go on in a long run of digits that may be hexadecimal.
    hex: Option<usize>,
    /// Bytes the next batch looks at, where something was taken out just before.
    step: Option<usize>,
}

/// Something taken out of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub finding: Finding,
    /// Whether a word takes its place.
    pub word: bool,
}

impl Taken {
    pub(super) fn new((start, end, kind): (usize, usize, Kind), word: bool) -> Self {
        let (masked_len, brand, fingerprint) = (0, None, None);
        Self { finding: Finding { start, end, kind, masked_len, brand, fingerprint }, word }
    }

    /// The finding, with what stands for it.
    pub(super) fn finding(&self) -> Finding {
        let Finding { start, end, kind, .. } = self.finding;
        let masked_len = if self.word { kind.word().len() } else { end - start };
        Finding { masked_len, ..self.finding }
    }

    /// The same in a text that begins `by` bytes earlier; wraps around for later.
    pub(super) fn moved(mut self, by: usize) -> Self {
        self.finding.start = self.finding.start.wrapping_add(by);
        self.finding.end = self.finding.end.wrapping_add(by);
        self
    }
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
        if text.len() < LEAST {
            return;
        }
        while let Some(hit) = self.next(text, until, cut, rules) {
            let wide = matches!(hit.edit, Edit::Bytes(_));
            let word = matches!(hit.edit, Edit::Word);
            let (kind, number, more) = (hit.kind, hit.number, hit.followers(text));
            let text = text.to_mut();
            let (start, end) = hit.apply(text, rules);
            let mut one = Taken::new((start, end, kind), word);
            one.finding.fingerprint =
                number.and_then(|number| rules.fingerprint(number.as_slice()));
            one.finding.brand = number.and_then(|number| number.brand());
            taken.push(one);
            for value in more.into_iter().flatten() {
                let hit = Hit::word(value);
                hit.apply(text, rules);
                taken.push(Taken::new(value, true));
            }
            let back = start.saturating_sub(if wide { BEHIND } else { AGAIN });
            self.go_back(back);
        }
    }

    /// Masks the rest of the text, which ends here. Returns what may go on behind it.
    pub(super) fn finish(
        &mut self,
        text: &mut Cow<'_, [u8]>,
        cut: Cut,
        rules: &Rules,
        taken: &mut Vec<Taken>,
    ) -> Open {
        let end = text.len();
        self.run(text, end, cut, rules, taken);
        let mut open = Open::default();
        while cut == Cut::End
            && let Some((start, end, more)) = unfinished::mask(text)
        {
            taken.push(Taken::new((start, end, Kind::Pan), false));
            open = open.or(more);
            (self.far, self.at) = (text.len(), text.len());
            self.go_back(start.saturating_sub(BEHIND));
            let end = text.len();
            self.run(text, end, cut, rules, taken);
        }
        open
    }

    /// Looks again from `back` on, but not from before what may be given out by now.
    fn go_back(&mut self, back: usize) {
        // A piece may show something far behind the place where it begins.
        self.at = back.min(self.at).max(self.far.saturating_sub(BEHIND));
        (self.quiet, self.hex, self.step) = (Quiet::from(self.at), None, Some(STEP));
    }

    fn next(&mut self, text: &[u8], until: usize, cut: Cut, rules: &Rules) -> Option<Hit> {
        let view = View { text, cut, rules, depth: DEPTH };
        let mut batch = Batch::new();
        while self.at < until {
            if let Some(place) = self.hex.take_if(|place| *place < until) {
                let looked = view.hex(place);
                if let Some(hit) = self.after(&view, looked, place, until) {
                    return Some(hit);
                }
            }
            if self.hex.is_some() {
                return None;
            }
            let step = self.step.unwrap_or(BATCH_BYTES);
            self.step = Some(step * 2).filter(|step| *step < BATCH_BYTES);
            let done = collect(text, self.at, until.min(self.at + step), &mut batch);
            for (place, why) in batch.iter() {
                let looked = view.look(place, why, self.quiet);
                if let Some(hit) = self.after(&view, looked, place, until) {
                    return Some(hit);
                }
                if self.hex.is_some() {
                    return None;
                }
            }
            self.at = done;
        }
        None
    }

    /// Keeps what was learnt, and follows a long run of digits to its end.
    fn after(
        &mut self,
        view: &View<'_>,
        mut looked: Looked,
        mut place: usize,
        until: usize,
    ) -> Option<Hit> {
        loop {
            self.quiet.add(looked.quiet);
            if looked.hit.is_some() {
                (self.far, self.at) = (self.far.max(place), place);
                return looked.hit;
            }
            place = looked.again?;
            if place >= until {
                // The rest of the run is not there yet; it is digits up to here.
                (self.at, self.hex) = (place, Some(place));
                return None;
            }
            looked = view.hex(place);
        }
    }

    /// Before it, nothing will change any more, and nothing is needed any more.
    pub(super) fn settled(&self) -> usize {
        self.at.min(self.hex.unwrap_or(usize::MAX)).saturating_sub(BEHIND + CONTEXT)
    }

    /// The same place in a text whose first `by` bytes are gone.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self {
            at: self.at.saturating_sub(by),
            far: self.far.saturating_sub(by),
            quiet: self.quiet.shifted(by),
            hex: self.hex.map(|at| at.saturating_sub(by)),
            step: self.step,
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
